"""The types of the JSON files of a finished run folder; everything that reads them goes through here.

Keys without which there is no page are required; any other may be missing or null. Keys that are not named are left as
they are. ``results.json`` is described where it is written: :mod:`paramdiff.evaluation.results_schema`.
"""

from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from paramdiff.errors import CheckpointError, RunFolderError
from paramdiff.evaluation.results_schema import SCHEMA, Count, Number, Pair, Results, with_present_names
from paramdiff.files import read_json
from paramdiff.validation import lenient, typed

PRINTED = (
    "experiment", "generator", "task.metric", "zoo.k", "zoo.dim", "verdict.class", "verdict.why", "timings_s.total",
    "models.*.n", "models.*.test.best", "models.*.test.mean", "models.*.test.median", "models.*.test.worst",
    "models.*.selected.test", "models.*.selected.test_ci95", "models.*.similarity.within",
    "models.*.similarity.to_zoo_mean", "models.*.similarity.to_zoo_max_mean",
)  # fmt: skip
"""Keys of ``results.json`` that the table on the terminal needs; their values may be null unless they are a block."""

LENIENT: Any = lenient(Results)


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
    """``evaluation/training.json``: the step, seconds and score of every point."""

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
    "sweep.json": Sweep, "evaluation/training.json": Training,
    "generator/config.json": Generated, "generator/generator.json": Generated,
}  # fmt: skip
"""Types of the other JSON files of a run folder."""


SUBFOLDER, FORMERLY = "evaluation/", "study/"
"""Where a run folder has what only figures and comparisons need, and what the version before called it."""


def place(folder: Path, name: str) -> Path:
    """Where a file of a run folder lies, in this version's or in the one before."""
    path = folder / name
    if path.exists() or not name.startswith(SUBFOLDER):
        return path
    former = folder / name.replace(SUBFOLDER, FORMERLY, 1)
    return former if former.exists() else path


def adopt(folder: Path) -> None:
    """Give the subfolder of the version before its present name."""
    if (folder / FORMERLY).is_dir() and not (folder / SUBFOLDER).exists():
        (folder / FORMERLY).rename(folder / SUBFOLDER)


def read_file(folder: Path, name: str) -> Any:
    """A JSON file of a run folder with its type.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    return typed(
        read_json(place(folder, name)),
        KINDS[name],
        str(folder / name),
        remedy="remove it, or run its stage again",
    )


def read_manifest(path: Path) -> Manifest:
    """``manifest.json`` of a run, with this version's names of files.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    manifest = typed(read_json(path), Manifest, str(path))
    for stage in manifest["stages"].values():
        for files in (stage.get("makes"), stage.get("keeps")):
            _rename(files or {})
    return manifest


def _rename(files: dict[str, Any]) -> None:
    """Former names of files become the present ones."""
    for name in [name for name in files if name.startswith(FORMERLY)]:
        files[name.replace(FORMERLY, SUBFOLDER, 1)] = files.pop(name)


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
        results: Results = typed(with_present_names(found), LENIENT, str(path))
        for key in PRINTED if printed else ():
            _require(results, key, str(path))
        return results
    except CheckpointError as error:
        raise RunFolderError(
            error.came, expected=error.expected or "the results of a run", remedy=redo
        ) from None


def _require(block: Any, key: str, source: str, before: str = "") -> None:
    """Raise :class:`CheckpointError` unless a dotted key is there; ``*`` stands for every item of a list."""
    name, _, rest = key.partition(".")
    if name == "*":
        for number, item in enumerate(block):
            _require(item, rest, source, f"{before}{number}.")
        return
    if name not in block or (rest and block[name] is None):
        raise CheckpointError(f"{source}: {before}{name} is missing", expected="a value")
    if rest:
        _require(block[name], rest, source, f"{before}{name}.")
