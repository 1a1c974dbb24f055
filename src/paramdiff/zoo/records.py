"""Where the members of a zoo come from and what they scored: seeds and steps from the names of their files, scores
from a table beside them (:mod:`paramdiff.zoo.score_tables`).
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import few
from paramdiff.files import why_not
from paramdiff.parameters.spec import ParameterSpec

TABLES = ("index.tsv", "index.json", "scores.json")
"""Names of tables of scores; see :mod:`paramdiff.zoo.score_tables`."""

STEP_WORDS = (r"(?:global_?)?step|iteration|iter|it", r"epoch|ep", r"checkpoint|ckpt")
"""Words before a step number, best first: all files of a zoo are counted by the same kind of word."""

LARGEST = torch.iinfo(torch.int64).max
"""Of seeds and steps."""

OUTSIDE = "differ_outside"
"""Key of ``Zoo.about``: names of the frozen tensors in which the checkpoints differ, if there are any."""


@dataclass
class Record:
    """Where one member came from and what it scored.

    Attributes:
        seed: seed of its training, if known.
        step: optimiser step at which it was saved, counted within the collecting phase.
        source: name of the file it was imported from.
        path, index, size, sha256: where that file lies, the member's place in it if it is a stack, and what the file
            was. The last two are known where checkpoints differ outside the selection
            (:mod:`paramdiff.zoo.saved_networks`).
        scores: recorded scores by name, e.g. ``{"train": 0.98}``; one that is not finite counts as
            unknown and is not saved.
        accuracy_class: class of its score on the training data, 0 for the worst quarter of the zoo and 3 for the
            best; ``None`` if it has no score (:func:`paramdiff.zoo.score_bins.assign_score_bins`).
    """

    seed: int | None = None
    step: int | None = None
    source: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    accuracy_class: int | None = None
    path: str | None = None
    index: int | None = None
    size: int | None = None
    sha256: str | None = None


class Parts(NamedTuple):
    """What a zoo is made of; see :class:`paramdiff.zoo.zoo.Zoo`."""

    vectors: Float[Tensor, "K D"]
    spec: ParameterSpec
    base: Mapping[str, Tensor]
    records: Sequence[Record]
    about: Mapping[str, Any]


def make_records(files: Sequence[Path]) -> list[Record]:
    """A record per file: its name, seed, step and recorded scores.

    Raises:
        CheckpointError: a table of scores lies beside the files and cannot be read.
    """
    paths = [file.absolute() for file in files]  # not resolved: links keep their names
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names = [path.relative_to(root).as_posix() for path in paths]
    steps, seeds, table = _steps(names), [_number("seed", name) for name in names], _table(root, names)
    return [_record(name, seed, step, table.get(name, {})) for name, seed, step in zip(names, seeds, steps)]


def _table(root: Path, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Numbers by file and column, from all tables in a folder."""
    present = [root / table for table in TABLES if (root / table).is_file()]
    if not present:
        return {}
    from paramdiff.zoo.score_tables import read_tables

    return read_tables(present, names)


def natural(path: Path) -> list[tuple[str, int, str]]:
    """Sort key that puts ``step_2`` before ``step_10``."""
    pieces = re.findall(r"(\D*)(\d*)", path.as_posix())
    return [(text, int(digits or -1), digits) for text, digits in pieces]


def is_trajectory(records: Sequence[Record]) -> bool:
    """Whether the members are, in this order, steps of one training: growing steps, at most one seed."""
    steps = [record.step for record in records if record.step is not None]
    growing = all(before < after for before, after in pairwise(steps))
    seeds = {record.seed for record in records}
    return len(records) > 1 and len(steps) == len(records) and growing and len(seeds) == 1


def _steps(names: Sequence[str]) -> list[int | None]:
    """Step numbers in file names, by the best kind of word that occurs in any of them."""
    found = ([_number(words, name) for name in names] for words in STEP_WORDS)
    return next((steps for steps in found if any(step is not None for step in steps)), [None] * len(names))


def _number(words: str, name: str) -> int | None:
    """The number after a word such as ``seed=3``, ``seed_3``, ``seed3``; ``None`` if none or several differ.

    The file's own name decides; the folders above it count only where the name has no number.
    """
    pattern = re.compile(rf"(?<![a-z])(?:{words})[=_-]?(\d+)(?![a-z\d])", re.IGNORECASE)
    folders, _, own = name.rpartition("/")
    numbers = {int(digits) for digits in pattern.findall(own) or pattern.findall(folders)}
    return _index(numbers.pop()) if len(numbers) == 1 else None


def _index(number: float) -> int | None:
    """A seed or a step; a number of more than 64 bits is neither."""
    return int(number) if abs(number) <= LARGEST else None


def _record(name: str, seed: int | None, step: int | None, numbers: Mapping[str, float]) -> Record:
    """A table's ``seed`` and ``step`` go before those in the file name; its other columns are scores."""
    seed = _index(numbers["seed"]) if "seed" in numbers else seed
    step = _index(numbers["step"]) if "step" in numbers else step
    scores = {key: value for key, value in numbers.items() if key not in ("seed", "step")}
    return Record(seed=seed, step=step, source=name, scores=scores)


def signed(records: list[Record]) -> list[Record]:
    """Records with size and hash of their files, where these are not known; each file is read once."""
    from paramdiff.artefacts import sha256

    known: dict[str, tuple[int, str]] = {}

    def one(record: Record) -> Record:
        if record.path is None or record.sha256 is not None or why_not(Path(record.path)):
            return record
        if record.path not in known:
            known[record.path] = Path(record.path).stat().st_size, sha256(Path(record.path))
        size, digest = known[record.path]
        return replace(record, size=size, sha256=digest)

    return [one(record) for record in records]


def frozen_differences(about: Mapping[str, Any]) -> list[str]:
    """Names of frozen tensors in which the networks of the members differ, from ``Zoo.about``."""
    names = about.get(OUTSIDE)
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def frozen_rest_differs(select: str, differing: Sequence[str]) -> str:
    """A warning for users who take the members of a zoo for the networks in their files.

    Args:
        select: the zoo's selection.
        differing: names of the frozen tensors in which the checkpoints differ.
    """
    return (
        f"the checkpoints differ outside the selection {select!r} ({few(differing)}), and the zoo has the frozen "
        "rest of the first: its members are not the networks in the files; select='all' keeps all of each"
    )
