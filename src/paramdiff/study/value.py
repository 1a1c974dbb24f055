"""What a network's score is worth: intervals over items, and selection that never sees the test data.

The test items are the sample, so an interval says what another test set of this size might have
given. Two networks are compared over the same items: the interval of their difference is that of the mean
of per-item differences, usually far narrower than the two intervals suggest.
"""

import math

import numpy as np
import torch
from jaxtyping import Float64, Real, Shaped
from torch import Tensor

from paramdiff.seeds import mix

RESAMPLES = 2000
"""Bootstrap resamples: the ends of a 95% interval are then known to about 2% of its width."""

LEVEL = 0.95

ELEMENTS_AT_ONCE = 1 << 22
"""Counts that exist at once (32 MiB)."""

COUNT_COST = 16
"""Time to draw how often a value comes up, in times of drawing one item: measured, 14 at 10,000 items."""


def bootstrap_ci(values: Shaped[Tensor, "items"], seed: int = 0) -> tuple[float, float]:
    """95% interval of the mean of per-item values: of an accuracy if they say ``correct``.

    Percentile bootstrap over items, NaN for both ends if a value is not finite. A network without any
    mistake gets (1, 1): resampling cannot invent mistakes.
    """
    values = values.double()
    if not bool(values.isfinite().all()):
        return math.nan, math.nan
    tail = (1 - LEVEL) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = bootstrap_means(values, seed).quantile(ends).tolist()
    return low, high


def paired_difference_ci(
    values_a: Shaped[Tensor, "items"], values_b: Shaped[Tensor, "items"], seed: int = 0
) -> tuple[float, float]:
    """95% interval of ``mean(a) - mean(b)`` over the same items."""
    return bootstrap_ci(values_a.double() - values_b.double(), seed)


def bootstrap_means(values: Float64[Tensor, "items"], seed: int = 0) -> Float64[Tensor, "R"]:
    """The mean over each of 2,000 resamples of the items, drawn with replacement.

    Items with the same value are interchangeable, so a resample is a row of multinomial counts of the
    distinct values (two for an accuracy, three for a difference of two), and the means are a matrix product.
    Where nearly every item has its own value, as a loss has, the items themselves are drawn.
    """
    levels, sizes = values.unique(return_counts=True)
    items = len(values)
    draws = np.random.default_rng(mix("bootstrap", seed))
    if len(levels) * COUNT_COST > items:
        return _means_of_drawn(values, draws)
    rows = max(1, ELEMENTS_AT_ONCE // len(levels))
    means = []
    for start in range(0, RESAMPLES, rows):
        counts = draws.multinomial(items, (sizes.double() / items).numpy(), size=min(rows, RESAMPLES - start))
        means.append(torch.from_numpy(counts).double() @ levels / items)
    return torch.cat(means)


def _means_of_drawn(values: Float64[Tensor, "items"], draws: np.random.Generator) -> Float64[Tensor, "R"]:
    items, numbers = len(values), values.numpy()
    rows = max(1, ELEMENTS_AT_ONCE // items)
    sizes = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    means = [numbers[draws.integers(items, size=(size, items), dtype=np.int32)].mean(1) for size in sizes]
    return torch.from_numpy(np.concatenate(means))


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
