"""What is known about checkpoints beside their tensors: seeds and steps in names, scores in a table.

A table is ``index.tsv`` (a header row; one column holds file names), ``index.json`` or
``scores.json`` (``{file: {score: number}}``, ``{file: number}`` or a list of rows) beside the files.
"""

import csv
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from paramdiff.errors import CheckpointError
from paramdiff.files import read_json
from paramdiff.validation import LARGEST
from paramdiff.zoo.zoo import Record

TABLES = ("index.tsv", "index.json", "scores.json")

STEP_WORDS = (r"(?:global_?)?step|iteration|iter|it", r"epoch|ep", r"checkpoint|ckpt")
"""Words before a step number, best first: all files of a zoo are counted by the same kind of word."""

ONLY_SCORE = "score"
"""Name of a score in a table ``{file: number}`` that does not name it."""

NOTHING = (None, "")

Row = Mapping[str, Any]


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

    The file's own name decides; the folders above it are asked only if it says nothing.
    """
    pattern = re.compile(rf"(?<![a-z])(?:{words})[=_-]?(\d+)(?![a-z\d])", re.IGNORECASE)
    folders, _, own = name.rpartition("/")
    numbers = {int(digits) for digits in pattern.findall(own) or pattern.findall(folders)}
    return _index(numbers.pop()) if len(numbers) == 1 else None


def _index(number: float) -> int | None:
    """A seed or a step; what is beyond 64 bits is neither."""
    return int(number) if abs(number) < LARGEST else None


def _record(name: str, seed: int | None, step: int | None, numbers: Mapping[str, float]) -> Record:
    """A table's ``seed`` and ``step`` go before those in the file name; its other columns are scores."""
    seed = _index(numbers["seed"]) if "seed" in numbers else seed
    step = _index(numbers["step"]) if "step" in numbers else step
    scores = {key: value for key, value in numbers.items() if key not in ("seed", "step")}
    return Record(seed=seed, step=step, source=name, scores=scores)


def _table(root: Path, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Numbers by file and column, from all tables in a folder."""
    merged: dict[str, dict[str, float]] = {name: {} for name in names}
    for file in (root / table for table in TABLES):
        if file.is_file():
            rows = _tsv_rows(file) if file.suffix == ".tsv" else _json_rows(read_json(file))
            for name, numbers in _by_file(rows, names).items():
                merged[name] |= numbers
    return merged


def _tsv_rows(file: Path) -> list[Row]:
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines, delimiter="\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CheckpointError(f"{file} is not a table ({error})", expected="tab-separated text") from None


def _json_rows(value: Any) -> list[Row]:
    if isinstance(value, Mapping):
        named = {key: row if isinstance(row, Mapping) else {ONLY_SCORE: row} for key, row in value.items()}
        return [{"file": key, **row} for key, row in named.items()]
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _by_file(rows: Sequence[Row], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """The rows that name one of our files, reduced to the columns that hold numbers and nothing else."""
    aliases = _aliases(names)
    columns = list(dict.fromkeys(key for row in rows for key in row if isinstance(key, str)))
    own = next((key for key in columns if any(str(row.get(key)) in aliases for row in rows)), "")
    # A whole column must be numeric: among commit hashes there is always one like 12345e6.
    numeric = [key for key in columns if key != own and _all_numbers(row.get(key) for row in rows)]
    ours = {aliases[str(row[own])]: row for row in rows if own in row and str(row[own]) in aliases}
    return {name: _numbers(row, numeric) for name, row in ours.items()}


def _numbers(row: Row, columns: Sequence[str]) -> dict[str, float]:
    """What is there and finite in some columns of a row."""
    numbers = {key: float(row[key]) for key in columns if row.get(key) not in NOTHING}
    return {key: number for key, number in numbers.items() if math.isfinite(number)}


def _aliases(names: Sequence[str]) -> dict[str, str]:
    """Every unambiguous way a table may call a file: its path, its name, its name without suffix."""
    ways = [(way, name) for name in names for way in {name, Path(name).name, Path(name).stem}]
    count = Counter(way for way, _ in ways)
    return {way: name for way, name in ways if count[way] == 1}


def _all_numbers(values: Iterable[Any]) -> bool:
    """Whether whatever is there is a number; some may be missing."""
    try:
        return all(isinstance(float(value), float) for value in values if value not in NOTHING)
    except (TypeError, ValueError, OverflowError):  # the last: an integer beyond every float
        return False
