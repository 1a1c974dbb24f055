"""Decoded images on disk: one memory-mapped safetensors file for each data set and way to decode it.

The files lie in the cache folder (``PARAMDIFF_CACHE``, by default ``~/.cache/paramdiff``) under the name of
the data set and a hash of where it comes from and how it was decoded. The folder can be removed at any time.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paramdiff.errors import CheckpointError, DiskError
from paramdiff.files import load_metadata, load_tensors, read_json, save_tensors, write_json
from paramdiff.progress import say

VERSION = 1
"""Of the way images are decoded; part of the hash."""

Labelled = tuple[Tensor, Tensor]
"""Images uint8 [N, C, H, W] and labels int64 [N]."""


def cache_folder() -> Path:
    """``PARAMDIFF_CACHE``, else ``~/.cache/paramdiff``."""
    return Path(os.environ.get("PARAMDIFF_CACHE") or "~/.cache/paramdiff").expanduser()


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set once it has been read.

    Attributes:
        classes: number of classes.
        shape: (C, H, W).
        mean: of each channel of the training images, on a scale of 0..1.
        std: likewise.
    """

    classes: int
    shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "DatasetInfo":
        channels, height, width = value["shape"]
        return cls(value["classes"], (channels, height, width), value["mean"], value["std"])

    def fit(self, images: Tensor, labels: Tensor) -> bool:
        """Whether tensors have the right shapes, types and labels."""
        right = images.dtype == torch.uint8 and labels.dtype == torch.int64
        right = right and images.shape == (*labels.shape, *self.shape) and len(labels) > 0
        return right and int(labels.min()) >= 0 and int(labels.max()) < self.classes


class ImageCache:
    """What is kept of one data set, decoded in one way.

    Args:
        name: of the data set, for the file's name.
        key: whatever the decoded images follow from, as JSON values.

    Attributes:
        file: with the tensors and the info.
        info_file: with the info alone, for sets that are too large to be stored.
    """

    def __init__(self, name: str, key: list[Any]) -> None:
        digest = hashlib.sha256(json.dumps([VERSION, *key]).encode()).hexdigest()[:16]
        safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
        self.name = name
        self.file = cache_folder() / "images" / f"{safe}-{digest}.safetensors"
        self.info_file = self.file.with_suffix(".json")

    def info(self) -> DatasetInfo | None:
        """What an earlier reading found; None if there was none, or its file is damaged."""
        try:
            if self.file.is_file():
                return DatasetInfo.from_json(json.loads(load_metadata(self.file)["facts"]))
            return DatasetInfo.from_json(read_json(self.info_file)) if self.info_file.is_file() else None
        except (CheckpointError, KeyError, TypeError, ValueError):
            return None

    def read(self) -> tuple[DatasetInfo, Labelled, Labelled] | None:
        """DatasetInfo, train and test, mapped from the file; None if there is none, or it is damaged."""
        if not self.file.is_file():
            return None
        info = self.info()
        try:
            tensors = load_tensors(self.file)
            train, test = (
                (tensors[f"{part}.images"], tensors[f"{part}.labels"]) for part in ("train", "test")
            )
        except (CheckpointError, KeyError):
            info = None
        if info is None or not (info.fit(*train) and info.fit(*test)):
            say(f"  {self.file} is damaged: decoding {self.name} again")
            return None
        return info, train, test

    def write(self, info: DatasetInfo, train: Labelled, test: Labelled) -> bool:
        """Whether it could be written; if not, the user is told and the images have to stay in memory."""
        tensors = {"train.images": train[0], "train.labels": train[1]}
        tensors |= {"test.images": test[0], "test.labels": test[1]}
        try:
            save_tensors(self.file, tensors, {"facts": json.dumps(asdict(info))})
        except DiskError as error:
            say(f"  {error.came}: {self.name} is not kept decoded; set PARAMDIFF_CACHE to another folder")
            return False
        return True

    def write_info(self, info: DatasetInfo) -> None:
        """Keep the info alone."""
        try:
            write_json(self.info_file, asdict(info))
        except DiskError as error:
            say(f"  {error.came}: the statistics of {self.name} are not kept")
