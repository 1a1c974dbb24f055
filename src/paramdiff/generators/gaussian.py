r"""Gaussians fitted to the zoo: independent per coordinate, along its principal components, and both (SWAG).

Diagonal: ``x_j = mean_j + scale * s_j * eps_j``. Low rank: ``x = mean + scale * sum_i s_i eps_i b_i`` with
the members' deviations ``s_i`` along their principal components ``b_i``; with all components it has exactly
the zoo's covariance, and every sample lies in the zoo's span. Both are baselines that a learnt generator has
to beat (Zeng et al., arXiv 2506.07998).

SWAG (Maddox et al., arXiv 1902.02476, eq. 1) takes half of its variance from each of the two:

.. math:: x = \mathrm{mean} + \mathrm{scale} \cdot \Big( \frac{s \, \epsilon_1}{\sqrt 2}
          + \frac{D \epsilon_2}{\sqrt{2 (R - 1)}} \Big)

with D the deviations of the last R members from the mean. It was made for a trajectory, where the last R are
the latest. In a zoo whose order means nothing, such as one of independent seeds, they are any R members. The
authors subtract the running mean, because they keep no members; here the mean of all is known.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.generators.context import FitContext
from paramdiff.generators.generator import Generator, register
from paramdiff.generators.principal_components import PrincipalComponents
from paramdiff.seeds import sample_normal
from paramdiff.settings import COUNT, FACTOR, MEMBERS, Ranges


@register("gaussian", "an independent normal distribution for every parameter")
@dataclass
class Gaussian(Generator):
    """An independent Gaussian per coordinate.

    Attributes:
        scale: multiplies the deviation; less than 1 draws closer to the average.
    """

    knob: ClassVar[str | None] = "scale"
    sampling: ClassVar[tuple[str, ...]] = ("scale",)
    RANGES: ClassVar[Ranges] = {"scale": FACTOR}
    scale: float = 1.0

    @property
    def label(self) -> str:
        return self.name if self.scale == 1 else f"{self.name}-{self.scale:g}"

    def _fit(self, x: Float[Tensor, "K D"], context: FitContext) -> None:
        self.mean, self.deviation = x.mean(0), x.std(0, correction=0)

    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        noise = sample_normal(indices, len(self.mean), self.name, seed)
        return noise.mul_(self.scale * self.deviation).add_(self.mean)

    def _state(self) -> dict[str, Any]:
        return {"mean": self.mean, "deviation": self.deviation}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.mean, self.deviation = state["mean"], state["deviation"]


@register("low-rank-gaussian", "a joint normal distribution with the covariance of the originals")
@dataclass
class LowRankGaussian(Generator):
    """A Gaussian along the zoo's principal components.

    Attributes:
        scale: multiplies the deviation.
        rank: number of components; ``None`` takes all.
    """

    knob: ClassVar[str | None] = "scale"
    sampling: ClassVar[tuple[str, ...]] = ("scale",)
    RANGES: ClassVar[Ranges] = {"scale": FACTOR, "rank": COUNT}
    scale: float = 1.0
    rank: int | None = None

    @property
    def label(self) -> str:
        return self.name if self.scale == 1 else f"{self.name}-{self.scale:g}"

    def _fit(self, x: Float[Tensor, "K D"], context: FitContext) -> None:
        self.components = PrincipalComponents.fit(x, self.rank)

    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        noise = sample_normal(indices, len(self.components.deviations), self.name, seed)
        return self.components.expand(noise * self.scale * self.components.deviations)

    def _state(self) -> dict[str, Any]:
        return self.components.state_dict()

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.components = PrincipalComponents.from_state(state)


@register(
    "swag",
    "a normal distribution around the average: half its variance of every parameter for itself, half joint",
)
@dataclass
class Swag(Generator):
    """SWAG: an independent Gaussian per coordinate plus the deviations of the last members.

    Attributes:
        scale: multiplies the deviation.
        rank: R, the last members in the zoo's order; all of them where there are fewer.
    """

    knob: ClassVar[str | None] = "scale"
    sampling: ClassVar[tuple[str, ...]] = ("scale",)
    RANGES: ClassVar[Ranges] = {"scale": FACTOR, "rank": MEMBERS}
    scale: float = 1.0
    rank: int = 20

    @property
    def label(self) -> str:
        return self.name if self.scale == 1 else f"{self.name}-{self.scale:g}"

    def _fit(self, x: Float[Tensor, "K D"], context: FitContext) -> None:
        self.mean, deviation, last = x.mean(0), x.std(0, correction=0), x[-self.rank :]
        self.diagonal = deviation / math.sqrt(2)
        self.low_rank = (last - self.mean) / math.sqrt(2 * (len(last) - 1))

    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        rank, dim = self.low_rank.shape
        mix, noise = sample_normal(indices, rank + dim, self.name, seed).split((rank, dim), dim=1)
        return torch.addmm(noise * self.diagonal, mix, self.low_rank).mul_(self.scale).add_(self.mean)

    def _state(self) -> dict[str, Any]:
        return {"mean": self.mean, "diagonal": self.diagonal, "low_rank": self.low_rank}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.mean, self.diagonal, self.low_rank = state["mean"], state["diagonal"], state["low_rank"]
