"""A few of many rows, evenly spread, so that a trajectory is seen from end to end; or all of them, block by block, so
that memory is bounded.

How large a block may be is a budget in numbers. Sums over blocks depend on it in their last bits, so one for each use.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

IN_CACHE = 1 << 20
"""Numbers that stay in a processor's cache: 4 MiB."""

IN_DOUBLE = 1 << 22
"""Numbers that are converted to float64 at once: 32 MiB."""

READ_AT_ONCE = 1 << 24
"""Numbers of members that are read at once: 64 MiB."""

NETWORKS_AT_ONCE = 1 << 26
"""Numbers of complete networks that are in memory together: 256 MiB."""


def evenly_spaced(n: int, most: int) -> Int[Tensor, "m"]:
    """Indices of at most ``most`` of n rows, the first and the last among them."""
    return torch.linspace(0, n - 1, min(n, most)).round().long()


def blocks(n: int, size: int, start: int = 0) -> Iterator[slice]:
    """All of n rows from ``start`` on in slices of ``size``; the last one may be shorter."""
    stop = start + n
    return (slice(first, min(first + size, stop)) for first in range(start, stop, size))


def pieces_within(budget: int, each: int) -> int:
    """How many rows or columns of ``each`` numbers stay within a budget; at least one."""
    return max(1, budget // max(1, each))
