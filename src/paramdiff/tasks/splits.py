"""The training and test data inside a data set: which splits, which columns, which rows; labels checked."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from paramdiff.errors import TaskError, near
from paramdiff.files import why_not
from paramdiff.seeds import generator
from paramdiff.tasks.dataset_rows import DatasetLocation, Reading
from paramdiff.tasks.named_datasets import NAMED_DATASETS

TEST_SPLITS = ("test", "validation", "valid", "val")


@dataclass(frozen=True)
class Split:
    """Labelled rows.

    Attributes:
        name: for messages, e.g. ``cifar10, split train``.
        rows: a ``datasets.Dataset``; gives an Arrow table when indexed.
        image: column of the encoded images.
        labels: int64 [N], of the chosen rows.
        chosen: which rows, [N].
        roots: folders that hold the data set; images in files are read from nowhere else.
    """

    name: str
    rows: Any
    image: str
    labels: Int[Tensor, "items"]
    chosen: Int[Tensor, "items"]
    roots: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.chosen)

    def encoded(self, items: Int[Tensor, "B"]) -> list[dict[str, Any] | None]:
        """``{"bytes": ..., "path": ...}`` of some items, one of the two set.

        Raises:
            TaskError: a path leads out of the data set, or to what is no ordinary file.
        """
        rows = self.chosen[items].tolist()
        found = self.rows[rows].column(self.image).to_pylist()
        for row, one in zip(rows, found, strict=True):
            if one is not None and one["bytes"] is None and one["path"] is not None:
                one["path"] = self._own_file(one["path"], row)
        return found

    def _own_file(self, path: str, row: int) -> str:
        """The file of an image. Parquet files may hold any path; those that lead out of the data set are refused."""
        places = [Path(os.path.normpath(root / path)) for root in self.roots]
        inside = [file for file, root in zip(places, self.roots, strict=True) if file.is_relative_to(root)]
        reason = why_not(inside[0]) if inside else "lies outside of the data set"
        if reason:
            raise TaskError(
                f"{self.name}: the image in row {row} ({path}) {reason}",
                expected="an image in the table, or a file in the folder of the data set",
            )
        return str(inside[0])

    def take(self, items: Int[Tensor, "B"]) -> "Split":
        return replace(self, labels=self.labels[items], chosen=self.chosen[items])


def open_splits(
    found: Mapping[str, Any], place: DatasetLocation, reading: Reading
) -> tuple[Split, Split, int]:
    """(train, test, number of classes).

    Raises:
        TaskError: no such split, no or several columns that could be meant, or a label out of range.
    """
    entry = NAMED_DATASETS[place.short_name] if place.short_name else None
    train_name = _named(found, place, "train", reading.train, ["train"])
    image = _column(found[train_name], place, "image", reading.image, [_is_image], None)
    kinds = [_is_class, _is_integer]
    label = _column(found[train_name], place, "label", reading.label, kinds, entry.label if entry else None)
    classes = _classes(found[train_name].features[label], place)
    train = _split(found[train_name], f"{place.name}, split {train_name}", image, label, classes)
    train = replace(train, roots=place.roots())
    classes = classes or int(train.labels.max()) + 1
    if reading.holdout:
        held = held_out(train.labels, reading.holdout)
        return train.take((~held).nonzero()[:, 0]), train.take(held.nonzero()[:, 0]), classes
    preferred = [entry.test] if entry and entry.test else []
    test_name = _named(found, place, "test", reading.test, [*preferred, *TEST_SPLITS])
    test = _split(found[test_name], f"{place.name}, split {test_name}", image, label, classes)
    return train, replace(test, roots=place.roots()), classes


def held_out(labels: Int[Tensor, "items"], share: float) -> Bool[Tensor, "items"]:
    """Which items are for testing: at least one of each class, drawn by class from a fixed key.

    Raises:
        TaskError: a class has a single item, or none would be left for training.
    """
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        items = (labels == label).nonzero()[:, 0]
        count = max(1, round(share * len(items)))
        if count == len(items):
            raise TaskError(
                f"holdout={share:g} leaves none of the {len(items)} images of class {label} for training",
                remedy="hold out less, or leave that class away",
            )
        held[items[torch.randperm(len(items), generator=generator("holdout", label))[:count]]] = True
    return held


def _named(
    found: Mapping[str, Any], place: DatasetLocation, use: str, asked: str | None, known: Sequence[str]
) -> str:
    """The split for one use: the one asked for, else the first known name."""
    if asked is not None and asked not in found:
        raise TaskError(
            f"{place.name} has no split {asked!r} (task.reading.{use})", remedy=near(asked, found)
        )
    present = [name for name in known if name in found]
    if asked is None and not present:
        holdout = " or task.reading.holdout=0.2, a share of the training data" if use == "test" else ""
        raise TaskError(
            f"{place.name} has no {use} split, only {', '.join(found)}",
            expected=f"one of {', '.join(known)}",
            remedy=f"set task.reading.{use} to the split to use{holdout}",
        )
    return asked or present[0]


def _is_image(feature: Any) -> bool:
    from datasets import Image

    encoded = (
        isinstance(feature, dict) and {"bytes", "path"} <= feature.keys()
    )  # parquet without the Hub's schema
    return isinstance(feature, Image) or encoded


def _is_class(feature: Any) -> bool:
    from datasets import ClassLabel

    return isinstance(feature, ClassLabel)


def _is_integer(feature: Any) -> bool:
    return str(getattr(feature, "dtype", "")).startswith(("int", "uint"))


def _column(
    rows: Any, place: DatasetLocation, use: str, asked: str | None, kinds: Sequence[Callable[[Any], bool]],
    preferred: str | None,
) -> str:  # fmt: skip
    """The column asked for, else the preferred one, else the only one of the first kind that there is."""
    features = rows.features
    if asked is not None:
        if asked not in features:
            raise TaskError(
                f"{place.name} has no column {asked!r} (task.reading.{use})", remedy=near(asked, features)
            )
        return asked
    if preferred in features:
        return str(preferred)
    groups = [[name for name, feature in features.items() if kind(feature)] for kind in kinds]
    fitting = next((group for group in groups if group), [])
    if len(fitting) == 1:
        return fitting[0]
    what = f"the columns {', '.join(fitting)} could all be" if fitting else "no column has the type of"
    listed = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
    raise TaskError(
        f"{place.name}: {what} the {use}s; it has {listed}",
        remedy=f"set task.reading.{use} to the column to use",
    )


def _classes(feature: Any, place: DatasetLocation) -> int | None:
    """Number of classes by the feature or the table of named data sets; None if neither says it."""
    named = feature.num_classes if _is_class(feature) else None
    known = NAMED_DATASETS[place.short_name].classes if place.short_name else None
    if named and known and named != known:
        raise TaskError(
            f"{place.path} has {named} classes", expected=f"{known}, as {place.short_name} has",
            remedy="give its full path as task.data if it is another data set",
        )  # fmt: skip
    return named or known


def _split(rows: Any, name: str, image: str, label: str, classes: int | None) -> Split:
    import pyarrow

    if len(rows) == 0:
        raise TaskError(f"{name} is empty", expected="at least one image")
    column = rows.with_format("arrow").select_columns([label])[:].column(0)
    if not pyarrow.types.is_integer(column.type):
        raise TaskError(
            f"{name}: the labels in column {label!r} are of type {column.type}",
            expected="integers 0, 1, ...",
            remedy="set task.reading.label to a column of class numbers",
        )
    labels = torch.from_numpy(column.cast(pyarrow.int64()).fill_null(-1).to_numpy().copy())
    wrong = (labels < 0) | (labels >= (int(labels.max()) + 1 if classes is None else classes))
    if wrong.any():
        row = int(wrong.nonzero()[0, 0])
        raise TaskError(
            f"{name}: row {row} has the label {column[row].as_py()} ({int(wrong.sum())} such rows)",
            expected=f"0 to {classes - 1}" if classes else "0 or more",
            remedy="repair it, or set task.reading.label or .test if another column or split was meant",
        )
    return Split(name, rows.with_format("arrow"), image, labels, torch.arange(len(rows)))
