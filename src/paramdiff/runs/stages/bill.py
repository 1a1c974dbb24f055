"""Bill: networks of several starts trained for more steps and scored, to compare them at an equal bill.

The starts are an untrained network, the average, a random member, and the samples of every generator of the run. Every
start is a stage of its own, so that a run that was killed goes on at the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from paramdiff.distributed import on_main_process
from paramdiff.evaluation.bill import (
    AVERAGE,
    MAIN,
    MEMBER,
    OTHER,
    SCRATCH,
    TWIN,
    Budget,
    Curve,
    Point,
    bill_of,
    kept,
    split,
)
from paramdiff.evaluation.cost import cost_of_samples
from paramdiff.evaluation.ensembles import all_groups
from paramdiff.evaluation.results_schema import Bill, Cost
from paramdiff.files import load_tensors, save_tensors
from paramdiff.generators.averages import Average
from paramdiff.generators.context import FitContext
from paramdiff.generators.fine_tuned import FineTuned
from paramdiff.generators.further_trained import FurtherTrained
from paramdiff.progress import say
from paramdiff.runs.context import RunContext
from paramdiff.runs.manifest import Stage
from paramdiff.runs.rows import GeneratorRow
from paramdiff.runs.stages.costs import cost_of_row

PLAIN = {
    "from scratch": ("random", SCRATCH),
    "average": ("average", AVERAGE),
    "random original": ("member", MEMBER),
}
"""Starts that are no generator's samples, and what they are called."""


@dataclass(frozen=True)
class Start:
    """Where a curve begins.

    Attributes:
        name: in words.
        kind: of :mod:`paramdiff.evaluation.bill`.
        start: setting of the generator that trains further.
        row: whose samples they are; None for the plain ones.
    """

    name: str
    kind: str
    start: str
    row: GeneratorRow | None = None

    @property
    def file(self) -> str:
        return f"bill/{self.row.name if self.row else self.start}.safetensors"


def starts_of(run: RunContext) -> list[Start]:
    """All starts; none if the plan compares no bills. Rows that are trained further already, and the average, are not
    trained once more."""
    if not run.plan.bill.steps:
        return []
    rows = [row for row in run.rows if not isinstance(row.generator, (Average, FineTuned, FurtherTrained))]
    plain = [Start(name, kind, start) for name, (start, kind) in PLAIN.items()]
    return [*(Start(row.name, _kind(run, row), "samples", row) for row in rows), *plain]


def _kind(run: RunContext, row: GeneratorRow) -> str:
    if row.name == run.main.name:
        return MAIN
    return OTHER if row.generator.members_needed is None else TWIN


def bill_stages(run: RunContext) -> list[Stage]:
    """A stage for every start."""
    return [_stage(run, start) for start in starts_of(run)]


def _stage(run: RunContext, start: Start) -> Stage:
    own, n, seed = run.plan.bill, min(run.plan.bill.n, run.plan.n), run.plan.seed
    row = start.row

    def work(scratch: Path) -> None:
        say(f"  {start.name}, trained further")
        found: dict[str, Tensor] = {}
        for steps in _budget(run).counts(own.steps or [], _cost(run, start)):
            samples = on_main_process(lambda steps=steps: _trained(run, start, steps, n))  # type: ignore[misc]
            scores = run.scorer.score(samples, "test", all_groups(n))
            found |= {f"{steps}.{name}": value for name, value in kept(scores).items()}
        header = run.header("scores of networks trained further, by steps", start.name, n)
        on_main_process(lambda: save_tensors(run.path(start.file), found, header))

    settings = [own.steps, own.lr, own.batch, n, seed, run.plan.n, run.settings["task"], *run.recalibrating]
    samples = [row.fitted, *run.drawn_files(row)] if row else []
    needs = list(dict.fromkeys(["zoo", run.main.fitted, *samples]))
    return Stage(f"compare:bill:{Path(start.file).stem}", settings, needs, [start.file], work, shared=True)


def _trained(run: RunContext, start: Start, steps: int, n: int) -> Tensor:
    """Networks of a start after some steps, as they are used."""
    own, reference = run.plan.bill, None if start.row is None else run.as_drawn(start.row)
    generator = FurtherTrained(start.start, steps, own.lr, own.batch)
    generator.fit(run.zoo, FitContext(reference=reference))
    return run.recalibrated(generator.sample(n, run.plan.seed, context=FitContext(run.scorer.feedback())))


def _cost(run: RunContext, start: Start) -> Cost:
    """Of the networks that a curve starts from."""
    if start.row is not None:
        return cost_of_row(run, start.row)
    return cost_of_samples(run.zoo_cost, run.plan.n, 0, 0, FurtherTrained(start.start).members_needed)


def _budget(run: RunContext) -> Budget:
    return Budget.of(cost_of_row(run, run.main), run.plan.bill.steps or [0])


def files(run: RunContext) -> list[str]:
    """What :func:`billed` reads; nothing unless all of it is up to date."""
    stages = bill_stages(run)
    current = bool(stages) and all(run.folder.is_current(stage) for stage in stages)
    return [file for stage in stages for file in stage.makes] if current else []


def billed(run: RunContext) -> Bill:
    """The record for ``results.json``."""
    curves = [Curve(start.name, start.kind, _points(run, start)) for start in starts_of(run)]
    return bill_of(curves, _budget(run), run.task.metric, run.task.higher_is_better)


def _points(run: RunContext, start: Start) -> Sequence[Point]:
    cost, found = _cost(run, start), split(load_tensors(run.path(start.file)))
    return [Point.read(steps, cost, tensors) for steps, tensors in found.items()]
