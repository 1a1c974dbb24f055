"""Scores in a table beside checkpoints.

A table is ``index.tsv`` (a header row; one column holds file names), ``index.json`` or
``scores.json`` (``{file: {score: number}}``, ``{file: number}`` or a list of rows) beside the files.
"""

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paramdiff.errors import CheckpointError
from paramdiff.files import read_json

ONLY_SCORE = "score"
"""Name of a score in a table ``{file: number}`` that does not name it."""

NOTHING = (None, "")
"""Entries of a table without a value."""

Row = Mapping[str, Any]


def read_tables(tables: Iterable[Path], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Numbers by file and column, from several tables in one folder; a later table goes before an earlier one.

    Args:
        tables: existing files.
        names: paths of the checkpoints, relative to the tables' folder.

    Raises:
        CheckpointError: a table cannot be read.
    """
    merged: dict[str, dict[str, float]] = {name: {} for name in names}
    for file in tables:
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
    files = next((column for column in columns if _names_a_file(rows, column, aliases)), "")
    # A whole column must be numeric: among commit hashes there is always one like 12345e6.
    numeric = [column for column in columns if column != files and _all_numbers(rows, column)]
    found = {}
    for row in rows:
        name = aliases.get(str(row.get(files)))
        if name is not None:
            found[name] = _numbers(row, numeric)
    return found


def _names_a_file(rows: Sequence[Row], column: str, aliases: Mapping[str, str]) -> bool:
    return any(str(row.get(column)) in aliases for row in rows)


def _numbers(row: Row, columns: Sequence[str]) -> dict[str, float]:
    """The finite numbers in some columns of a row."""
    numbers = {key: float(row[key]) for key in columns if row.get(key) not in NOTHING}
    return {key: number for key, number in numbers.items() if math.isfinite(number)}


def _aliases(names: Sequence[str]) -> dict[str, str]:
    """Every unambiguous name that a table may use for a file: its path, its name, its name without suffix."""
    pairs = [(alias, name) for name in names for alias in {name, Path(name).name, Path(name).stem}]
    count = Counter(alias for alias, _ in pairs)
    return {alias: name for alias, name in pairs if count[alias] == 1}


def _all_numbers(rows: Sequence[Row], column: str) -> bool:
    """Whether all entries of a column are numbers; some may be missing."""
    values = [row.get(column) for row in rows]
    try:
        return all(isinstance(float(value), float) for value in values if value not in NOTHING)
    except (TypeError, ValueError, OverflowError):  # the last: an integer beyond every float
        return False
