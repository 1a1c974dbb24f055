"""A zoo, a run folder or a folder of checkpoints, and its task -> an inspection."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paramdiff.errors import ParamdiffError
from paramdiff.progress import say
from paramdiff.scoring.scorer import Scorer
from paramdiff.tasks.from_artefact import UntrustedError, described_task
from paramdiff.tasks.task import Task
from paramdiff.zoo.alignment import align_zoo
from paramdiff.zoo.checkpoints import HELD
from paramdiff.zoo.diagnostics import Inspection
from paramdiff.zoo.file_groups import MixedCheckpointsError
from paramdiff.zoo.inspection import inspect
from paramdiff.zoo.opening import open_zoo
from paramdiff.zoo.zoo import Zoo


def opened(
    path: str | Path, task: Task | None, select: str | Sequence[str] | None = None, group: int | None = None
) -> tuple[Zoo, list[str]]:
    """The zoo; and where files are of several kinds, these kinds, of which the first is taken."""
    model = task.model() if task else None
    try:
        return open_zoo(path, model, select, group, otherwise=HELD), []
    except MixedCheckpointsError as error:
        if not error.groups[0].fits:  # none of them is of the task's network
            raise
        return open_zoo(path, model, select, 1, otherwise=HELD), [str(g) for g in error.groups]


def network_name(task: Task) -> str:
    """The network that checkpoints of a task are taken for."""
    settings, source = getattr(task, "settings", None), getattr(task, "source", None)
    return getattr(settings, "model", None) or getattr(source, "model", None) or type(task.model()).__name__


def inspected(zoo: Zoo, task: Task | None) -> Inspection:
    """Numbers about a zoo; one that lies in several basins is also aligned, to see whether that helps."""
    facts = inspect(zoo) if task is None else _with_midpoints(zoo, task)
    facts.aligned = facts.aligned or _alignment_of(zoo)
    return facts


def _with_midpoints(zoo: Zoo, task: Task) -> Inspection:
    score, higher = Scorer(task, zoo).training_metric(), task.higher_is_better
    facts = inspect(zoo, score, higher_is_better=higher)
    several = facts.basin is not None and facts.basin.one_basin is False
    if several and not zoo.trajectory and not _alignment_of(zoo):
        tried = align_zoo(zoo, task.model(), auto=False, score=score, higher_is_better=higher)
        facts.aligned = _alignment_of(tried)
        facts.notes += [f"tried here: {note}" for note in tried.about["notes"][len(facts.notes) :]]
    return facts


def _alignment_of(zoo: Zoo) -> dict[str, Any] | None:
    """What is recorded about an alignment of this zoo."""
    return zoo.about.get("aligned")


def own_task(zoo: Zoo) -> Task | None:
    """The task that a collected zoo was made from; None if it cannot be made here, with the reason.

    What a zoo's manifest names is data: code, folders and Hub ids count only where the user typed them.
    """
    settings = zoo.about.get("task")
    if not isinstance(settings, Mapping):
        return None
    try:
        return described_task(settings, zoo.base)
    except UntrustedError as refused:
        say(f"the zoo names {refused.names}, which is not used on the word of a file; midpoints are not scored; "
            f"if you trust it, type it: {refused.typed}")  # fmt: skip
    except ParamdiffError as error:
        say(f"the zoo's own task is not available here ({error}); midpoints are not scored")
    return None
