"""What a run will need, from the sizes of its network and settings: disk before it begins, then time.

Only what is certain counts: the members, the state of collecting them, the samples of each generator, the best one.
What a generator keeps of its own, and the scores, come on top. A run that cannot fit is refused before it begins.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from paramdiff.collectors.collector import Collector, fresh_network
from paramdiff.errors import ConfigError
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.progress import free_disk, lasting, room
from paramdiff.scoring.scorer import Scorer
from paramdiff.tasks.task import Task
from paramdiff.zoo.zoo import Zoo


@dataclass(frozen=True)
class ResourceEstimate:
    """Sizes of a run, in bytes where nothing else is said.

    Attributes:
        k, dim: of the zoo.
        networks: to be scored: members, and samples of all generators.
        zoo: V and the complete state of one network.
        state: what collecting keeps at the same time, to go on after a kill.
        samples: of all generators, and the best one as a complete state dict.
    """

    k: int
    dim: int
    networks: int
    zoo: int
    state: int
    samples: int

    @classmethod
    def of(cls, collector: Collector, task: Task, n: int, rows: int) -> "ResourceEstimate | None":
        """Before anything is collected; None where that is not known, as of checkpoints that are not read yet.

        Args:
            n: N, samples a generator.
            rows: number of generators.
        """
        k, select = getattr(collector, "k", None), getattr(collector, "select", None)
        if k is None or select is None or collector.state_bytes(0, 0) is None:
            return None
        model = fresh_network(task, "cpu", "sizes")
        spec = ParameterSpec.from_model(model, select)
        network = sum(tensor.nbytes for tensor in model.state_dict().values())
        return cls._from(k, spec, network, collector.state_bytes(k * _row(spec), network) or 0, n, rows)

    @classmethod
    def of_zoo(cls, zoo: Zoo, n: int, rows: int) -> "ResourceEstimate":
        """Of members that are there."""
        return cls._from(zoo.k, zoo.spec, sum(tensor.nbytes for tensor in zoo.base.values()), 0, n, rows)

    @classmethod
    def _from(
        cls, k: int, spec: ParameterSpec, network: int, state: int, n: int, rows: int
    ) -> "ResourceEstimate":
        row = _row(spec)
        return cls(k, spec.dim, k + n * rows, k * row + network, state, n * rows * row + network)

    @property
    def disk(self) -> int:
        """Most disk at any moment."""
        return self.zoo + max(self.state, self.samples)

    @property
    def kept(self) -> int:
        """Disk that the finished run takes."""
        return self.zoo + self.samples

    def require_room(self, folder: Path) -> None:
        """Refuse what cannot fit on the disk of a run folder, whose own files may be replaced.

        Raises:
            ConfigError: says how much it needs, and of what.
        """
        own = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        free = free_disk(folder) + own
        if self.disk > free:
            raise ConfigError(
                "run_dir",
                f"{folder} needs {room(self.disk)} of disk ({self.k:,} members of {self.dim:,} parameters: "
                f"{room(self.zoo)}, state {room(self.state)}, samples {room(self.samples)}), {room(free)} are free",
                remedy="free some, choose a run_dir on another disk, or lower zoo.k or n",
            )

    def outlook(self, scorer: Scorer) -> str:
        """How long what follows the members will take, in one line: measured now, on this machine."""
        items = scorer.items("train")
        scoring = lasting(self.networks * items * scorer.seconds_an_item())
        return (
            f"the whole run: {self.networks:,} networks to score, about {scoring} on {items:,} training items and as "
            f"much per item on the test data; {room(self.kept)} on disk, {room(self.disk)} at most; members take "
            f"{room(self.zoo)} of memory; how long fitting takes is said when it has begun"
        )


def _row(spec: ParameterSpec) -> int:
    return spec.dim * torch.empty(0, dtype=spec.dtype).element_size()


def blank_zoo(task: Task, select: str) -> Zoo:
    """One fresh network as a zoo, to measure with."""
    model = fresh_network(task, "cpu", "sizes")
    spec = ParameterSpec.from_model(model, select)
    state = model.state_dict()
    return Zoo(spec.flatten(state)[None], spec, state)
