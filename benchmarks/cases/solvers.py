"""How many sampling steps each solver needs, as rows; :mod:`benchmarks.solvers` measures, and prints all cells."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks import solvers
from benchmarks.inputs import reference
from benchmarks.rows import Row
from benchmarks.sizes import Reference


@dataclass(frozen=True)
class Sizes(Reference):
    """
    Attributes:
        n: samples for each number of steps.
        steps: numbers of steps; the largest is what the others are compared with.
        settings: of p-diff, by dotted key.
    """

    n: int = 1000
    steps: tuple[int, ...] = solvers.STEPS
    settings: dict[str, Any] = field(default_factory=dict)


QUICK = {"n": 100, "steps": (5, 20, 100)}


def run(sizes: Sizes) -> Iterator[Row]:
    found = solvers.run(reference(sizes).zoo, n=sizes.n, counts=sizes.steps, **sizes.settings)
    for name, enough in found["enough"].items():
        cells = [c for c in found["cells"] if name == f"{c['process']} {c['prediction']} {c['solver']}"]
        variance = {f"variance at {cell['steps']:,}": cell["variance"] for cell in cells}
        yield Row(f"sampling steps, {name}", figures={"enough": enough, **variance})
