r"""Averages of members: the paper's ``ensemble`` baseline, and means of a few random members.

``v = 1/K sum_k v_k``, and ``v = 1/k sum_{j in J} v_j`` for a random set J of k members. Zeng et al. (arXiv
2506.07998) find that p-diff scores like the mean of 16 random members, so every comparison carries both.
Means are taken in the zoo's normalised coordinates: the arithmetic mean, except that coordinates which
must stay positive (``running_var``) get the geometric one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import ConfigError
from paramdiff.generators.base import Generator
from paramdiff.generators.probe import Probe
from paramdiff.ranges import COUNT, Ranges
from paramdiff.seeds import sample_generators


@dataclass
class Average(Generator):
    """The mean of all members; every sample is the same."""

    name: ClassVar[str] = "average"

    def _fit(self, x: Float[Tensor, "K D"], probe: Probe | None, folder: Path | None) -> None:
        self.mean = x.double().mean(0).float()

    def _sample(self, indices: Sequence[int], seed: int, probe: Probe | None) -> Float[Tensor, "n D"]:
        return self.mean.expand(len(indices), -1)

    def _state(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.mean = state["mean"]


@dataclass
class AverageOfK(Generator):
    """The mean of ``k`` random members, drawn without replacement for every sample.

    Attributes:
        k: members in a mean.
    """

    name: ClassVar[str] = "average-of-k"
    knob: ClassVar[str | None] = "k"
    RANGES: ClassVar[Ranges] = {"k": COUNT}
    k: int = 16

    @property
    def label(self) -> str:
        return f"average-of-{self.k}"

    def _fit(self, x: Float[Tensor, "K D"], probe: Probe | None, folder: Path | None) -> None:
        if self.k > len(x):
            raise ConfigError("k", f"a mean of {self.k} members", expected=f"at most K = {len(x)}",
                              remedy="lower k or collect more checkpoints")  # fmt: skip
        self.members = x

    def _sample(self, indices: Sequence[int], seed: int, probe: Probe | None) -> Float[Tensor, "n D"]:
        draws = sample_generators(indices, self.name, seed)
        chosen = [torch.randperm(len(self.members), generator=draw)[: self.k] for draw in draws]
        return torch.stack([self.members[rows].mean(0) for rows in chosen])

    def _state(self) -> dict[str, Any]:
        return {"members": self.members}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.members = state["members"]
