"""The paper's way: train a network, then go on training some of its tensors and keep every step.

The collecting phase runs in eval mode, so that neither running statistics nor dropout affect what is frozen. Only the
selected tensors take gradients, so autograd neither keeps nor differentiates what lies below the first of them;
the shared prefix of scoring would do the same 10 to 20% slower (measured: ``docs/performance.md``), and could not be
kept between steps, because each sees other images. Where running statistics are themselves among the selected
tensors, or where the task has a ``forward`` of its own (a detector returns losses in train mode only), the network runs
in train mode instead, except for layers whose own statistics are frozen.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from paramdiff.collectors.collector import (
    Collector,
    fresh_network,
    learnable_spec,
    register,
    training_data,
    training_length,
)
from paramdiff.collectors.optimisation import Optimisation, TrainingConfig, descend
from paramdiff.devices import size, suitable_threads
from paramdiff.distributed import main_process_first
from paramdiff.errors import SelectionError
from paramdiff.networks.modes import train_selected
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.settings import COUNT, MEMBERS, SEED, Ranges
from paramdiff.tasks.task import Data, Task, overrides
from paramdiff.training import Stateful, Training
from paramdiff.zoo.records import Record
from paramdiff.zoo.state_dicts import load_file
from paramdiff.zoo.zoo import Zoo


@register("subset")
@dataclass
class TrajectoryCollector(Optimisation, Collector):
    """K steps of one training of the selected tensors. ``optimizer``, ``lr``, ... are those of this phase.

    Attributes:
        k: K, members to collect.
        select: which tensors are generated (:mod:`paramdiff.parameters.selection`).
        every: optimiser steps between members.
        seed: of initialisation and data order.
        weights: a state dict to start from instead of training the network.
        pretrain: the training before, of the whole network.
    """

    RANGES: ClassVar[Ranges] = {"k": MEMBERS, "every": COUNT, "seed": SEED}

    lr: float = 1e-2
    k: int = 200
    select: str = "last_norms:2"
    every: int = 1
    seed: int = 0
    weights: str | None = None
    pretrain: TrainingConfig = field(default_factory=TrainingConfig)

    def members(self, task: Task, folder: Path, device: torch.device | str) -> Zoo:
        data = training_data(task, device)
        model = fresh_network(task, device, self.seed)
        spec = learnable_spec(model, self.select, self.k)
        members = Members(self.k, spec, model)
        training = training_length(self.pretrain, data) if self.weights is None else None
        with suitable_threads(size(model)):
            with main_process_first():  # one training is one rank's; the others resume it where it has ended
                self._prepare(model, task, data, folder)
                self._go_on(model, members, task, data, folder)
            base = {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}
            records = [Record(seed=self.seed, step=(i + 1) * self.every) for i in range(self.k)]
            about = {"collector": self.name, "trajectory": True, "task": task.name, "settings": asdict(self)}
            about |= {"training": training} if training else {}
        return Zoo(members.vectors, spec, base, records, about)

    def state_bytes(self, vectors: int, network: int) -> int:
        return 2 * (vectors + 3 * network)  # a state is written beside the one before; Adam keeps two moments

    def _prepare(self, model: nn.Module, task: Task, data: Data, folder: Path) -> None:
        """Train the whole network, or load it."""
        if self.weights is None:
            path = folder / "pretrain.safetensors"
            self.pretrain.train(model, task, data, path=path, name="pretrain", seed=self.seed, watched=True)
        else:
            load_file(model, self.weights)

    def _go_on(self, model: nn.Module, members: "Members", task: Task, data: Data, folder: Path) -> None:
        """The collecting phase: only the selected tensors learn, and their steps are kept."""
        model.requires_grad_(False)
        optimiser = self.over(parameter.requires_grad_(True) for parameter in members.parameters)
        parts: dict[str, Stateful] = {"model": model, "optimiser": optimiser, "members": members}
        training = Training("collect", self.k * self.every, parts, folder / "collect.safetensors")

        statistics = any(not isinstance(tensor, nn.Parameter) for tensor in members.tensors.values())
        if statistics or overrides(task, "forward"):
            train_selected(model, members.tensors)
        else:
            model.eval()

        def keep(step: int) -> None:
            if (step + 1) % self.every == 0:
                members.add()

        descend(
            training, task, data, model=model, optimiser=optimiser,
            key=("collect", self.seed), rate=lambda step: self.lr, after=keep,
        )  # fmt: skip


class Members:
    """The vectors collected so far from a network, as part of a training's state.

    Attributes:
        vectors: [K, D]; rows from ``count`` on are not filled yet.
        tensors: the network's own selected tensors by key; every step shows in them.
        parameters: those of them that gradients reach, each once.

    Raises:
        SelectionError: there are no such parameters.
    """

    def __init__(self, k: int, spec: ParameterSpec, model: nn.Module) -> None:
        state = model.state_dict(keep_vars=True)
        self.vectors, self.count, self.spec = torch.empty(k, spec.dim, dtype=spec.dtype), 0, spec
        self.tensors = {key: state[key] for key in spec.keys}
        self.parameters = list(dict.fromkeys(t for t in self.tensors.values() if isinstance(t, nn.Parameter)))
        if not self.parameters:
            raise SelectionError(
                f"none of the selected tensors ({', '.join(spec.names[:5])}) is a parameter",
                expected="at least one that gradients reach",
                remedy="select weights or biases too",
            )

    def add(self) -> None:
        """Keep the network's present values as the next member."""
        self.vectors[self.count] = self.spec.flatten(self.tensors)
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"vectors": self.vectors[: self.count]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = len(state["vectors"])
        self.vectors[: self.count] = state["vectors"]
