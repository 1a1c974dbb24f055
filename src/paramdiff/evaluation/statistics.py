"""Confidence intervals over items, and selection that never sees the test data.

The test items are the sample, so an interval says what another test set of this size might have
given. Two networks are compared over the same items: the interval of their difference is that of the mean
of per-item differences, usually far narrower than the two intervals suggest. How often each covers the truth
was measured (``docs/decisions.md``):

* **What is counted** (:mod:`paramdiff.evaluation.rare_error_ci`): most items have the same value (right; no
  difference), and a few have another. What is uncertain is how many those are, and resampling cannot invent what was
  not seen: with 2 mistakes in 500 items its interval covers the truth in 86 of 100 cases, without any in none.
* **What is measured**: items have values of their own (losses). A studentised bootstrap (Efron & Tibshirani 1993, 12.5)
  allows for skewness, which percentiles of resampled means do not.
"""

import math

import numpy as np
import torch
from jaxtyping import Float64, Real, Shaped
from torch import Tensor

from paramdiff.devices import IN_DOUBLE, blocks, pieces_within
from paramdiff.evaluation.rare_error_ci import LEVEL, common_value, counted_ci, outcomes
from paramdiff.seeds import mix

RESAMPLES = 2000
"""Bootstrap resamples: the ends of a 95% interval are then known to about 2% of its width."""


def bootstrap_ci(values: Shaped[Tensor, "items"], seed: int = 0) -> tuple[float, float]:
    """95% interval of the mean of per-item values: of an accuracy if they say ``correct``.

    NaN for both ends if there is no value or one is not finite. Values that are all the same, and not 0 or 1,
    have an interval without width.

    Args:
        seed: of the resamples; what is counted needs none.
    """
    return _interval(values.double(), seed, binary=outcomes(values), both=False)


def paired_difference_ci(
    values_a: Shaped[Tensor, "items"], values_b: Shaped[Tensor, "items"], seed: int = 0
) -> tuple[float, float]:
    """95% interval of ``mean(a) - mean(b)`` over the same items."""
    binary = outcomes(values_a) and outcomes(values_b)
    return _interval(values_a.double() - values_b.double(), seed, binary=binary, both=True)


def _interval(
    values: Float64[Tensor, "items"], seed: int, *, binary: bool, both: bool
) -> tuple[float, float]:
    """Counted or measured; ``binary`` and ``both`` are those of
    :func:`~paramdiff.evaluation.rare_error_ci.counted_ci`.
    """
    if not len(values) or not bool(values.isfinite().all()):
        return math.nan, math.nan
    common = 0.0 if binary and both else common_value(values)
    if common is None:
        return studentised_ci(values, seed)
    return counted_ci(values, common, binary=binary, both=both)


def studentised_ci(values: Float64[Tensor, "items"], seed: int = 0) -> tuple[float, float]:
    """``mean - q s`` with the quantiles q of ``(resampled mean - mean) / resampled s``, s the error of the mean."""
    mean, error = values.mean(), values.std() / math.sqrt(len(values))
    means, errors = resampled(values, seed)
    tail = (1 - LEVEL) / 2
    ends = torch.tensor([1 - tail, tail], dtype=torch.float64)
    shifts = ((means - mean) / errors).nan_to_num(nan=0.0).clamp(-MOST, MOST)
    low, high = (mean - error * shifts.quantile(ends)).tolist()
    return low, high


MOST = 20.0
"""An end is at most this many standard errors away from the mean: few, very different items say no more."""


def resampled(
    values: Float64[Tensor, "items"], seed: int = 0
) -> tuple[Float64[Tensor, "R"], Float64[Tensor, "R"]]:
    """The mean of each of 2,000 resamples of the items, drawn with replacement, and its standard error."""
    items, numbers = len(values), values.numpy()
    draws = np.random.default_rng(mix("bootstrap", seed))
    found = []
    for block in blocks(RESAMPLES, pieces_within(IN_DOUBLE, items)):
        size = (block.stop - block.start, items)
        drawn = numbers[draws.integers(items, size=size, dtype=np.int32)]
        found.append(np.stack([drawn.mean(1), drawn.std(1, ddof=1) / math.sqrt(items)]))
    means, errors = torch.from_numpy(np.concatenate(found, 1))
    return means, errors


def select_on_train(
    train_metric: Real[Tensor, "N"], tie_break: Real[Tensor, "N"] | None, higher_is_better: bool
) -> int:
    """Index of the best network on the training data.

    Args:
        train_metric: [N], the task's first metric; NaN is worse than anything.
        tie_break: [N], training nll: among equals the lower one; then the lowest index.
        higher_is_better: direction of the metric.
    """
    cost = -train_metric.double() if higher_is_better else train_metric.double()
    ties = torch.zeros_like(cost) if tie_break is None else tie_break.double()
    keys = (
        torch.stack([cost, ties], 1).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf).tolist()
    )
    return min(range(len(keys)), key=lambda index: keys[index])
