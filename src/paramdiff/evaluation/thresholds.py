r"""Thresholds: below what value a number cannot be a member's, from members left out of their zoo.

The limit of a number that is small where something is wrong, such as the distance to the nearest member, is

.. math:: m \cdot \min(c,\, (q / m)^{8})

with m the median and q the lower quartile over members. The factor c is how far a mixture or a copy falls below 1 in
many dimensions, where such distances hardly scatter. The second factor is for zoos where they do: there the distance
to the nearest of many has a tail :math:`P(d < t) \propto t^\nu` with the zoo's dimension :math:`\nu`, the quartile
tells :math:`\nu`, and its eighth power is what one true draw in 500 falls below.

A set may show what no single sample does: then the share of samples below a quantile of the members is compared with
that quantile (:func:`excess`).
"""

import math

from jaxtyping import Float64
from torch import Tensor

TAIL = 8.0
"""Power of quartile over median below which one true draw in 500 falls."""

OUTLYING = 1.5
"""Factor on the distance of the members that lie farthest out, so that a zoo with outliers may have more of them."""

OUTER = 0.98
"""Quantile of members that lie farthest out."""

EXCESS = 0.9
"""Factor on a quantile of members below which the samples are counted, so that small differences do not decide."""

LEAST = 0.1
"""Share of samples from which an excess counts."""

QUANTILES = (0.05, 0.1, 0.25, 0.5)

STANDARD_ERRORS = 5.0
"""By how many the share below a quantile must differ from that of members."""


def limit(members: Float64[Tensor, "K"], factor: float) -> float:
    """The value below which a number is too small, see the module; 0 where members give none."""
    known = members[members.isfinite()]
    if len(known) == 0:
        return 0.0
    median, low = (float(known.quantile(q)) for q in (0.5, 0.25))
    return median * min(factor, (low / median) ** TAIL) if median > 0 else 0.0


def upper_limit(members: Float64[Tensor, "K"], factor: float) -> float:
    """The value above which a number is too large."""
    known = members[members.isfinite()]
    if len(known) == 0:
        return math.inf
    median, high = (float(known.quantile(q)) for q in (0.5, OUTER))
    return max(factor * median, OUTLYING * high) if median > 0 else math.inf


def excess(samples: Float64[Tensor, "N"], members: Float64[Tensor, "K"], factor: float = EXCESS) -> float:
    """Share of samples below what members show: 0 unless more of them lie below a quantile than can be chance."""
    x, m = samples[samples.isfinite()], members[members.isfinite()]
    if len(x) == 0 or len(m) == 0:
        return 0.0
    found = 0.0
    for q in QUANTILES:
        bound = factor * float(m.quantile(q))
        mine, theirs = float((x < bound).double().mean()), float((m < bound).double().mean())
        pooled = (mine * len(x) + theirs * len(m) + 1) / (len(x) + len(m) + 2)
        error = math.sqrt(pooled * (1 - pooled) * (1 / len(x) + 1 / len(m)))
        if mine - theirs > STANDARD_ERRORS * error:
            found = max(found, (mine - theirs) / (1 - theirs))
    return found * len(x) / len(samples) if found >= LEAST else 0.0


def clearly_less(
    mine: Float64[Tensor, "N"], theirs: Float64[Tensor, "K"], factor: float, errors: float = STANDARD_ERRORS
) -> bool:
    """Whether a mean is below the factor times the other by more than both scatter from set to set."""
    gap = factor * theirs.mean() - mine.mean()
    scatter = mine.var(correction=0) / len(mine) + factor**2 * theirs.var(correction=0) / len(theirs)
    return bool(gap > errors * scatter.sqrt())
