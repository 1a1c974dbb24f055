r"""Averages of members: the paper's ``ensemble`` baseline, and means of a few random members.

``v = 1/K sum_k v_k``, and ``v = 1/k sum_{j in J} v_j`` for a random set J of k members. Zeng et al. (arXiv
2506.07998) find that p-diff scores like the mean of 16 random members, so every comparison carries both.
Means are taken in the zoo's normalised coordinates: the arithmetic mean, except that coordinates which
must stay positive (``running_var``) get the geometric one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import ConfigError
from paramdiff.generators.context import FitContext
from paramdiff.generators.generator import Generator, register
from paramdiff.seeds import sample_generators
from paramdiff.settings import COUNT, Ranges

USUAL = 16
"""Members in a mean, as in the paper by Zeng et al."""


def usual(k: int) -> int:
    """Members in a mean by default: 16; of a zoo of at most 16, half.

    The mean of all members, or of all but one, would be the baseline ``average`` once more.
    """
    return USUAL if k > USUAL else max(k // 2, min(2, k - 1))


@register("average", "the mean of all originals: one network")
@dataclass
class Average(Generator):
    """The mean of all members; every sample is the same."""

    def _fit(self, x: Float[Tensor, "K D"], context: FitContext) -> None:
        self.mean = x.double().mean(0).float()

    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        return self.mean.expand(len(indices), -1)

    def _state(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.mean = state["mean"]


@register("average-of-k", "each sample is the mean of a few random originals")
@dataclass
class AverageOfK(Generator):
    """The mean of ``k`` random members, drawn without replacement for every sample.

    Attributes:
        k: members in a mean; by default 16, or half of a zoo that has no more than 16.
    """

    knob: ClassVar[str | None] = "k"
    RANGES: ClassVar[Ranges] = {"k": COUNT}
    k: int | None = None

    @property
    def label(self) -> str:
        return self.name if self.k is None else f"average-of-{self.k}"

    def adapted(self, k: int) -> Self:
        return replace(self, k=usual(k)) if self.k is None else self

    def require(self, k: int, dim: int | None = None) -> None:
        if self.k is not None and self.k > k:
            raise ConfigError("k", f"a mean of {self.k} members", expected=f"at most K = {k}",
                              remedy="lower it, leave it out, or collect more checkpoints (zoo.k)")  # fmt: skip

    def _fit(self, x: Float[Tensor, "K D"], context: FitContext) -> None:
        self.members = x

    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        draws = sample_generators(indices, self.name, seed)
        k = usual(len(self.members)) if self.k is None else self.k
        chosen = [torch.randperm(len(self.members), generator=draw)[:k] for draw in draws]
        return torch.stack([self.members[rows].mean(0) for rows in chosen])

    def _state(self) -> dict[str, Any]:
        return {"members": self.members}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.members = state["members"]
