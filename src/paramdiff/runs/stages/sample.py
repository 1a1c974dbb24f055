"""Sample: N new networks of a fitted generator, with generated BatchNorm statistics measured anew if that is on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from paramdiff.files import save_tensors
from paramdiff.generators.context import FitContext
from paramdiff.generators.generator import Generator
from paramdiff.generators.guidance import without_guidance
from paramdiff.runs.context import RunContext
from paramdiff.runs.manifest import Stage
from paramdiff.runs.rows import GeneratorRow


def sample(run: RunContext, row: GeneratorRow, name: str = "sample") -> Stage:
    """A row's samples."""
    now = row.sampling

    def work(scratch: Path) -> None:
        samples = _draw(run, row, run.plan.n, now)
        if run.recalibrating:
            save_tensors(run.path(row.drawn), run.recalibration.drawn(samples))
        header = run.header("samples: one row a network, in the order of spec", row.name, len(samples))
        save_tensors(run.path(row.samples), {"samples": run.recalibrated(samples)}, header)

    asked = ["zoo"] if row.generator.asks or run.recalibrating else []  # it knows which task it is of
    settings = [run.plan.n, run.plan.seed, without_guidance(now), *run.recalibrating]
    return Stage(name, settings, [row.fitted, *asked], run.drawn_files(row), work, chain=row.prefix)


def draw(run: RunContext, row: GeneratorRow, n: int, settings: Mapping[str, Any]) -> Tensor:
    """``n`` samples of a fitted generator with these settings of sampling, as they are used."""
    return run.recalibrated(_draw(run, row, n, settings))


def with_settings(run: RunContext, row: GeneratorRow, settings: Mapping[str, Any]) -> Generator:
    """A row's fitted generator with these settings of sampling."""
    generator = run.fitted(row)
    generator.change(settings)
    return generator


def _draw(run: RunContext, row: GeneratorRow, n: int, settings: Mapping[str, Any]) -> Tensor:
    generator = with_settings(run, row, settings)
    context = FitContext(run.scorer.feedback() if generator.asks else None)
    return generator.sample(n, run.plan.seed, context=context)
