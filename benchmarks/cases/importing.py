"""``import paramdiff`` in a new interpreter, against an interpreter that imports nothing.

Names are imported when they are first used, so ``import paramdiff`` by itself should cost next to nothing.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.measure import Candidate, measured
from benchmarks.rows import Row
from benchmarks.sizes import Common


@dataclass(frozen=True)
class Sizes(Common):
    """
    Attributes:
        repeats: interpreters of one measurement.
    """

    repeats: int = 10


QUICK = {"repeats": 3}


def run(sizes: Sizes) -> Iterator[Row]:
    each = 1 / sizes.repeats
    ways, _ = measured(
        Candidate("ours", lambda: interpreters("import paramdiff", sizes.repeats), each),
        Candidate("empty interpreter", lambda: interpreters("pass", sizes.repeats), each),
        rounds=sizes.rounds,
    )
    ratio = ways[0].median / ways[1].median
    yield Row("import paramdiff", ways, target="below 2 empty ones", figures={"empty interpreters": ratio})


def interpreters(source: str, n: int) -> None:
    """``n`` of them, one after another."""
    for _ in range(n):
        subprocess.check_call([sys.executable, "-c", source])
