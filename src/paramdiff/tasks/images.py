r"""Labelled images as ``uint8`` tensors; normalised and augmented by whole batches, on the device.

A batch is ``(x, y)`` with ``x = (u / 255 - mean) / std`` per channel for the stored ``u`` in 0..255.
The pixels are a tensor, or come batch by batch from :class:`Pixels` that do not fit into memory; every
batch and every random draw is the same either way. The draws of an epoch follow from its seed alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from paramdiff.devices import free_bytes
from paramdiff.errors import TaskError, check_range
from paramdiff.tasks.augment import Augment
from paramdiff.tasks.batches import epoch_order, epoch_steps

ITEMS_AT_ONCE = 1024
"""Images that are counted at once for their statistics."""


@runtime_checkable
class Pixels(Protocol):
    """Images that are read when they are needed."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""

    def __len__(self) -> int: ...

    def read(self, orders: Iterable[Tensor]) -> Iterator[UInt8[Tensor, "B C H W"]]:
        """The images of each tensor of indices, in turn."""


@dataclass
class ImageData:
    """Images and labels as :class:`paramdiff.tasks.task.Data`.

    Attributes:
        images: uint8 [N, C, H, W], or where they can be read.
        labels: int64 [N].
        batch_size: items per batch of the shuffled view.
        scoring_batch_size: items per batch of the fixed view, which needs no gradients.
        mean: of each channel, on a scale of 0..1.
        std: likewise.
        augment: of the shuffled view only.
        channels_last: memory format of the batches. Pays for convolutions over many channels.
    """

    images: UInt8[Tensor, "N C H W"] | Pixels
    labels: Int[Tensor, "items"]
    batch_size: int = 128
    scoring_batch_size: int = 256
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [1.0])
    augment: Augment = field(default_factory=Augment)
    channels_last: bool = False

    def __post_init__(self) -> None:
        check_range("batch_size", self.batch_size, least=1)
        check_range("scoring_batch_size", self.scoring_batch_size, least=1)
        if len(self.images) != len(self.labels) or len(self.images) == 0:
            raise TaskError(
                f"{len(self.images)} images and {len(self.labels)} labels", expected="one label per image"
            )
        if not {len(self.mean), len(self.std)} <= {1, self.images.shape[1]}:
            raise TaskError(
                f"mean and std of length {len(self.mean)} and {len(self.std)}",
                expected=f"one value, or one for each of the {self.images.shape[1]} channels",
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def steps(self) -> int:
        return epoch_steps(len(self), self.batch_size)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where batches lie."""
        return self.labels.device

    def to(self, device: torch.device | str) -> "ImageData":
        """The same data with batches on another device.

        The pixels move there as a whole if they take at most half of its free memory, otherwise batch by
        batch, as bytes.
        """
        images = self.images
        if isinstance(images, Tensor) and images.nbytes <= free_bytes(device) / 2:
            images = images.to(device)
        return replace(self, images=images, labels=self.labels.to(device))

    def with_statistics_of(self, train: "ImageData") -> "ImageData":
        """The same images with mean and std taken from the pixels of ``train``."""
        mean, std = statistics(train.read(torch.arange(len(train)).split(ITEMS_AT_ONCE)))
        return replace(self, mean=mean, std=std)

    def read(self, orders: Iterable[Tensor]) -> Iterator[UInt8[Tensor, "B C H W"]]:
        """The stored images of each tensor of indices, in turn, where they lie."""
        images = self.images
        if not isinstance(images, Tensor):
            return images.read(orders)
        # index_select copies whole images; indexing with [...] would go byte by byte
        return (images.index_select(0, order.to(images.device, non_blocking=True)) for order in orders)

    def batches(self) -> Iterator[tuple[Float[Tensor, "B C H W"], Int[Tensor, "B"]]]:
        size, labels = self.scoring_batch_size, self.labels.split(self.scoring_batch_size)
        if isinstance(self.images, Tensor):
            found: Iterable[Tensor] = self.images.split(size)
        else:
            found = self.read(torch.arange(len(self)).split(size))
        return ((self._normalise(self._here(x)), y) for x, y in zip(found, labels, strict=True))

    def shuffled(self, seed: int) -> Iterator[tuple[Float[Tensor, "B C H W"], Int[Tensor, "B"]]]:
        drawn = self.augment.draw(len(self), self.shape, seed).to(self.device)
        orders = epoch_order(len(self), self.batch_size, seed)
        for order, pixels in zip(orders, self.read(orders), strict=True):
            items, images = order.to(self.device, non_blocking=True), self._here(pixels)
            if self.augment:
                images = self.augment.apply(images, drawn[:, items])
            yield self._normalise(images), self.labels[items]

    def _here(self, images: UInt8[Tensor, "B C H W"]) -> UInt8[Tensor, "B C H W"]:
        return images.to(self.device, non_blocking=True)

    def _normalise(self, images: UInt8[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        scale, shift = self._affine
        x = images.to(torch.float32, memory_format=torch.contiguous_format)
        torch.addcmul(shift, x, scale, out=x)
        # Stacking the channels takes a third of the time of contiguous(memory_format=channels_last).
        return torch.stack(x.unbind(1), -1).permute(0, 3, 1, 2) if self.channels_last else x

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift that take 0..255 to normalised values.

        Of the shape of a whole image, so that normalising is one pass over contiguous memory.
        """
        mean, std = torch.tensor([self.mean, self.std], dtype=torch.float64)[:, :, None, None]
        scale, shift = (
            part.float().expand(self.shape).contiguous().to(self.device)
            for part in (1 / (255 * std), -mean / std)
        )
        return scale, shift


def statistics(batches: Iterable[UInt8[Tensor, "_ C H W"]]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, on a scale of 0..1; exact, from counts of the 256 values.

    A constant channel gets the deviation of one grey level, so that it can be divided by.
    """
    counts = torch.stack([_counts(images) for images in batches]).sum(0).double().cpu()  # [C, 256]
    values = torch.arange(256, dtype=torch.float64)
    pixels = counts.sum(1)
    first, second = counts @ values / pixels, counts @ values.square() / pixels
    std = (second - first.square()).clamp_min(1).sqrt()
    return (first / 255).tolist(), (std / 255).tolist()


def _counts(images: UInt8[Tensor, "B C H W"]) -> Int[Tensor, "C 256"]:
    return torch.stack([channel.flatten().bincount(minlength=256) for channel in images.unbind(1)])
