"""Collect: the zoo, aligned where the settings want it and it helps; disk space is checked first."""

from contextlib import nullcontext
from pathlib import Path

from paramdiff.collectors.learning_curve import CURVE
from paramdiff.distributed import on_main_process
from paramdiff.files import read_json, write_json
from paramdiff.progress import outlook, say
from paramdiff.runs.context import RunContext
from paramdiff.runs.manifest import Stage
from paramdiff.runs.resource_estimate import ResourceEstimate, blank_zoo
from paramdiff.scoring.scorer import Scorer
from paramdiff.zoo.alignment import align_zoo
from paramdiff.zoo.zoo import Zoo

TRAINING = "evaluation/training.json"
"""The curve of the training of one network, if the run trained any (:mod:`paramdiff.collectors.learning_curve`)."""


def collect(run: RunContext) -> Stage:
    """The zoo, from the plan's collector."""

    def work(scratch: Path) -> None:
        zoo = _collected(run, scratch)
        zoo.about["task"] = run.settings["task"]
        zoo.require_usable()
        zoo = _aligned(run, zoo)
        for note in zoo.about.get("notes", []):
            say(f"  {note}")
        on_main_process(lambda: _keep(run, zoo, scratch / CURVE))

    settings = [run.settings["task"], run.settings["zoo"]]
    return Stage("collect", settings, [], ["zoo"], work, shared=True)


def _collected(run: RunContext, scratch: Path) -> Zoo:
    """The members, after a check that the run fits on the disk: before they are made, or else as soon as they are."""
    samples = (run.plan.n, len(run.rows))
    needs = ResourceEstimate.of(run.plan.zoo, run.task, *samples)
    if needs is not None:
        _require_room(run, needs)
    with outlook(lambda: needs.outlook(_blank_scorer(run))) if needs else nullcontext():
        zoo = run.plan.zoo.collect(run.task, scratch, run.device)
    if needs is None:
        _require_room(run, ResourceEstimate.of_zoo(zoo, *samples))
    return zoo


def _require_room(run: RunContext, needs: ResourceEstimate) -> None:
    on_main_process(lambda: needs.require_room(run.folder.path))


def _blank_scorer(run: RunContext) -> Scorer:
    """A scorer of networks like those to come, before there is a zoo."""
    select = str(getattr(run.plan.zoo, "select", "all"))
    return Scorer(run.task, blank_zoo(run.task, select), run.device, precision=run.plan.precision)


def _aligned(run: RunContext, zoo: Zoo) -> Zoo:
    """The zoo with its hidden units in a common order, where ``zoo.align`` asks for it and it helps."""
    wanted, task = run.plan.zoo.align, run.task
    if wanted == "false":
        return zoo
    return align_zoo(
        zoo, task.model(), auto=wanted == "auto", score=Scorer(task, zoo, run.device).training_metric(),
        higher_is_better=task.higher_is_better, seed=run.plan.seed,
    )  # fmt: skip


def _keep(run: RunContext, zoo: Zoo, curve: Path) -> None:
    zoo.save(run.path("zoo"))
    if curve.exists():
        write_json(run.path(TRAINING), read_json(curve))
