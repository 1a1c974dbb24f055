"""Random changes of training images that keep their label, for a whole batch at once.

An image is padded with zeros and cropped back at a random place, mirrored with probability 1/2, and zoomed
into a random part (Szegedy et al., "Going deeper with convolutions", 2015, section 6). Everything is drawn
before the epoch from its key, so an image's change does not depend on its batch or on the device.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.nn import functional

from paramdiff.seeds import generator
from paramdiff.settings import Range, Ranges, check_ranges

MOST_STRETCH = 4 / 3
"""Of the part that is zoomed into: width over height lies between its inverse and itself."""


@dataclass
class Augment:
    """Random changes of training images that keep their label.

    Attributes:
        crop: pixels of padding on every side before a crop of the original size; 0 is no crop.
        flip: whether images are mirrored left to right, each with probability 1/2.
        zoom: least share of the area that is kept when a random part is resized to the whole; 1 is no zoom.
    """

    RANGES: ClassVar[Ranges] = {"crop": Range(least=0, most=1024), "zoom": Range(above=0, most=1)}

    crop: int = 0
    flip: bool = False
    zoom: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(self)

    def __bool__(self) -> bool:
        return self.crop > 0 or self.flip or self.zoom < 1

    def draw(self, n: int, shape: tuple[int, int, int], *key: int | str) -> Int[Tensor, "drawn n"]:
        """For ``n`` images of (C, H, W): top and left corner in the padded image, and whether to flip.

        With zoom there are four rows more: top, left, height and width of the part.
        """
        random = generator("augment", *key)
        corners = torch.randint(0, 2 * self.crop + 1, (2, n), generator=random)
        flips = torch.randint(0, 2, (1, n), generator=random) * int(self.flip)
        rows = [corners, flips]
        if self.zoom < 1:
            rows.append(_parts(n, shape[1], shape[2], self.zoom, random))
        return torch.cat(rows)

    def apply(
        self, images: UInt8[Tensor, "B C H W"], drawn: Int[Tensor, "drawn B"]
    ) -> UInt8[Tensor, "B C H W"]:
        """The changed images."""
        if self.crop or self.flip:
            images = _moved(images, drawn[:3], self.crop)
        return _zoomed(images, drawn[3:]) if self.zoom < 1 else images


def _moved(
    images: UInt8[Tensor, "B C H W"], drawn: Int[Tensor, "3 B"], crop: int
) -> UInt8[Tensor, "B C H W"]:
    """Crop and flip by one gather over the pixels of each channel."""
    size, channels, height, width = images.shape
    padded = functional.pad(images, [crop] * 4) if crop else images
    top, left, flip = drawn[:, :, None]
    column = torch.arange(width, device=images.device)
    columns = left + torch.where(flip.bool(), width - 1 - column, column)
    rows = top + torch.arange(height, device=images.device)
    places = (rows * padded.shape[3])[:, :, None] + columns[:, None, :]
    index = places.view(size, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, index).view(images.shape)


def _parts(n: int, height: int, width: int, zoom: float, random: torch.Generator) -> Int[Tensor, "4 n"]:
    """Top, left, height and width of random parts; a part longer than the image is cut off."""
    u = torch.rand(4, n, generator=random, dtype=torch.float64)
    area = (zoom + (1 - zoom) * u[0]) * (height * width)
    stretch = torch.exp((2 * u[1] - 1) * math.log(MOST_STRETCH))
    tall = (area / stretch).sqrt().round().clamp(1, height)
    wide = (area * stretch).sqrt().round().clamp(1, width)
    top, left = u[2] * (height - tall + 1), u[3] * (width - wide + 1)
    return torch.stack([top.floor(), left.floor(), tall, wide]).long()


def _zoomed(images: UInt8[Tensor, "B C H W"], parts: Int[Tensor, "4 B"]) -> UInt8[Tensor, "B C H W"]:
    """Each part resized to the whole image, bilinearly."""
    height, width = images.shape[2:]
    top, left, tall, wide = parts.float()
    none = torch.zeros_like(top)
    across = torch.stack([wide / width, none, (2 * left + wide) / width - 1], dim=1)
    down = torch.stack([none, tall / height, (2 * top + tall) / height - 1], dim=1)
    theta = torch.stack([across, down], dim=1)  # [B, 2, 3]: from places in the result to places in the image
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    zoomed = functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return zoomed.round().to(torch.uint8)
