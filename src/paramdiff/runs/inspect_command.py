"""``paramdiff inspect PATH``: what a zoo holds and whether it is likely to work, on the terminal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paramdiff.errors import ConfigError, ParamdiffError
from paramdiff.runs.config import build
from paramdiff.runs.console import SafeConsole, bold
from paramdiff.runs.inspecting import inspected, network_name, opened, own_task
from paramdiff.runs.launch import composed
from paramdiff.runs.recipe_checks import require_readable_folder
from paramdiff.runs.text_table import TextTable
from paramdiff.tasks import make_task
from paramdiff.tasks.task import Task
from paramdiff.zoo.diagnostics import Inspection


@dataclass
class Request:
    """The words of ``paramdiff inspect``."""

    path: str
    select: str | None
    task_words: list[str]
    as_json: bool
    group: int | None = None


def inspect_command(words: Sequence[str], *, config_dir: str | None = None, as_json: bool = False) -> int:
    """Inspect a zoo, a run folder or a folder of checkpoints; returns the exit code.

    Args:
        words: a path, and settings: ``select=``, ``group=``, ``task=`` and keys of the task.
        config_dir: a folder with recipes, for the task.
        as_json: print the numbers as JSON.
    """
    request = parse(words, as_json)
    if config_dir is not None:
        require_readable_folder(config_dir)
        request.task_words.insert(0, f"hydra.searchpath=[file://{Path(config_dir).expanduser().resolve()}]")
    task = _named_task(request.task_words)
    zoo, groups = opened(request.path, task, request.select, request.group)
    network = _network(task, request.task_words) if task else ""
    task = task or own_task(zoo)
    facts = inspected(zoo, task)
    facts.groups, facts.network = groups, network
    if request.as_json:
        print(json.dumps(asdict(facts), indent=1))
    else:
        show(facts, request.path, task.metric if task else "score")
    return 0


def _network(task: Task, words: Sequence[str]) -> str:
    """The network that the checkpoints are taken for."""
    name = network_name(task)
    if any(word.lstrip("+").startswith("task.model=") for word in words):
        return name
    return f"{name} (the default of {task.name}; another with task.model=NAME)"


def parse(words: Sequence[str], as_json: bool = False) -> Request:
    """Split the words into the path, the selection and settings of the task.

    Raises:
        ParamdiffError: no path, two paths, or a key that inspect does not know.
    """
    paths: list[str] = []
    found = Request("", None, [], as_json)
    for word in words:
        key, equals, value = word.partition("=")
        if key.lstrip("+").startswith(("task.", "task/")) or (equals and key.lstrip("+") == "task"):
            found.task_words.append(word)
        elif key == "select" and equals:
            found.select = value
        elif key == "group" and equals:
            found.group = _whole(value)
        elif equals and not Path(word).exists():
            raise ConfigError(key, "not a key of inspect", expected="task=, task.KEY=, select= or group=")
        else:
            paths.append(word)
    if len(paths) != 1:
        raise ParamdiffError(f"{len(paths)} paths", expected="one: a zoo, a run folder or checkpoints",
                             remedy="type `paramdiff inspect PATH`")  # fmt: skip
    found.path = paths[0]
    return found


def _whole(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise ConfigError(
            "group", f"{text!r} is not a number", expected="a group of checkpoints, e.g. group=1"
        )
    return int(text)


def _named_task(overrides: list[str]) -> Task | None:
    if not any(word.lstrip("+").startswith("task") for word in overrides):
        return None
    return make_task(build(composed(overrides).task))


def show(facts: Inspection, path: str, metric: str) -> None:
    """Print an inspection for a person: tables, then recommendations."""
    console = SafeConsole()
    size = f"K = {facts.k} checkpoints, D = {facts.dim} parameters, select = {facts.select!r}"
    console.print(bold(path, f": {size}"), soft_wrap=True)
    _tensors(facts).print(console)
    for line in _lines(facts, metric):
        console.print(line, soft_wrap=True)
    console.print("What to expect", style="bold")
    for sentence in facts.recommendations:
        console.print(f"  - {sentence}", soft_wrap=True)


TENSORS_SHOWN = 12


def _tensors(facts: Inspection) -> TextTable:
    left = len(facts.tensors) - TENSORS_SHOWN
    rows = [
        [tensor.name, str(tensor.shape), tensor.dtype, f"{tensor.relative_std:.2%} of its size"]
        for tensor in facts.tensors[:TENSORS_SHOWN]
    ]
    more = [[f"... and {left} more", "", "", ""]] if left > 0 else []
    return TextTable(
        title="",
        headings=["tensor", "shape", "dtype", "variation between checkpoints"],
        rows=[*rows, *more],
    )


def _lines(facts: Inspection, metric: str) -> list[str]:
    lines = [f"network:    {facts.network}"] if facts.network else []
    if facts.groups:
        lines.append(f"files:      of {len(facts.groups)} kinds; the first is taken, another with group=2")
        lines += [f"            ({i}) {text}" for i, text in enumerate(facts.groups, start=1)]
    lines.append(
        f"members:    {'consecutive steps of one training' if facts.trajectory else 'not one trajectory'}"
    )
    lines.append(f"duplicates: {len(facts.duplicates) or 'none'}{_some(facts.duplicates)}")
    lines.append(f"near ones:  {len(facts.near_duplicates) or 'none'}{_some(facts.near_duplicates)}")
    bad = [f"member {member} in {name}" for member, name in facts.nonfinite[:3]]
    lines.append(f"NaN or Inf: {', '.join(bad) or 'none'}")
    lines.append(f"constant:   {facts.constant:.1%} of the coordinates")
    if facts.spectrum:
        s = facts.spectrum
        lines.append(
            f"spectrum:   90% of the variation in {s.components_90} components, 99% in {s.components_99}; "
            f"effective dimension {s.participation_ratio:.1f}"
        )
    for name, scores in facts.scores.items():
        spread = f"mean {scores.mean:.4f}, {scores.least:.4f} to {scores.most:.4f}"
        lines.append(f"{name + ' score:':<11} {spread}, {scores.known} known")
    if facts.basin:
        b = facts.basin
        verdict = {True: "one basin", False: "several basins", None: "unknown"}[b.one_basin]
        lines.append(
            f"midpoints:  {metric} {_number(b.midpoints)} between members of {_number(b.members)}: {verdict}"
        )
    else:
        lines.append("midpoints:  not scored: that needs the data (task=NAME)")
    lines += _alignment(facts.aligned, metric)
    return lines + [f"note:       {note}" for note in facts.notes]


def _alignment(aligned: Mapping[str, Any] | None, metric: str) -> list[str]:
    """What weight matching does, or did, to the scores of midpoints."""
    if aligned is None:
        return []
    done = f"aligned:    {aligned['groups']} of {aligned['of']} groups of hidden units"
    if not (aligned["before"] and aligned["after"]):
        return [done]
    before, after = (
        f"{_number(aligned[key]['midpoints'])} (barrier {_number(aligned[key]['barrier'])})"
        for key in ("before", "after")
    )
    return [f"{done}; midpoints: {metric} {before} before, {after} after"]


def _some(members: list[int]) -> str:
    return (
        f" (members {', '.join(map(str, members[:5]))}{', ...' if len(members) > 5 else ''})"
        if members
        else ""
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
