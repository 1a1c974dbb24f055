"""The zoo's own rows: the members as samples are compared with them, and the user's networks as they were.

Samples are compared with members that were treated as they were. Where samples are recalibrated, so are the members
of the reference (``original-recalibrated``), and the row ``original`` shows them as they were trained. All rows but
one have the frozen rest of the zoo; where the checkpoints of an imported zoo differ there, ``original-as-saved`` is of
the networks exactly as they are in their files.
"""

from pathlib import Path
from typing import Any

from paramdiff.distributed import on_main_process
from paramdiff.errors import CheckpointError
from paramdiff.evaluation.comparison import Scored
from paramdiff.evaluation.cost import cost_of_members
from paramdiff.evaluation.results_schema import Model
from paramdiff.evaluation.summary import AS_SAVED, ORIGINAL, RECALIBRATED, arrays, spread, summarise
from paramdiff.files import save_rows
from paramdiff.progress import say
from paramdiff.runs.context import RECALIBRATED_MEMBERS, RunContext, scores_of
from paramdiff.runs.manifest import Stage
from paramdiff.runs.stages.score import keep_scores, measure
from paramdiff.scoring.saved_networks import score_members
from paramdiff.zoo.saved_networks import why_unreadable


def score_files(run: RunContext) -> list[str]:
    """Scores of all rows of the zoo that are there."""
    return [scores_of(ORIGINAL), *([scores_of(AS_SAVED)] if _has_as_saved(run) else [])]


def stages(run: RunContext) -> list[Stage]:
    """Scores of the members as they were trained and, where samples are recalibrated, recalibrated."""
    as_trained = _score(run, ORIGINAL, lambda: run.zoo, ["zoo"])
    if not run.recalibrating:
        return [as_trained]

    def recalibrate(scratch: Path) -> None:
        save_rows(
            run.path(RECALIBRATED_MEMBERS), "vectors", run.recalibration.each(run.zoo.vectors),
            (run.zoo.k, run.zoo.dim), run.zoo.vectors.dtype,
        )  # fmt: skip

    measured = Stage(
        f"score:{ORIGINAL}:recalibrate", run.recalibrating, ["zoo"], [RECALIBRATED_MEMBERS], recalibrate
    )
    return [
        as_trained,
        measured,
        _score(run, RECALIBRATED, run.recalibrated_zoo, ["zoo", RECALIBRATED_MEMBERS]),
    ]


def score_as_saved(run: RunContext) -> None:
    """Score the checkpoints as they are in their files, if the zoo's members differ from them; a note says so where
    that is impossible."""
    if not run.zoo.frozen_differences:
        return
    stage = _as_saved(run)
    if run.folder.is_current(stage):
        return
    try:
        run.folder.run(stage)
    except CheckpointError as error:
        say(f"  {AS_SAVED} is left out: {error}")


def rows(run: RunContext) -> list[Model]:
    """Rows of the table, the members as they were trained first."""
    as_trained = run.originals
    if run.recalibrating:
        as_trained = run.as_originals(run.zoo, run.scored(scores_of(ORIGINAL)))
    found = [summarise(ORIGINAL, as_trained.own, as_trained)]
    if run.recalibrating:
        before = spread(as_trained.scored.test, as_trained.higher_is_better)
        row = summarise(RECALIBRATED, run.originals.own, run.originals)
        row["recalibration"] = {"items": run.recalibration.seen, "before": before}
        found.append(row)
    if _has_as_saved(run):
        members = run.as_originals(run.zoo, run.scored(scores_of(AS_SAVED)))
        found.append(summarise(AS_SAVED, members.own, as_trained))
    for row in found:
        row["cost"] = cost_of_members(run.zoo_cost)
    return found


def notes(run: RunContext) -> list[str]:
    """How far the networks in the files are from the originals of the table, in a sentence."""
    if not run.zoo.frozen_differences:
        return []
    if not _has_as_saved(run):
        why = why_unreadable(run.zoo) or "they could not be read when the originals were scored"
        return [f"the checkpoints could not be scored as they are in their files: {why}"]
    ours, theirs = (float(run.scored(scores_of(name)).test.mean()) for name in (ORIGINAL, AS_SAVED))
    return [
        f"the checkpoints as they are in their files have a mean test {run.task.metric} of {theirs:.4g}; with the "
        f"frozen rest of the first, as the originals and samples here, {ours:.4g} ({ours - theirs:+.2g})"
    ]


def _score(run: RunContext, name: str, zoo: Any, needs: list[str]) -> Stage:
    def work(scratch: Path) -> None:
        members = zoo()
        say(f"  scoring {name}")
        scored = measure(run.scorer, members.vectors)
        keep_scores(run, scores_of(name), scored, lambda: arrays(run.as_originals(members, scored).own))

    return Stage(f"score:{name}", run.settings["task"], needs, [scores_of(name)], work, shared=True)


def _as_saved(run: RunContext) -> Stage:
    def work(scratch: Path) -> None:
        say(f"  scoring {AS_SAVED}")
        scored = Scored.of(*score_members(run.scorer, run.zoo))
        keep_scores(run, scores_of(AS_SAVED), scored, lambda: arrays(run.as_originals(run.zoo, scored).own))

    return Stage(f"score:{AS_SAVED}", run.settings["task"], ["zoo"], [scores_of(AS_SAVED)], work, shared=True)


def _has_as_saved(run: RunContext) -> bool:
    return bool(run.zoo.frozen_differences) and on_main_process(lambda: run.folder.is_current(_as_saved(run)))
