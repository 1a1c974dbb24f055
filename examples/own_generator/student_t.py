"""Your own generator: an independent Student's t distribution per parameter, with heavier tails than a Gaussian.

    python student_t.py      (in this folder)

``x_j = mean_j + scale * s_j * t``, with the zoo's mean and deviation, and ``t`` of variance 1 with ``freedom`` degrees
of freedom: a standard normal value over the root of a mean of ``freedom`` squared ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from paramdiff import FitContext, Gaussian, Generator, evaluate, register
from paramdiff.seeds import sample_normal
from paramdiff.settings import FACTOR, Range, Ranges


@register("student-t", "an independent Student's t distribution for every parameter")
@dataclass
class StudentT(Generator):
    """An independent t distribution per coordinate.

    Attributes:
        scale: multiplies the deviation.
        freedom: degrees of freedom; many are nearly a Gaussian.
    """

    RANGES: ClassVar[Ranges] = {"scale": FACTOR, "freedom": Range(least=3, most=100)}
    sampling: ClassVar[tuple[str, ...]] = ("scale", "freedom")
    knob: ClassVar[str | None] = "scale"
    scale: float = 1.0
    freedom: int = 5

    def _fit(self, x: Tensor, context: FitContext) -> None:
        self.mean, self.deviation = x.mean(0), x.std(0)

    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Tensor:
        dim = len(self.mean)
        drawn = sample_normal(indices, dim * (1 + self.freedom), self.name, seed)
        normal, squares = drawn[:, :dim], drawn[:, dim:].square().unflatten(1, (self.freedom, dim)).mean(1)
        t = normal / squares.sqrt() * math.sqrt((self.freedom - 2) / self.freedom)
        return self.mean + self.scale * self.deviation * t

    def _state(self) -> dict[str, Any]:
        return {"mean": self.mean, "deviation": self.deviation}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.mean, self.deviation = state["mean"], state["deviation"]


if __name__ == "__main__":
    from paramdiff import TrajectoryCollector, collect

    zoo = collect("digits", TrajectoryCollector(k=100, lr=0.02, every=4))
    print(evaluate("digits", zoo, {"student-t": StudentT(), "gaussian": Gaussian()}, n=50, seed=0).table())
