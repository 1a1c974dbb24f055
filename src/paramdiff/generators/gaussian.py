r"""Gaussians fitted to the zoo: independent per coordinate, and along its principal components.

Diagonal: ``x_j = mean_j + scale * s_j * eps_j``. Low rank: ``x = mean + scale * sum_i s_i eps_i b_i`` with
the members' deviations ``s_i`` along their principal components ``b_i``; with all components it has exactly
the zoo's covariance, and every sample lies in the zoo's span. Both are baselines that a learnt generator has
to beat (Zeng et al., arXiv 2506.07998).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import check_range
from paramdiff.generators.base import Generator
from paramdiff.generators.principal import PrincipalComponents
from paramdiff.generators.probe import Probe
from paramdiff.seeds import sample_normal


@dataclass
class Gaussian(Generator):
    """An independent Gaussian per coordinate.

    Attributes:
        scale: multiplies the deviation; less than 1 draws closer to the average.
    """

    name: ClassVar[str] = "gaussian"
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_range("scale", self.scale, least=0)

    @property
    def label(self) -> str:
        return self.name if self.scale == 1 else f"{self.name}-{self.scale:g}"

    def _fit(self, x: Float[Tensor, "K D"], probe: Probe | None, folder: Path | None) -> None:
        self.mean, self.deviation = x.mean(0), x.std(0, correction=0)

    def _sample(self, indices: Sequence[int], seed: int, probe: Probe | None) -> Float[Tensor, "n D"]:
        noise = sample_normal(indices, len(self.mean), self.name, seed)
        return noise.mul_(self.scale * self.deviation).add_(self.mean)

    def _state(self) -> dict[str, Any]:
        return {"mean": self.mean, "deviation": self.deviation}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.mean, self.deviation = state["mean"], state["deviation"]


@dataclass
class LowRankGaussian(Generator):
    """A Gaussian along the zoo's principal components.

    Attributes:
        scale: multiplies the deviation.
        rank: number of components; ``None`` takes all.
    """

    name: ClassVar[str] = "low-rank-gaussian"
    scale: float = 1.0
    rank: int | None = None

    def __post_init__(self) -> None:
        check_range("scale", self.scale, least=0)
        if self.rank is not None:
            check_range("rank", self.rank, least=1)

    @property
    def label(self) -> str:
        return self.name if self.scale == 1 else f"{self.name}-{self.scale:g}"

    def _fit(self, x: Float[Tensor, "K D"], probe: Probe | None, folder: Path | None) -> None:
        self.components = PrincipalComponents.fit(x, self.rank)

    def _sample(self, indices: Sequence[int], seed: int, probe: Probe | None) -> Float[Tensor, "n D"]:
        noise = sample_normal(indices, len(self.components.deviations), self.name, seed)
        return self.components.expand(noise * self.scale * self.components.deviations)

    def _state(self) -> dict[str, Any]:
        return self.components.state_dict()

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.components = PrincipalComponents.from_state(state)
