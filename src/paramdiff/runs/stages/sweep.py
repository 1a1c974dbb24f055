"""``paramdiff sweep-temperature``: every generator's trade-off between accuracy and diversity, as a curve.

A generator with a *knob* (``contraction`` of latent generators, ``scale`` of Gaussians, ``amplitude`` of noise,
``k`` of means) is sampled at several of its values, without fitting again, and its samples are scored on the test
data. Every value is a stage of its own, so that a sweep that was killed goes on at the next value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paramdiff.distributed import on_main_process
from paramdiff.evaluation.ensembles import all_groups
from paramdiff.evaluation.tradeoff import point
from paramdiff.files import read_json, write_json
from paramdiff.generators.guidance import without_guidance
from paramdiff.progress import say
from paramdiff.runs.context import RunContext
from paramdiff.runs.manifest import Stage
from paramdiff.runs.plan import SweepConfig
from paramdiff.runs.rows import GeneratorRow
from paramdiff.runs.stages.sample import draw
from paramdiff.scoring.scores import Scores

SCHEMA = 1
SWEEP = "sweep"
"""Name of its stages."""


@dataclass(frozen=True)
class KnobCurve:
    """One generator at several values of its knob.

    Attributes:
        entry: the generator and its place in the run.
        label: its name without a value of the knob.
        knob: name of the setting that is turned.
        values: what it is set to.
    """

    entry: GeneratorRow
    label: str
    knob: str
    values: Sequence[float]

    def file(self, value: float) -> str:
        return f"sweep/{self.entry.name}/{value:g}.json"


def curves_of(entries: Sequence[GeneratorRow], sweep: SweepConfig, k: int) -> list[KnobCurve]:
    """The generators that have a knob; ``k`` is the size of the zoo, of which no mean has more members."""
    members = [value for value in sweep.members if value <= k]
    names = [entry.generator.name for entry in entries]
    return [
        KnobCurve(
            entry, entry.name if names.count(entry.generator.name) > 1 else entry.generator.name, knob,
            members if knob == "k" else sweep.temperatures,
        )
        for entry in entries
        if (knob := entry.generator.knob) is not None
    ]  # fmt: skip


def sweep_stages(run: RunContext) -> list[Stage]:
    """A stage for every value of every curve, and one that puts them together in ``sweep.json``."""
    curves = curves_of(run.rows, run.plan.sweep, run.zoo.k)
    points = [_point(run, curve, value) for curve in curves for value in curve.values]
    return [*points, _gather(run, curves)]


def _point(run: RunContext, curve: KnobCurve, value: float) -> Stage:
    entry, seed, n = curve.entry, run.plan.seed, min(run.plan.sweep.n, run.plan.n)
    settings = entry.sampling | {curve.knob: value}

    def work(scratch: Path) -> None:
        say(f"  {curve.label} at {curve.knob} {value:g}")
        samples = on_main_process(lambda: draw(run, entry, n, settings))
        scores = run.scorer.score(samples, "test", all_groups(n))
        on_main_process(lambda: keep(scores))

    def keep(scores: Scores) -> None:
        wrong, higher = run.originals.scored.wrong_test, run.task.higher_is_better
        found = point(scores, wrong, higher)
        write_json(run.path(curve.file(value)), {"value": value, **found})

    return Stage(
        f"{SWEEP}:{entry.name}:{value:g}",
        [n, seed, without_guidance(settings), run.settings["task"], *run.recalibrating],
        ["zoo", entry.fitted, *run.reference_files], [curve.file(value)], work, shared=True,
    )  # fmt: skip


def _gather(run: RunContext, curves: Sequence[KnobCurve]) -> Stage:
    facts = [{"name": c.entry.name, "label": c.label, "knob": c.knob} for c in curves]
    n = min(run.plan.sweep.n, run.plan.n)

    def work(scratch: Path) -> None:
        points = [[read_json(run.path(c.file(value))) for value in c.values] for c in curves]
        found = [{**about, "points": own} for about, own in zip(facts, points, strict=True)]
        write_json(run.path("sweep.json"), {"schema": SCHEMA, "n": n, "curves": found})

    needs = [c.file(value) for c in curves for value in c.values]
    return Stage(SWEEP, [n, facts], needs, ["sweep.json"], work)
