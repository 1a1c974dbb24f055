"""Fit: a generator learns the zoo. What only sampling reads is no part of what it was fitted with."""

from pathlib import Path
from typing import Any

from torch import Tensor

from paramdiff.errors import ConfigError
from paramdiff.generators.context import FitContext, Score
from paramdiff.generators.generator import Generator
from paramdiff.generators.latent import what_is_fitted
from paramdiff.runs.context import RunContext
from paramdiff.runs.manifest import Stage
from paramdiff.runs.plan import plain
from paramdiff.runs.rows import GeneratorRow
from paramdiff.scoring.recalibration import RecalibratedFeedback
from paramdiff.settings import without


def fit(run: RunContext, row: GeneratorRow, name: str = "fit") -> Stage:
    """A row's generator, fitted and saved."""

    def work(scratch: Path) -> None:
        _fitted(run, row, scratch).save(run.path(row.fitted))

    matched = run.drawn_files(run.main) if row.generator.matches else []
    settings = _settings(row)
    if matched:
        settings |= dict(*run.recalibrating)
    return Stage(name, settings, ["zoo", *matched], [row.fitted], work, chain=row.prefix)


def _settings(row: GeneratorRow) -> dict[str, Any]:
    """What decides the outcome of a fit."""
    if row.digest is not None:
        return {"fitted": row.digest}
    return what_is_fitted(without(plain(row.generator), row.generator.sampling))


def _fitted(run: RunContext, row: GeneratorRow, scratch: Path) -> Generator:
    """The row's generator as it has learnt the zoo; as it was handed in, if it was fitted then."""
    if row.digest is not None:
        return row.generator
    if run.recalibrating:
        _ = run.recalibration  # refuses a selection without statistics, before anything is learnt
    try:
        context = FitContext(_feedback(run, row), scratch, _reference(run, row))
        return row.generator.fit(run.zoo, context)
    except ConfigError as error:  # e.g. a mean of more members than there are
        raise error.under(row.key) from None


def _reference(run: RunContext, row: GeneratorRow) -> Tensor | None:
    """The main generator's samples, as drawn like the members are as trained, for a baseline that matches them."""
    return run.as_drawn(run.main) if row.generator.matches else None


def _feedback(run: RunContext, row: GeneratorRow) -> Score:
    """Feedback for a fit; on networks as they will be scored, where the generator matches their behaviour."""
    feedback = run.scorer.feedback()
    matching = row.generator.matches and run.recalibrating
    return RecalibratedFeedback(feedback, run.recalibration) if matching else feedback
