"""Independent trainings of the whole network (the paper's Table 2).

Small networks are trained on the CPU one thread each, in as many processes as torch has threads
(``OMP_NUM_THREADS``). Other ways were measured and are slower: ``docs/performance.md``. A seed's bits are
the same however many processes there are.

Ranks (:mod:`paramdiff.distributed`) share the seeds; each leaves the networks it trained in the folder that all read.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from paramdiff.collectors.collector import (
    Collector,
    alignment,
    fresh_network,
    learnable_spec,
    register,
    training_data,
    training_length,
)
from paramdiff.collectors.optimisation import TrainingConfig
from paramdiff.collectors.processes import can_fork, spread
from paramdiff.devices import size, suitable_threads
from paramdiff.distributed import barrier, broadcast, local_items
from paramdiff.errors import SelectionError, check_range
from paramdiff.files import load_tensors, save_tensors
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.progress import Forecast, bar
from paramdiff.settings import MEMBERS, SEED, Ranges, check_ranges
from paramdiff.tasks.task import Data, Task
from paramdiff.zoo.records import Record
from paramdiff.zoo.zoo import Zoo

ONE_THREAD = 1_000_000
"""Parameters below which a network is trained by one thread: a core for each network gains more than several
for one, and the memory for as many networks as there are cores is small."""


@register("seeds")
@dataclass
class SeedCollector(Collector):
    """K trainings that share nothing but their settings.

    Attributes:
        k: K, members to collect.
        select: which tensors are generated; what is left out must be the same in every network.
        seed: of the first training; the others follow, one by one.
        align: put hidden units in a common order afterwards: ``true``, ``false``, or ``auto``, if it helps.
        train: each training.
    """

    one_thread: ClassVar[int] = ONE_THREAD
    RANGES: ClassVar[Ranges] = {"k": MEMBERS, "seed": SEED}

    k: int = 50
    select: str = "all"
    seed: int = 0
    align: str = "auto"
    train: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        self.align = alignment(self.align)
        check_ranges(self)
        check_range("train.epochs", self.train.epochs, least=1)

    def members(self, task: Task, folder: Path, device: torch.device | str) -> Zoo:
        data = training_data(task, device)
        model = fresh_network(task, device, self.seed)
        spec = learnable_spec(model, self.select, self.k)
        _require_whole(spec, ParameterSpec.from_model(model, "all"))
        seeds = range(self.seed, self.seed + self.k)
        files = [_file(folder, seed) for seed in seeds]
        processes = suitable_processes(size(model), device)
        training = training_length(self.train, data)
        with suitable_threads(size(model), ONE_THREAD):
            left = local_items(
                broadcast([s for s, file in zip(seeds, files, strict=True) if not file.is_file()])
            )
            forecast = Forecast("collect", self.train.epochs * data.steps * len(left) / processes)

            def train(seed: int) -> None:
                # In one process, which begins with the first: forked ones count for themselves.
                counted = forecast if seed == left[0] or forecast.count else None
                self._train(task, data, seed, folder, device, counted)

            done = spread(train, left, processes)
            for _ in bar(done, "collect", total=len(left), unit="network", foretold=True):
                pass
            barrier()
            vectors = _gathered(files, spec)
            base = {name: tensor.clone() for name, tensor in load_tensors(files[0]).items()}
            records = [Record(seed=seed, step=self.train.epochs * data.steps) for seed in seeds]
            about = {"collector": self.name, "trajectory": False, "task": task.name, "settings": asdict(self)}
            about["training"] = training
        return Zoo(vectors, spec, base, records, about)

    def state_bytes(self, vectors: int, network: int) -> int:
        return self.k * network + 6 * network

    def _train(
        self, task: Task, data: Data, seed: int, folder: Path, device: torch.device | str,
        forecast: Forecast | None = None,
    ) -> None:  # fmt: skip
        """One network, as a complete state dict in a file of its own; the first is watched."""
        model, state = fresh_network(task, device, seed), folder / f"training-{seed}.safetensors"
        self.train.train(
            model, task, data, path=state, name=f"seed {seed}", seed=seed, show=False,
            watched=seed == self.seed, forecast=forecast,
        )  # fmt: skip
        save_tensors(_file(folder, seed), model.state_dict())
        state.unlink(missing_ok=True)


def suitable_processes(parameters: int, device: torch.device | str) -> int:
    """As many as torch has threads, on the CPU; one for networks that are better shared by the threads."""
    apart = parameters < ONE_THREAD and torch.device(device).type == "cpu" and can_fork()
    return torch.get_num_threads() if apart else 1


def _file(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}.safetensors"


def _require_whole(spec: ParameterSpec, everything: ParameterSpec) -> None:
    left_out = [name for name in everything.names if name not in spec.names]
    if left_out:
        raise SelectionError(
            f"{spec.select!r} leaves out {', '.join(left_out[:3])}, which differs from seed to seed",
            expected="every floating tensor of the network",
            remedy="use select=all, or collect with zoo=subset",
        )


def _gathered(files: Sequence[Path], spec: ParameterSpec) -> Tensor:
    """The networks' vectors [K, D], read one at a time: a list of all beside them would take as much again."""
    vectors = torch.empty(len(files), spec.dim, dtype=spec.dtype)
    for row, file in zip(vectors, files, strict=True):
        row.copy_(spec.flatten(load_tensors(file), str(file)))
    return vectors
