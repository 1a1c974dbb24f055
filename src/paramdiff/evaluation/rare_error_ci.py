r"""Intervals of a mean where nearly all items have the same value: how many do not, and by how much.

With shares p+ of the items above the common value and p- below it, each with an interval [l, u] of a binomial
share, the mean of items that deviate by 1 lies between (square-and-add; Newcombe 1998, with the covariance of
two shares of the same items)

.. math:: (p_+ - p_-) - \sqrt{(p_+ - l_+)^2 + (u_- - p_-)^2 - 2 \rho (p_+ - l_+)(u_- - p_-)}

and the same with + and - exchanged. One share alone, as of an accuracy, has the exact interval (Clopper &
Pearson 1934); two, as of what only one of two networks gets right, have mid-p intervals each (Berry & Armitage
1995).

Deviations of several sizes w, as of the mean accuracy of several networks, count as ``(sum w)^2 / sum w^2``
deviations of the size ``sum w^2 / sum w`` (after Fay & Feuer 1997): mean and variance stay as they are.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float64, Shaped
from scipy.optimize import brentq
from scipy.special import betainc
from torch import Tensor

LEVEL = 0.95

EXACT, MID_P = 0.0, 0.5
"""How much of the probability of what was seen itself counts as more extreme than it: none, or half of it."""

NONE = 1e-9
"""Fewer items than this are none: the counts of weighted items are no integers."""


def outcomes(values: Shaped[Tensor, "items"]) -> bool:
    """Whether there are values, and each is 0 or 1."""
    return len(values) > 0 and bool(((values == 0) | (values == 1)).all())


def common_value(values: Float64[Tensor, "items"]) -> float | None:
    """The value of more than half of the items, or of most where all are 0 or 1; None if there is none."""
    levels, sizes = values.unique(return_counts=True)
    most = int(sizes.argmax())
    return float(levels[most]) if outcomes(values) or 2 * sizes[most] > len(values) else None


def counted_ci(
    values: Float64[Tensor, "items"], common: float, *, binary: bool, both: bool
) -> tuple[float, float]:
    """95% interval of a mean, from the deviations from a common value.

    Args:
        binary: whether items are right or wrong, or differ in that: they deviate by 1, also where none does.
        both: whether items may deviate to either side, as differences do.
    """
    items, away = len(values), values - common
    above, below = Deviations.of(away.clamp(min=0)), Deviations.of((-away).clamp(min=0))
    unit = 1.0 if binary else max(above.unit, below.unit)
    rises = both or above.count > 0 or (binary and common == 0)
    falls = both or below.count > 0 or (binary and common == 1)
    part = MID_P if rises and falls else EXACT
    up = above.share(items, unit, part) if rises else NOTHING
    down = below.share(items, unit, part) if falls else NOTHING
    mean = common + up.value - down.value
    return mean - _together(up.lower, down.upper, up, down), mean + _together(up.upper, down.lower, up, down)


@dataclass(frozen=True)
class Share:
    """A share of the items in units of the values, and how far its interval reaches below and above it."""

    value: float
    lower: float
    upper: float
    odds: float


NOTHING = Share(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Deviations:
    """How many items deviate to one side, and by how much."""

    count: float
    unit: float

    @classmethod
    def of(cls, sizes: Float64[Tensor, "items"]) -> "Deviations":
        total, squares = float(sizes.sum()), float(sizes.square().sum())
        return cls(total**2 / squares, squares / total) if total > 0 and squares > 0 else cls(0.0, 0.0)

    def share(self, items: int, unit: float, part: float) -> Share:
        """``unit`` is the size of deviations where there are none."""
        size, p = self.unit or unit, self.count / items
        low, high = limits(self.count, items, part)
        odds = p / (1 - p) if p < 1 else 0.0
        return Share(size * p, size * (p - low), size * (high - p), odds)


def _together(a: float, b: float, up: Share, down: Share) -> float:
    """Root of the sum of squares, with the correlation of two shares of the same items."""
    return math.sqrt(a * a + b * b + 2 * math.sqrt(up.odds * down.odds) * a * b)


def limits(count: float, items: int, part: float) -> tuple[float, float]:
    """95% interval of a binomial share of which ``count`` items were seen; it need be no integer.

    Args:
        part: :data:`EXACT` or :data:`MID_P`.
    """
    tail, left = (1 - LEVEL) / 2, items - count
    none, every = count < NONE, left < NONE
    at_least = lambda p: 1.0 if none else betainc(count, left + 1, p)
    more = lambda p: 0.0 if every else betainc(count + 1, left, p)
    beyond = lambda p, seen: (1 - seen) * at_least(p) + seen * more(p)
    low = 0.0 if none else brentq(lambda p: beyond(p, part) - tail, 0.0, 1.0, xtol=1e-12)
    high = 1.0 if every else brentq(lambda p: beyond(p, 1 - part) - (1 - tail), 0.0, 1.0, xtol=1e-12)
    return low, high
