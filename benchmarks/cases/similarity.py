"""Error-IoU of every network of one set with every network of another (p-diff, eq. 7).

The plain way is a Python double loop over pairs with numpy's boolean operations, counted with ``.sum()`` as it is
usually written; beside it the same loop with the faster ``count_nonzero``. Both are timed on the first rows of
the matrix.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Candidate, measured
from benchmarks.rows import Row
from benchmarks.sizes import Common
from paramdiff.error_iou import error_iou
from paramdiff.seeds import generator


@dataclass(frozen=True)
class Sizes(Common):
    """
    Attributes:
        models: of each set.
        items: which each gets right or wrong.
        wrong: share of mistakes.
        plain_rows: networks of the first set in the plain loops.
    """

    models: int = 1000
    items: int = 10_000
    wrong: float = 0.37
    plain_rows: int = 20


QUICK = {"models": 300, "plain_rows": 5}


def run(sizes: Sizes) -> Iterator[Row]:
    ours, theirs = (_mistakes(sizes, name) for name in ("a", "b"))
    a, b = ours.numpy(), theirs.numpy()
    part = a[: sizes.plain_rows]
    scale, note = len(a) / len(part), f"{len(part)} of {len(a):,} rows, scaled"
    measurements, (full, usual, fast) = measured(
        Candidate("ours", lambda: error_iou(ours, theirs)),
        Candidate("double loop, .sum()", lambda: double_loop(part, b, lambda x: x.sum()), scale, note),
        Candidate("double loop, count_nonzero", lambda: double_loop(part, b, np.count_nonzero), scale, note),
        rounds=sizes.rounds,
    )
    differs = max(float(np.abs(full[: len(part)].numpy() - plain).max()) for plain in (usual, fast))
    what = f"error-IoU of {sizes.models:,} x {sizes.models:,} networks, {sizes.items:,} items"
    operations = 2 * sizes.models**2 * sizes.items / measurements[0].median / 1e9
    yield Row(
        what,
        measurements,
        target="200x",
        quality={"largest difference": differs},
        figures={"GFLOP/s": operations},
    )


def double_loop(a: np.ndarray, b: np.ndarray, count: Callable[[Any], int]) -> np.ndarray:
    """The plain way: one pair after another."""
    found = np.empty((len(a), len(b)))
    for i, first in enumerate(a):
        for j, second in enumerate(b):
            either = count(first | second)
            found[i, j] = count(first & second) / either if either else 1.0
    return found


def _mistakes(sizes: Sizes, name: str) -> Tensor:
    draw = generator("benchmark mistakes", name)
    return torch.rand(sizes.models, sizes.items, generator=draw) < sizes.wrong
