"""Types of what a finished run folder says in JSON; everything that reads one goes through here.

Keys without which there is no page are required; any other may be missing or null. Keys that are not named here are
left as they are.
"""

from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from paramdiff.errors import CheckpointError, RunFolderError
from paramdiff.files import read_json
from paramdiff.validation import Name, typed

SCHEMA = 1
"""Of ``results.json``."""

Number = float | None
Pair = Annotated[list[Number], lambda ends: len(ends) == 2, "two numbers"] | None
Count = Annotated[int, lambda n: 0 <= n <= 10**9, "a number of things"] | None


class Spread(TypedDict, total=False):
    best: Number
    mean: Number
    median: Number
    worst: Number
    std: Number


class Versus(TypedDict, total=False):
    difference: Number
    ci95: Pair


class Selected(TypedDict, total=False):
    index: Count
    train: Number
    test: Number
    test_ci95: Pair
    vs_original: Versus | None


class Ensemble(TypedDict):
    m: Count
    groups: NotRequired[Count]
    accuracy: NotRequired[Number]
    nll: NotRequired[Number]
    ece: NotRequired[Number]
    disagreement: NotRequired[Number]
    vs_original: NotRequired[dict[str, Versus | None] | None]


class Recalibration(TypedDict, total=False):
    items: Count
    before: Spread | None


class Model(TypedDict):
    name: Name
    label: NotRequired[str | None]
    n: NotRequired[Count]
    train: NotRequired[Spread | None]
    test: NotRequired[Spread | None]
    selected: NotRequired[Selected | None]
    similarity: NotRequired[dict[str, Number] | None]
    distance: NotRequired[dict[str, Number] | None]
    ensembles: NotRequired[list[Ensemble] | None]
    recalibration: NotRequired[Recalibration | None]


class TaskFacts(TypedDict, total=False):
    name: str | None
    metric: str | None
    higher_is_better: bool | None
    chance: Number


class ZooFacts(TypedDict, total=False):
    k: Count
    dim: Count
    select: str | list[str] | None
    seed: int | None
    way: str | None
    trajectory: bool | None
    tensors: list[str] | None


class Finding(TypedDict, total=False):
    passed: bool | None
    why: str | None
    gap: Number
    members: Number
    held_out: Number
    reconstructed: Number
    loss: Number
    tolerance: Number
    explained_variance: Number
    explained_variance_train: Number


VerdictFacts = TypedDict("VerdictFacts", {"class": str | None, "why": str | None}, total=False)


class Machine(TypedDict, total=False):
    cpu: str | None
    cores: int | None
    torch: str | None
    device: str | None


class Results(TypedDict):
    """``results.json``."""

    schema: int
    models: list[Model]
    experiment: NotRequired[str | None]
    generator: NotRequired[str | None]
    command: NotRequired[str | None]
    seed: NotRequired[int | None]
    task: NotRequired[TaskFacts | None]
    zoo: NotRequired[ZooFacts | None]
    n_items: NotRequired[dict[str, Count] | None]
    verdict: NotRequired[VerdictFacts | None]
    gate: NotRequired[Finding | None]
    denoising: NotRequired[Finding | None]
    notes: NotRequired[list[str] | None]
    timings_s: NotRequired[dict[str, Number] | None]
    peak_rss_bytes: NotRequired[Number]
    machine: NotRequired[Machine | None]


class WholeSpread(TypedDict):
    best: Number
    mean: Number
    median: Number
    worst: Number


class WholeSelected(TypedDict):
    test: Number
    test_ci95: Pair


class WholeAlike(TypedDict):
    within: Number
    to_zoo_mean: Number
    to_zoo_max_mean: Number


class WholeZoo(TypedDict):
    k: Count
    dim: Count


class WholeTask(TypedDict):
    metric: str


class WholeRow(TypedDict):
    name: Name
    n: Count
    test: WholeSpread
    selected: WholeSelected
    similarity: WholeAlike


class WholeFinding(TypedDict):
    passed: bool | None
    why: str | None


WholeVerdict = TypedDict("WholeVerdict", {"class": str | None, "why": str | None})


class Printed(TypedDict):
    """What the table on the terminal needs of ``results.json``: nothing of it may be missing."""

    experiment: str | None
    generator: str
    task: WholeTask
    zoo: WholeZoo
    models: list[WholeRow]
    verdict: WholeVerdict
    gate: NotRequired[WholeFinding | None]
    notes: NotRequired[list[str]]
    timings_s: Annotated[
        dict[str, float], lambda seconds: "total" in seconds, "seconds by stage and in total"
    ]


class Point(TypedDict):
    value: float
    n: Annotated[int, lambda n: n >= 1, "at least 1"]
    within: NotRequired[Number]
    test_mean: NotRequired[Number]
    test_std: NotRequired[Number]
    test_median: NotRequired[Number]
    test_ci95: NotRequired[Pair]
    to_zoo_mean: NotRequired[Number]
    to_zoo_max_mean: NotRequired[Number]


class SweptCurve(TypedDict):
    name: str
    label: str
    knob: str
    points: list[Point]


class Sweep(TypedDict):
    """``sweep.json``."""

    n: Count
    curves: list[SweptCurve]


class Training(TypedDict):
    """``study/training.json``: the step, seconds and score of every point."""

    items: Count
    points: list[tuple[int, float, Number]]


class Generated(TypedDict):
    """``generator/config.json``, as far as the report reads it; the version before called it ``generator.json``."""

    generator: str


class Done(TypedDict):
    """A stage in ``manifest.json``."""

    fingerprint: NotRequired[str]
    seconds: float
    peak_rss_bytes: NotRequired[int]
    makes: NotRequired[dict[str, str]]
    keeps: NotRequired[dict[str, Any]]


class Manifest(TypedDict):
    """``manifest.json`` of a run."""

    stages: dict[str, Done]
    settings: NotRequired[dict[str, Any]]


KINDS: dict[str, Any] = {
    "sweep.json": Sweep, "study/training.json": Training,
    "generator/config.json": Generated, "generator/generator.json": Generated,
}  # fmt: skip
"""Types of the other JSON files of a run folder."""


def read_file(folder: Path, name: str) -> Any:
    """A JSON file of a run folder with its type.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    return typed(
        read_json(folder / name), KINDS[name], str(folder / name), remedy="remove it, or run its stage again"
    )


def read_manifest(path: Path) -> Manifest:
    """``manifest.json`` of a run.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    return typed(read_json(path), Manifest, str(path))


def read_typed_results(path: Path, redo: str, printed: bool = False) -> Results:
    """``results.json``, with the remedy ``redo`` for what is wrong with it.

    Args:
        path: of the file.
        redo: a remedy.
        printed: whether what a table needs has to be there.

    Raises:
        RunFolderError: it is damaged, or of another version.
    """
    try:
        found = read_json(path)
        schema = found.get("schema") if isinstance(found, dict) else None
        if schema != SCHEMA:
            raise CheckpointError(f"{path} has schema {str(schema)[:20]}", expected=f"schema {SCHEMA}")
        if printed:
            typed(found, Printed, str(path))
        return typed(found, Results, str(path))
    except CheckpointError as error:
        raise RunFolderError(
            error.came, expected=error.expected or "the results of a run", remedy=redo
        ) from None
