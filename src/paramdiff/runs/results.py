"""``results.json``, the record of a run that other programs read, from the scores on disk."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from paramdiff.chance import Chance
from paramdiff.evaluation.comparison import Comparison, Originals
from paramdiff.evaluation.evidence import Evidence, barely_trained
from paramdiff.evaluation.results_schema import Cost, Model, Recalibration, TaskInfo, ZooInfo
from paramdiff.evaluation.results_schema import Finding as FindingFacts
from paramdiff.evaluation.summary import summarise
from paramdiff.evaluation.verdict import Verdict, verdict
from paramdiff.generators.generator import Generator
from paramdiff.tasks.task import Task
from paramdiff.zoo.zoo import Zoo

CURVE_POINTS = 1000
"""Losses kept per curve in ``stats.jsonl``: more than a figure can show."""


@dataclass(frozen=True)
class Finding:
    """One generator of a run: fitted, with its samples compared to the zoo.

    Attributes:
        recalibration: if their running statistics were measured anew, on how many ``items`` of training data,
            and the test scores ``before``, as in a row's ``test``.
        cost: gradient steps per sample.
    """

    name: str
    generator: Generator
    comparison: Comparison
    recalibration: Recalibration | None = None
    cost: Cost | None = None


def row_of(finding: Finding, originals: Originals) -> Model:
    """A generator's row of the table."""
    row = summarise(finding.name, finding.comparison, originals)
    if finding.cost is not None:
        row["cost"] = finding.cost
    if finding.recalibration is not None:
        row["recalibration"] = finding.recalibration
    return row


def judge(
    task: Task, originals: Originals, main: Finding, others: Sequence[Finding], chance: Chance | None = None
) -> Verdict:
    """The verdict on the main generator, with plain averages at hand for comparison.

    Where the originals themselves are near chance, the sentence says so first.
    """
    averages = {
        _in_words(f.generator): f.comparison for f in others if f.generator.name.startswith("average")
    }
    gap = (note_of(main.generator, "denoising") or {}).get("gap")
    level = chance.level if chance else task.chance
    found = verdict(Evidence.of(main.comparison, originals, averages, task.metric, level, gap))
    untrained = barely_trained(originals, chance, task.metric)
    return replace(found, why=f"{_capital(untrained)}. {found.why}") if untrained else found


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _in_words(average: Generator) -> str:
    k = getattr(average, "k", None)
    return f"the average of {k} random member{'s' if k > 1 else ''}" if k else "the average of all members"


def note_of(generator: Generator, name: str) -> FindingFacts | None:
    """A note that a generator made while fitting, with None for what JSON cannot hold.

    ``reconstruction_check``: what the check found. ``denoising``: the loss on ``members`` and on ``held_out`` ones, and
    their ``gap``.
    """
    note = generator.notes.get(name)
    strict = None if note is None else {key: _strict(value) for key, value in note.items()}
    return cast(FindingFacts | None, strict)


def zoo_info(zoo: Zoo, settings: Mapping[str, Any]) -> ZooInfo:
    return {
        "k": zoo.k, "dim": zoo.dim, "select": zoo.spec.select, "seed": settings.get("seed", 0),
        "collector": zoo.about.get("collector"), "trajectory": zoo.trajectory, "tensors": zoo.spec.names,
        "training": zoo.about.get("training"),
    }  # fmt: skip


def notes(zoo: Zoo, originals: Originals, chance: Chance | None, metric: str) -> list[str]:
    """Notes from when the zoo was made; and one if its members are near chance."""
    found = zoo.about.get("near_chance") or barely_trained(originals, chance, metric)
    return [*zoo.about.get("notes", []), *([str(found)] if found else [])]


def task_info(task: Task, chance: Chance | None = None) -> TaskInfo:
    return {
        "name": task.name,
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "chance": chance.level if chance else task.chance,
    }


def loss_lines(curves: Iterable[tuple[str, str, Sequence[float]]]) -> str:
    """``stats.jsonl``: one line per kept step of (stage, name, losses)."""
    lines = []
    for stage, name, losses in curves:
        stride = max(1, math.ceil(len(losses) / CURVE_POINTS))
        for step in range(0, len(losses), stride):
            lines.append(json.dumps({"stage": stage, "name": name, "step": step, "loss": losses[step]}))
    return "".join(f"{line}\n" for line in lines)


def _strict(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
