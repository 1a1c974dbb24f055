r"""Classes of accuracy: a member's bin among quantiles of the zoo's scores.

With scores ``s_1 .. s_K`` of one name, the bounds ``b_1 < .. < b_{C-1}`` are their quantiles at ``1/C, 2/C, ..``,
and a member's bin is the number of bounds that its score reaches: 0 for the worst part, C - 1 for the best (of
a loss, the other way round). Equal scores are in one bin, so that bins may be empty where many are equal.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from paramdiff.zoo.zoo import Zoo

BINS = 4
"""C."""


def assign_score_bins(zoo: Zoo, score: str = "train", bins: int = BINS, higher_is_better: bool = True) -> Zoo:
    """The zoo with each record's ``accuracy_class``, and the bounds in ``about["accuracy_classes"]``.

    Members without a finite score of that name have None; if no member has one, the zoo is returned unchanged.

    Args:
        zoo: K members.
        score: by name, e.g. ``train``.
        bins: C, their number.
        higher_is_better: direction of the score.
    """
    sign = 1.0 if higher_is_better else -1.0
    values = [sign * record.scores.get(score, math.nan) for record in zoo.records]
    known = torch.tensor([value for value in values if math.isfinite(value)], dtype=torch.float64)
    if not len(known):
        return zoo
    bounds = known.quantile(torch.arange(1, bins, dtype=torch.float64) / bins).tolist()
    pairs = zip(zoo.records, values, strict=True)
    records = [replace(record, accuracy_class=_bin(value, bounds)) for record, value in pairs]
    facts = {"score": score, "classes": bins, "bounds": [sign * bound for bound in bounds]}
    return Zoo(zoo.vectors, zoo.spec, zoo.base, records, zoo.about | {"accuracy_classes": facts})


def _bin(value: float, bounds: Sequence[float]) -> int | None:
    """How many bounds a score reaches; ``None`` for an unknown score."""
    return sum(value >= bound for bound in bounds) if math.isfinite(value) else None
