"""A finished run folder as plain values, with every gap filled by ``None``.

Reads ``results.json`` (required), ``config.yaml``, ``scores/<row>.safetensors``, ``stats.jsonl``, and, when they are
first used, ``zoo/`` and the samples of every row (each optional: what needs it is left out of the page, with one line
saying why).
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from paramdiff.errors import ParamdiffError, RunFolderError
from paramdiff.evaluation.results_schema import Results
from paramdiff.evaluation.summary import ORIGINAL, ORIGINALS
from paramdiff.files import load_metadata, load_tensors
from paramdiff.progress import say
from paramdiff.reports.schema import place, read_file, read_typed_results
from paramdiff.zoo.zoo import Zoo

T = TypeVar("T")

CONFIG_BYTES, LINES_BYTES = 1 << 20, 1 << 26
"""Of ``config.yaml`` and of ``stats.jsonl`` that are read."""
MOST_STEPS = 10**9
PDIFF = "p-diff"
MEMBERS = "evaluation/recalibrated_originals.safetensors"
SPREAD = ("best", "mean", "median", "worst")
MATRICES = ("iou_within", "iou_between", "wrong_test")
"""Scores that are matrices; all others are one number a network."""
DISTANCE = ("nearest", "residual_to_span", "nearest_ratio", "pairwise_ratio")
ENSEMBLE = ("groups", "accuracy", "nll", "ece", "disagreement", "vs_original")


@dataclass(frozen=True)
class Row:
    """One model of the table: the originals, p-diff, or a generator it is compared with.

    Attributes:
        name: key in ``results.json``; ``label`` is its spelling for people.
        n: networks scored.
        train, test: ``best``, ``mean``, ``median``, ``worst`` of the metric.
        selected: the network chosen on the training set: ``index``, ``train``, ``test``, ``test_ci95``,
            ``vs_original`` (``difference`` and ``ci95``, or None).
        similarity: error-IoU ``within``, ``to_zoo_mean``, ``to_zoo_max_mean``.
        distance: in parameters, ``nearest`` and ``residual_to_span``; over those of distinct members
            ``nearest_ratio`` and ``pairwise_ratio``.
        cost: per network ``gradient_steps``, and ``with_zoo``.
        ensembles: by the number of networks together, what ``results.json`` says of them; may be empty.
        recalibration: ``items``, and the test scores ``before``; both None where statistics were not measured anew.
        scores: per network ``train [n]``, ``test [n]``, and where known ``to_zoo_max [n]``, ``nearest [n]``.
    """

    name: str
    label: str
    n: int
    train: dict[str, Any]
    test: dict[str, Any]
    selected: dict[str, Any]
    similarity: dict[str, Any]
    distance: dict[str, Any]
    cost: dict[str, Any]
    ensembles: dict[int, dict[str, Any]]
    recalibration: dict[str, Any]
    scores: dict[str, Tensor]

    @classmethod
    def read(cls, entry: Mapping[str, Any], folder: Path) -> Self:
        name = str(entry.get("name"))
        return cls(
            name=name, label=str(entry.get("label") or name), n=int(entry.get("n") or 0),
            train=_filled(entry.get("train"), SPREAD), test=_filled(entry.get("test"), SPREAD),
            selected=_filled(entry.get("selected"), ("index", "train", "test", "test_ci95", "vs_original")),
            similarity=_filled(entry.get("similarity"), ("within", "to_zoo_mean", "to_zoo_max_mean")),
            distance=_filled(entry.get("distance"), DISTANCE),
            cost=_filled(entry.get("cost"), ("gradient_steps", "with_zoo")),
            ensembles={one["m"]: _filled(one, ENSEMBLE) for one in entry.get("ensembles") or []},
            recalibration=_filled(entry.get("recalibration"), ("items", "before")),
            scores=_read_scores(folder / "scores" / f"{name}.safetensors"),
        )  # fmt: skip

    def values(self, *names: str) -> list[Float64[Tensor, "m"]] | None:
        """Scores of the networks for which all of these are finite; None where that leaves none."""
        found = [self.scores[name].double() for name in names if name in self.scores]
        if len(found) < len(names) or len({value.shape for value in found}) != 1 or found[0].ndim != 1:
            return None
        finite = torch.stack(found).isfinite().all(0)
        return [value[finite] for value in found] if finite.any() else None


@dataclass(frozen=True)
class LossCurve:
    """Losses of one training, e.g. the autoencoder's."""

    name: str
    steps: list[int]
    losses: list[float]


@dataclass(frozen=True)
class FinishedRun:
    """Everything the page is made from.

    Attributes:
        results: ``results.json`` as it is.
        rows: the models in the order of the table.
        curves: loss curves in the order of training.
        config: the resolved configuration as text, empty if there is none.
        loadable: whether ``samples/best.safetensors`` is there.
    """

    folder: Path
    results: Results
    rows: list[Row]
    curves: list[LossCurve]
    config: str
    loadable: bool

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a run folder.

        Raises:
            RunFolderError: no results.json in it, or one of another schema or without the rows
                ``original`` and ``p-diff``.
        """
        folder = Path(folder)
        results = read_results(folder)
        rows = [Row.read(entry, folder) for entry in results["models"]]
        config = folder / "config.yaml"
        return cls(
            folder=folder, results=results, rows=rows, curves=read_curves(folder / "stats.jsonl"),
            config=_read_text(config, CONFIG_BYTES) if config.is_file() else "",
            loadable=(folder / "samples" / "best.safetensors").is_file(),
        )  # fmt: skip

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    @property
    def originals(self) -> Row:
        """The row of the zoo that samples are compared with: recalibrated, where they are."""
        return self.row(self.results.get("reference") or ORIGINAL)

    @property
    def compared(self) -> list[Row]:
        """The rows without those of the zoo that no sample is compared with."""
        return [row for row in self.rows if row.name not in ORIGINALS or row.name == self.originals.name]

    @property
    def main(self) -> Row:
        """The generator the run is about; p-diff unless ``results.json`` names another."""
        return self.row(self.results.get("generator") or PDIFF)

    @property
    def baselines(self) -> list[Row]:
        return [row for row in self.rows if row.name not in (*ORIGINALS, self.main.name)]

    @property
    def has_similarity(self) -> bool:
        """Whether the task has sets of mistakes to compare."""
        return any(row.similarity["to_zoo_max_mean"] is not None for row in self.rows)

    @property
    def recalibrated(self) -> int | None:
        """Training items on which running statistics of samples were measured anew; None if they were not."""
        return max(
            (row.recalibration["items"] for row in self.rows if row.recalibration["items"]), default=None
        )

    @cached_property
    def zoo(self) -> Zoo | None:
        """The originals' parameters, as samples are compared with them; they stay on disk until they are used."""
        if not (self.folder / "zoo" / "manifest.json").is_file():
            return None
        zoo, members = Zoo.load(self.folder / "zoo"), place(self.folder, MEMBERS)
        if self.originals.name == ORIGINAL or not members.is_file():
            return zoo
        return Zoo(load_tensors(members)["vectors"], zoo.spec, zoo.base, zoo.records, zoo.about)

    def samples(self, row: Row) -> Float[Tensor, "n D"] | None:
        """What a generator drew, memory-mapped; for the originals the zoo itself. None if it was not kept."""
        if row.name == self.originals.name:
            return None if self.zoo is None else self.zoo.vectors
        inside = self.folder if row.name == self.main.name else self.folder / "baselines" / row.name
        path = inside / "samples" / "samples.safetensors"
        return load_tensors(path)["samples"] if path.is_file() else None

    def json(self, name: str) -> Any:
        """A JSON file of the folder; None if there is none, or if it is damaged, which is reported."""
        known = place(self.folder, name).is_file()
        return _if_sound(lambda: read_file(self.folder, name), None) if known else None

    def tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        """A safetensors file of the folder and its header; both empty if there is none, or it is damaged."""
        path = place(self.folder, name)
        nothing: tuple[dict[str, Tensor], dict[str, str]] = {}, {}
        if not path.is_file():
            return nothing
        return _if_sound(lambda: (load_tensors(path), load_metadata(path)), nothing)

    def part(self, name: str, *keys: str) -> dict[str, Any]:
        """A block of ``results.json``, empty where it is missing or null; with at least these keys."""
        block: Any = self.results.get(name)
        return _filled(block, keys)


def _filled(block: Mapping[str, Any] | None, keys: Iterable[str]) -> dict[str, Any]:
    return dict.fromkeys(keys) | dict(block or {})


def read_results(folder: Path, printed: bool = False) -> Results:
    """``results.json`` of a finished run; with all that a table needs, if it is to be ``printed``.

    Raises:
        RunFolderError: there is none, or it is damaged.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise RunFolderError(
            f"{path} does not exist", expected="a finished run folder",
            remedy=f"run `paramdiff compare run_dir={folder}` first, or `paramdiff run` for all stages",
        )  # fmt: skip
    redo = f"remove it and run `paramdiff compare run_dir={folder}` again"
    results = read_typed_results(path, redo, printed)
    names = [entry.get("name") for entry in results.get("models") or []]
    needed = [ORIGINAL, results.get("reference") or ORIGINAL, results.get("generator") or PDIFF]
    missing = [name for name in needed if name not in names]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RunFolderError(f"{path} has two rows {twice[0]!r}", expected="one of each name", remedy=redo)
    if missing:
        raise RunFolderError(
            f"{path} has no row {missing[0]!r}", expected=" and ".join(dict.fromkeys(needed)), remedy=redo
        )
    return results


def _if_sound(read: Callable[[], T], otherwise: T) -> T:
    """What is read; where it is damaged, ``otherwise``, after one line about it: the page can do without."""
    try:
        return read()
    except ParamdiffError as error:
        say(f"  left out of the page: {error}")
        return otherwise


def _read_scores(path: Path) -> dict[str, Tensor]:
    """Scores of single networks; what has another shape than its name says is left out."""
    nothing: dict[str, Tensor] = {}
    found = _if_sound(lambda: load_tensors(path), nothing) if path.is_file() else nothing
    return {
        name: tensor
        for name, tensor in found.items()
        if tensor.ndim == (2 if name in MATRICES else 1) and not tensor.is_complex()
    }


def _read_text(path: Path, most: int) -> str:
    """The first ``most`` bytes; what is no text is shown as such."""
    with path.open("rb") as file:
        return file.read(most).decode("utf-8", "replace")


def read_curves(path: Path) -> list[LossCurve]:
    """Losses per training, from lines ``{"stage", "name", "step", "loss"}``.

    A killed process can leave half a line, and a resumed one repeats steps: lines that cannot be read
    are skipped, and a step counts as it was written last.
    """
    losses: dict[tuple[str, str], dict[int, float]] = {}
    lines = _read_text(path, LINES_BYTES).splitlines() if path.is_file() else []
    for line in lines:
        try:
            entry = json.loads(line)
            key, step, loss = (
                (str(entry["name"]), str(entry["stage"])),
                int(entry["step"]),
                float(entry["loss"]),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        if math.isfinite(loss) and 0 <= step <= MOST_STEPS:
            losses.setdefault(key, {})[step] = loss
    names = [name for name, _ in losses]
    return [
        LossCurve(
            name if names.count(name) == 1 else f"{name}, {stage}",
            sorted(curve),
            [curve[step] for step in sorted(curve)],
        )
        for (name, stage), curve in losses.items()
    ]
