"""Encoded images -> ``uint8`` tensors of one size, in several threads.

An image is turned upright by its EXIF tag, made grey or colour, and resized (bicubic, antialiased) so that
its shorter side has the wanted size; of its longer side the centre is kept. 16-bit grey levels lose their
lower byte.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from paramdiff.errors import TaskError
from paramdiff.tasks.splits import Split

GREY_MODES = ("1", "L", "LA", "I", "I;16", "F")
"""Pillow's modes of one channel."""
LARGEST_BY_DEFAULT = 224


@dataclass(frozen=True)
class Format:
    """What every image becomes.

    Attributes:
        channels: 1 (grey) or 3 (colour).
        size: pixels of a side.
        squash: resize a long image to a square as it is, instead of its centre.
    """

    channels: int
    size: int
    squash: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.size, self.size

    def decode(self, encoded: dict[str, Any] | None) -> UInt8[np.ndarray, "H W"] | UInt8[np.ndarray, "H W C"]:
        """The pixels of one image.

        Raises:
            Exception: whatever Pillow raises for a damaged image.
        """
        with _opened(encoded) as image:
            # Of a JPEG of twice the size or more, only as many frequencies are decoded as are needed.
            image.draft(self._mode, (self.size, self.size))
            return np.asarray(self._resized(_bytes_of(_upright(image)).convert(self._mode)))

    @property
    def _mode(self) -> str:
        """Pillow's name of the channels."""
        return "L" if self.channels == 1 else "RGB"

    def _resized(self, image: Any) -> Any:
        from PIL import Image

        if image.size == (self.size, self.size):
            return image
        box = None if self.squash else _centre(*image.size)
        return image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)


def natural_format(split: Split, channels: int | None, size: int | None, squash: bool) -> Format:
    """A format in which what is not given follows the first image: grey or colour, its shorter side, at most 224."""
    if channels is None or size is None:
        try:
            with _opened(split.encoded(torch.tensor([0]))[0]) as image:
                channels = channels or (1 if image.mode in GREY_MODES else 3)
                size = size or min(*image.size, LARGEST_BY_DEFAULT)
        except Exception as error:
            raise _damaged(split, 0, error) from None
    return Format(channels, size, squash)


class EncodedImages:
    """The images of a split as :class:`paramdiff.tasks.images.Pixels`: decoded when they are read.

    Args:
        split: where they are.
        format: what they become.
        threads: that decode, each a batch; as many batches are ready ahead of the one in use.
    """

    def __init__(self, split: Split, format: Format, threads: int | None = None) -> None:
        self.split, self.format = split, format
        self.threads = threads or os.cpu_count() or 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), *self.format.shape

    def __len__(self) -> int:
        return len(self.split)

    def read(self, orders: Iterable[Tensor]) -> Iterator[UInt8[Tensor, "B C H W"]]:
        """The images of each tensor of indices, in turn.

        Raises:
            TaskError: an image is damaged; names its row.
        """
        waiting: deque[Future[Tensor]] = deque()
        pool = ThreadPoolExecutor(self.threads)
        try:
            for order in orders:
                waiting.append(pool.submit(self.decode, order))
                if len(waiting) > self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def decode(self, items: Int[Tensor, "B"]) -> UInt8[Tensor, "B C H W"]:
        """Some of the images."""
        pixels = np.empty((len(items), self.format.size, self.format.size, self.format.channels), np.uint8)
        for place, (item, encoded) in enumerate(zip(items.tolist(), self.split.encoded(items), strict=True)):
            try:
                pixels[place] = self.format.decode(encoded).reshape(pixels.shape[1:])
            except Exception as error:
                raise _damaged(self.split, item, error) from None
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _damaged(split: Split, item: int, error: Exception) -> TaskError:
    """The error that names an image; Pillow raises many kinds."""
    encoded = split.encoded(torch.tensor([item]))[0] or {}
    file = f" ({encoded['path']})" if encoded.get("path") else ""
    return TaskError(
        f"{split.name}: the image in row {int(split.chosen[item])}{file} cannot be decoded "
        f"({str(error) or type(error).__name__})",
        remedy="repair or remove it",
    )


def _opened(encoded: dict[str, Any] | None) -> Any:
    from PIL import Image

    if encoded is None:
        raise ValueError("there is none")
    return Image.open(BytesIO(encoded["bytes"]) if encoded["bytes"] is not None else Path(encoded["path"]))


def _bytes_of(image: Any) -> Any:
    """With 8 bits per channel: Pillow itself would clip 16-bit grey levels at 255."""
    from PIL import Image

    wide = image.mode.startswith("I")
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if wide else image


def _upright(image: Any) -> Any:
    """Turned as its EXIF tag says; most files have none."""
    from PIL import ExifTags, ImageOps

    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def _centre(width: int, height: int) -> tuple[float, float, float, float]:
    """Left, upper, right, lower of the largest centred square."""
    side = min(width, height)
    left, upper = (width - side) / 2, (height - side) / 2
    return left, upper, left + side, upper + side
