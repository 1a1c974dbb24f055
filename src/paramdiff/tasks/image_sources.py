"""Where images come from: a function, or a data set of the Hub or a folder, decoded once or streamed."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from paramdiff.progress import bar
from paramdiff.seeds import generator
from paramdiff.tasks import digits
from paramdiff.tasks.dataset_rows import Reading, locate, read_rows
from paramdiff.tasks.image_cache import DatasetInfo, ImageCache, Labelled, cache_folder
from paramdiff.tasks.image_decoding import EncodedImages, Format, natural_format
from paramdiff.tasks.images import ImageData, statistics
from paramdiff.tasks.named_datasets import NAMED_DATASETS
from paramdiff.tasks.splits import Split, open_splits

SHARE_OF_MEMORY = 0.5
"""Share of the memory that decoded images may take; larger sets are streamed."""
ITEMS_FOR_STATISTICS = 5000
"""Random training images from which the statistics of a streamed set are taken."""
ITEMS_AT_ONCE = 256
"""Images in one piece of work of a decoding thread."""

Encoded = tuple[EncodedImages, Tensor]
"""Images to be decoded and labels int64 [N]."""


@runtime_checkable
class Source(Protocol):
    """Labelled images; what a network must fit is known before they are read, as far as possible."""

    @property
    def name(self) -> str:
        """For tables."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @property
    def model(self) -> str:
        """The network they are used with unless another is named."""

    def load(self) -> tuple[ImageData, ImageData]:
        """(train, test)."""


@dataclass(frozen=True)
class ImageSource:
    """A data set of labelled images; nothing is read before ``load`` is called.

    Attributes:
        name: for tables.
        classes: number of classes.
        shape: (C, H, W).
        load: gives (train, test).
        model: the network it is used with unless another is named.
    """

    name: str
    classes: int
    shape: tuple[int, int, int]
    load: Callable[[], tuple[ImageData, ImageData]]
    model: str = "convnet"


SOURCES = {"digits": ImageSource("digits", digits.CLASSES, digits.SHAPE, digits.load_digits)}
"""Data sets that come with the package and its libraries."""


class HubImages:
    """A data set of the Hub or a folder.

    Nothing is read before it is needed; the classes and the shape of a named data set are known without reading.

    Args:
        name: a named data set (:mod:`paramdiff.tasks.named_datasets`), a folder, or an id on the Hub.
        reading: how it is read.
        size: pixels of a side; by default a named data set's own, else the shorter side of the first image, at
            most 224.
        channels: 1 (grey) or 3 (colour); by default a named data set's own, else that of the first image.
        stream: whether images are decoded batch by batch instead of once; by default where they would take
            more than half of the memory.

    Raises:
        TaskError: there is no such data set. Raised by everything that reads, too, if it cannot be read.
    """

    model = "convnet"

    def __init__(
        self, name: str, reading: Reading | None = None, size: int | None = None, channels: int | None = None,
        stream: bool | None = None,
    ) -> None:  # fmt: skip
        self.place, self.reading, self.stream = locate(name), reading or Reading(), stream
        self.listed = NAMED_DATASETS[self.place.short_name] if self.place.short_name else None
        self.name = self.place.short_name or (Path(name).name if self.place.local else name)
        self.size, self.channels = size, channels
        if self.listed is not None:
            self.size, self.channels = size or self.listed.size, channels or len(self.listed.mean)

    @cached_property
    def classes(self) -> int:
        if self.listed is not None:
            return self.listed.classes
        info = self._cache.info()
        return info.classes if info else self._opened[2]

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        if self.size is not None and self.channels is not None:
            return self.channels, self.size, self.size
        info = self._cache.info()
        return info.shape if info else self._format.shape

    def load(self) -> tuple[ImageData, ImageData]:
        """(train, test): mapped from the cache, or decoded into it, or streamed."""
        info, *parts = self._streamed() if self._streams() else self._cache.read() or self._decoded()
        mean, std = self._listed_statistics or (info.mean, info.std)
        train, test = (ImageData(images, labels, mean=mean, std=std) for images, labels in parts)
        return train, test

    @property
    def at_hand(self) -> bool:
        """Whether it is on this machine: nothing has to be fetched to read it."""
        return self.place.local or (not self.stream and self._cache.file.is_file())

    @cached_property
    def _cache(self) -> ImageCache:
        return ImageCache(self.name, [self.place.stamp(), asdict(self.reading), self.size, self.channels])

    @cached_property
    def _opened(self) -> tuple[Split, Split, int]:
        rows = read_rows(self.place, self.reading, cache_folder() / "rows")
        return open_splits(rows, self.place, self.reading)

    @cached_property
    def _format(self) -> Format:
        return natural_format(self._opened[0], self.channels, self.size, self.reading.squash)

    @property
    def _listed_statistics(self) -> tuple[list[float], list[float]] | None:
        """Mean and std of a named data set, unless its images are turned grey or colour."""
        fits = self.listed is not None and len(self.listed.mean) == self.shape[0]
        return (self.listed.mean, self.listed.std) if self.listed and fits else None

    def _encoded(self) -> tuple[EncodedImages, EncodedImages]:
        train, test, _ = self._opened
        return EncodedImages(train, self._format), EncodedImages(test, self._format)

    def _streams(self) -> bool:
        if self.stream is not None or self._cache.file.is_file():
            return bool(self.stream)
        channels, height, width = self._format.shape
        items = sum(len(images) for images in self._encoded())
        return items * channels * height * width > SHARE_OF_MEMORY * memory_bytes()

    def _decoded(self) -> tuple[DatasetInfo, Labelled, Labelled]:
        encoded = zip(("train", "test"), self._encoded(), strict=True)
        train, test = (_decode(images, f"decoding {self.name} {part}") for part, images in encoded)
        info = DatasetInfo(self._opened[2], self._format.shape, *statistics(train[0].split(ITEMS_AT_ONCE)))
        stored = self._cache.write(info, train, test) and self._cache.read()
        return stored or (info, train, test)

    def _streamed(self) -> tuple[DatasetInfo, Encoded, Encoded]:
        train, test = self._encoded()
        info = self._cache.info()
        if self._listed_statistics:
            info = DatasetInfo(self._opened[2], self._format.shape, *self._listed_statistics)
        elif info is None:
            order = torch.randperm(len(train), generator=generator("statistics", len(train)))
            items = order[:ITEMS_FOR_STATISTICS].sort().values.split(ITEMS_AT_ONCE)
            pixels = bar(train.read(items), f"statistics of {self.name}", total=len(items), unit="batch")
            info = DatasetInfo(self._opened[2], self._format.shape, *statistics(iter(pixels)))
            self._cache.write_info(info)
        return info, (train, train.split.labels), (test, test.split.labels)


def _decode(encoded: EncodedImages, text: str) -> Labelled:
    """All images in one tensor, with their labels."""
    images, done = torch.empty(encoded.shape, dtype=torch.uint8), 0
    with bar((), text, total=len(encoded), unit="image") as progress:
        for batch in encoded.read(torch.arange(len(encoded)).split(ITEMS_AT_ONCE)):
            images[done : done + len(batch)] = batch
            done += len(batch)
            progress.update(len(batch))
    return images, encoded.split.labels


def memory_bytes() -> int:
    """Physical memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
