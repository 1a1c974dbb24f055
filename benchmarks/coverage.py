"""How often intervals cover the truth, simulated: the tables of ``docs/decisions.md``.

python -m benchmarks.coverage                # accuracies (computed, not simulated) and paired differences
python -m benchmarks.coverage --tests 500    # fewer simulated test sets for each cell
"""

import argparse
import math
from functools import cache

import numpy as np
import torch
from scipy.stats import binom

from paramdiff.evaluation.rare_error_ci import EXACT, counted_ci, limits

ITEMS = (50, 200, 500, 2000, 10_000)
WRONG = (0.5, 0.3, 0.1, 0.05, 0.02, 0.01, 0.004, 0.002, 0.0005)
"""One minus the accuracies."""

DIFFERING = (
    (0.5, 0), (1, 0), (2, 0), (4, 0), (0.5, 0.5), (1, 1), (2, 1), (3, 3), (5, 1), (10, 2), (10, 10), (20, 5),
    (0.1, 0.1), (0.3, 0.3), (0.4, 0.1),
)  # fmt: skip
"""Items that only one of two networks gets right, on average; the last three are parts of the items."""

PARTS = 3


def accuracy(items: int, wrong: float) -> float:
    """Probability that the interval of an accuracy covers it."""
    least, most = binom.ppf([1e-6, 1 - 1e-6], items, wrong)
    counts = np.arange(least, most + 1)
    inside = [
        low <= wrong <= high for low, high in (limits(count, items, EXACT) for count in counts.tolist())
    ]
    return float(binom.pmf(counts, items, wrong)[inside].sum())


def difference(items: int, only_a: float, only_b: float, tests: int) -> tuple[float, float]:
    """Share of simulated test sets whose interval covers the difference, and its width over the normal one."""

    @cache
    def interval(above: int, below: int) -> tuple[float, float]:
        values = torch.zeros(items, dtype=torch.float64)
        values[:above], values[above : above + below] = 1, -1
        return counted_ci(values, 0.0, binary=True, both=True)

    shares = [only_a / items, only_b / items, 1 - (only_a + only_b) / items]
    drawn = np.random.default_rng(0).multinomial(items, shares, size=tests)
    low, high = np.array([interval(above, below) for above, below, _ in drawn.tolist()]).T
    truth = shares[0] - shares[1]
    normal = 3.92 * math.sqrt((shares[0] + shares[1] - truth**2) / items)
    return float(np.mean((low <= truth) & (truth <= high))), float(np.mean(high - low)) / normal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tests", type=int, default=4000)
    words = parser.parse_args()
    print(f"| accuracy | {' | '.join(f'{items:,} items' for items in ITEMS)} |")
    for wrong in WRONG:
        cells = [f"{accuracy(items, wrong):.3f}" for items in ITEMS]
        print(f"| {1 - wrong:g} | {' | '.join(cells)} |", flush=True)
    print("\n| items | only one | only the other | coverage | width |")
    for items in ITEMS:
        for place, (only_a, only_b) in enumerate(DIFFERING):
            part = items if place >= len(DIFFERING) - PARTS else 1
            covered, width = difference(items, part * only_a, part * only_b, words.tests)
            print(
                f"| {items:,} | {part * only_a:g} | {part * only_b:g} | {covered:.3f} | {width:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
