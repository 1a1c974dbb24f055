r"""How many steps each solver needs for the same samples.

    PARAMDIFF_DATA=ROOT python -m benchmarks.solvers            # the recipe reference_zoo
    python -m benchmarks.solvers --zoo FOLDER                   # any saved zoo
    PARAMDIFF_DATA=ROOT python -m benchmarks.solvers --score    # accuracy and similarity of some cells, too

p-diff is fitted once for each process and prediction; then every solver draws the same N samples (the same noise)
with every number of steps, at temperature 1. What is measured needs no scoring:

* *distance* of each sample from the same solver's sample of the same noise with 1,000 steps: root mean square
  over latents, in units of the samples' deviation. Not for ``ddpm``, which draws new noise in every step;
* *variance*: total variance of the samples over that of the members, in normalised coordinates;
* *energy*: the energy coefficient of samples' and members' latents (Székely & Rizzo 2013),

  .. math:: 1 - \frac{E|X - X'| + E|Y - Y'|}{2 E|X - Y|}

  0 for equal distributions; the mean over random halves of the members, against as many random samples. Two
  halves of the members give its floor.

A number of steps is *enough* if with it and with every larger one the variance differs from that at 1,000 steps
by at most ``VARIANCE``, and the energy is at most ``ENERGY`` above that at 1,000 steps.
"""

import argparse
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from benchmarks.inputs import reference, shortened
from benchmarks.quality import accuracy_and_similarity
from benchmarks.sizes import Reference
from paramdiff.files import write_json
from paramdiff.generators.denoising import SAMPLERS
from paramdiff.generators.pdiff import ParameterDiffusion
from paramdiff.generators.reconstruction_check import ReconstructionCheck
from paramdiff.scoring.scorer import Scorer
from paramdiff.seeds import generator
from paramdiff.tasks.classification import ImageClassification
from paramdiff.zoo.zoo import Zoo

FITS = (("ddpm", "x0"), ("ddpm", "eps"), ("flow", "x0"))
"""Process and prediction of each fit."""

STEPS = (2, 3, 5, 10, 20, 50, 100, 1000)
VARIANCE, ENERGY = 0.05, 0.001
"""Margins of *enough*. Beyond the samples' own scatter (2% of the variance for N = 1,000), and less than what
separates any samples here from members."""

SPLITS = 20
"""Random halves of the members."""

SCORED, IMAGES = 50, 2000
SCORED_STEPS = (3, 5, 10, 20, 1000)
"""Networks, test images and steps of ``--score``."""


@dataclass
class Cell:
    """One solver with one number of steps; ``seconds`` are those of drawing all N latents."""

    process: str
    prediction: str
    solver: str
    steps: int
    seconds: float
    distance: float | None
    variance: float
    energy: float
    accuracy: float | None = None
    similarity: float | None = None


class Members:
    """The zoo as samples are compared with it: normalised and as latents of one fit."""

    def __init__(self, fitted: ParameterDiffusion, zoo: Zoo) -> None:
        assert fitted.normaliser is not None
        self.variance = total_variance(fitted.normaliser.normalise(zoo.vectors))
        self.latents = fitted.encode(zoo.vectors)
        self.halves = [some.chunk(2) for some in _random(self.latents, zoo.k // 2 * 2)]

    @property
    def floor(self) -> float:
        return fmean(energy(a, b) for a, b in self.halves)

    def energy(self, z: Tensor) -> float:
        mine = _random(z, len(self.latents) // 2)
        return fmean(energy(some, half) for some, (half, _) in zip(mine, self.halves))


def _random(rows: Tensor, n: int) -> list[Tensor]:
    """At most n different rows, drawn ``SPLITS`` times."""
    draws = (generator("solvers", i) for i in range(SPLITS))
    return [rows[torch.randperm(len(rows), generator=draw)[:n]] for draw in draws]


def energy(x: Tensor, y: Tensor) -> float:
    """Energy coefficient of two samples [n, L], [m, L]."""
    within = torch.cdist(x, x).mean() + torch.cdist(y, y).mean()
    return float(1 - within / (2 * torch.cdist(x, y).mean()))


def total_variance(x: Tensor) -> float:
    return float(x.var(0).sum())


def measured(
    fitted: ParameterDiffusion, members: Members, solver: str, steps: Sequence[int], n: int
) -> list[Cell]:
    """One solver with every number of steps; the last is the reference."""
    cells: list[Cell] = []
    reference: Tensor | None = None
    for count in sorted(steps, reverse=True):
        fitted.diffusion.scheduler, fitted.diffusion.sample_steps = solver, count
        started = time.perf_counter()
        z = fitted.prior.sample(range(n), 0)
        seconds = time.perf_counter() - started
        reference = z if reference is None else reference
        apart = ((z - reference).square().sum(1).mean() / total_variance(reference)) ** 0.5
        x = fitted.codec.decode(z * fitted.latent_deviation + fitted.latent_mean)
        cells.append(Cell(
            fitted.diffusion.process, fitted.diffusion.prediction, solver, count, seconds,
            None if solver == "ddpm" else float(apart), total_variance(x) / members.variance, members.energy(z),
        ))  # fmt: skip
    return cells[::-1]


def enough(cells: Sequence[Cell]) -> int:
    """The fewest steps from which on one solver's samples are those of its most steps."""
    last = cells[-1]
    found = last.steps
    for cell in reversed(cells):
        if abs(cell.variance - last.variance) > VARIANCE or cell.energy > last.energy + ENERGY:
            break
        found = cell.steps
    return found


def run(
    zoo: Zoo,
    task: ImageClassification | None = None,
    *,
    n: int = 1000,
    counts: Sequence[int] = STEPS,
    **settings: Any,
) -> dict[str, Any]:
    """All cells, as JSON values.

    Args:
        task: where some cells are to be scored.
        n: samples of each cell.
        counts: numbers of steps.
        settings: of p-diff, by dotted key.
    """
    scorer = None if task is None else Scorer(shortened(task, test=IMAGES), zoo)
    found: dict[str, Any] = {"k": zoo.k, "dim": zoo.dim, "n": n, "margins": [VARIANCE, ENERGY]}
    found |= {"floors": {}, "enough": {}, "cells": []}
    if scorer is not None:
        originals = accuracy_and_similarity(scorer, zoo.vectors[torch.linspace(0, zoo.k - 1, SCORED).long()])
        found["originals"] = dict(zip(("accuracy", "similarity"), originals))
    for process, prediction in FITS:
        fitted = ParameterDiffusion(reconstruction_check=ReconstructionCheck("off"))
        fitted.change({**settings, "diffusion.process": process, "diffusion.prediction": prediction})
        fitted.fit(zoo)
        members = Members(fitted, zoo)
        found["floors"][f"{process} {prediction}"] = members.floor
        for solver in SAMPLERS[process]:
            cells = measured(fitted, members, solver, counts, n)
            for cell in cells:
                if scorer is not None and cell.steps in SCORED_STEPS:
                    fitted.diffusion.scheduler, fitted.diffusion.sample_steps = solver, cell.steps
                    cell.accuracy, cell.similarity = accuracy_and_similarity(scorer, fitted.sample(SCORED))
            found["enough"][f"{process} {prediction} {solver}"] = enough(cells)
            found["cells"] += map(asdict, cells)
    return found


def table(found: dict[str, Any]) -> str:
    """A row a solver: distance, variance and energy (in thousandths) for each number of steps; accuracy, similarity."""
    steps = sorted({cell["steps"] for cell in found["cells"]})
    lines = [_row(("", *steps, "enough")), _row(["---"] * (len(steps) + 2))]
    for name, count in found["enough"].items():
        cells = [c for c in found["cells"] if f"{c['process']} {c['prediction']} {c['solver']}" == name]
        lines.append(_row((name, *map(_cell, cells), count)))
    floors = ", ".join(f"{name} {1000 * floor:.1f}" for name, floor in found["floors"].items())
    return "\n".join([*lines, "", f"energy between halves of the members: {floors}"])


def _cell(cell: dict[str, Any]) -> str:
    apart = "-" if cell["distance"] is None else f"{cell['distance']:.3f}"
    text = f"{apart} {cell['variance']:.3f} {1000 * cell['energy']:.1f}"
    if cell["accuracy"] is not None:
        text += f" {100 * cell['accuracy']:.2f} {cell['similarity']:.3f}"
    return text


def _row(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--zoo", help="a saved zoo in place of the reference zoo")
    parser.add_argument("--n", type=int, default=1000, help="samples of each cell")
    parser.add_argument("--score", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/solvers.json"))
    words = parser.parse_args()
    world = None if words.zoo else reference(Reference(data=os.environ.get("PARAMDIFF_DATA", "data")))
    zoo, task = (Zoo.load(words.zoo), None) if world is None else (world.zoo, world.task)
    found = run(zoo, task if words.score else None, n=words.n)
    write_json(words.out, found)
    print(table(found))
    if "originals" in found:
        print("originals: accuracy {accuracy:.4f}, similarity {similarity:.3f}".format(**found["originals"]))


if __name__ == "__main__":
    main()
