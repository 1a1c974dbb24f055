r"""Labelled images, decoded once into ``uint8`` tensors; normalised and augmented by whole batches.

A batch is ``(x, y)`` with ``x = (u / 255 - mean) / std`` per channel for the stored ``u`` in 0..255.
For training, every image is padded with zeros, cropped back at a random place and flipped with
probability 1/2: one gather for the whole batch. The draws of an epoch follow from its seed alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from paramdiff.errors import TaskError, check_range
from paramdiff.seeds import generator
from paramdiff.tasks.data import epoch_order, epoch_steps

PIXELS_AT_ONCE = 1 << 22
"""Pixels of each channel that are converted to float64 at once, for their statistics."""


@dataclass
class Augment:
    """Random changes of training images that keep their label.

    Attributes:
        crop: pixels of padding on every side before a crop of the original size; 0 is no crop.
        flip: whether images are mirrored left to right, each with probability 1/2.
    """

    crop: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        check_range("crop", self.crop, least=0)

    def __bool__(self) -> bool:
        return self.crop > 0 or self.flip

    def draw(self, n: int, *key: int | str) -> Int[Tensor, "3 n"]:
        """Top and left corner in the padded image, and whether to flip, for ``n`` images."""
        random = generator("augment", *key)
        corners = torch.randint(0, 2 * self.crop + 1, (2, n), generator=random)
        flips = torch.randint(0, 2, (1, n), generator=random) * int(self.flip)
        return torch.cat([corners, flips])

    def apply(self, images: UInt8[Tensor, "B C H W"], drawn: Int[Tensor, "3 B"]) -> UInt8[Tensor, "B C H W"]:
        """Crop and flip; the result lies channels-last in memory."""
        _, _, height, width = images.shape
        padded = functional.pad(images, [self.crop] * 4)
        top, left, flip = drawn[:, :, None]
        rows = top + torch.arange(height, device=images.device)
        columns = torch.arange(width, device=images.device)
        columns = left + torch.where(flip.bool(), width - 1 - columns, columns)
        item = torch.arange(len(images), device=images.device)
        return padded[item[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@dataclass
class ImageData:
    """Images and labels as :class:`paramdiff.tasks.base.Data`.

    Attributes:
        images: uint8 [N, C, H, W].
        labels: int64 [N].
        batch_size: items per batch of the shuffled view.
        scoring_batch_size: items per batch of the fixed view, which needs no gradients.
        mean: of each channel, on a scale of 0..1.
        std: likewise.
        augment: of the shuffled view only.
        channels_last: memory format of the batches. Pays for convolutions over many channels.
    """

    images: UInt8[Tensor, "N C H W"]
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
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> "ImageData":
        """The same data held on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def with_statistics_of(self, train: "ImageData") -> "ImageData":
        """The same images with mean and std taken from the pixels of ``train``."""
        pixels = train.images.movedim(1, 0).flatten(1)
        sums = torch.zeros(2, len(pixels), dtype=torch.float64, device=pixels.device)
        for block in pixels.split(PIXELS_AT_ONCE, dim=1):
            sums += torch.stack([block.double().sum(1), block.double().square().sum(1)])
        first, second = sums / pixels.shape[1]
        std = (second - first.square()).clamp_min(1).sqrt()  # a constant channel is not divided by zero
        return replace(self, mean=(first / 255).tolist(), std=(std / 255).tolist())

    def batches(self) -> Iterator[tuple[Float[Tensor, "B C H W"], Int[Tensor, "B"]]]:
        size = self.scoring_batch_size
        parts = zip(self.images.split(size), self.labels.split(size), strict=True)
        return ((self._normalise(images), labels) for images, labels in parts)

    def shuffled(self, seed: int) -> Iterator[tuple[Float[Tensor, "B C H W"], Int[Tensor, "B"]]]:
        device = self.images.device
        drawn = self.augment.draw(len(self), seed).to(device)
        for order in epoch_order(len(self), self.batch_size, seed):
            items = order.to(device)
            images = self.images[items]
            if self.augment:
                images = self.augment.apply(images, drawn[:, items])
            yield self._normalise(images), self.labels[items]

    def _normalise(self, images: UInt8[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        scale, shift = self._affine
        return torch.addcmul(shift, images.float(), scale).contiguous(memory_format=layout)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift [C, 1, 1] that take 0..255 to normalised values."""
        mean, std = torch.tensor([self.mean, self.std], dtype=torch.float64)[:, :, None, None]
        scale, shift = 1 / (255 * std), -mean / std
        return scale.float().to(self.images.device), shift.float().to(self.images.device)
