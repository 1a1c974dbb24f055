"""A few of many: rows evenly spread, so that a trajectory is seen from end to end; or all of them, block by block."""

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor


def evenly_spaced(n: int, most: int) -> Int[Tensor, "m"]:
    """Indices of at most ``most`` of n rows, the first and the last among them."""
    return torch.linspace(0, n - 1, min(n, most)).round().long()


def blocks(n: int, size: int) -> Iterator[slice]:
    """All of n in slices of ``size``; the last one may be shorter."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
