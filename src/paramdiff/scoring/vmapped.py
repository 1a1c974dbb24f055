"""Suffixes of several networks as one call, with a leading axis over networks (``torch.func.vmap``).

An accelerator spends its time on starting operations where each is small, and a stack of n networks starts an n-th
of them. Outputs are those of the networks one by one up to rounding: sums may be taken in another order.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from paramdiff.devices import free_bytes
from paramdiff.errors import check_range
from paramdiff.progress import say

MOST = 32
"""Most networks in a stack: beyond it the fixed cost of an operation is negligible."""

SHARE = 4
"""A stack takes at most the SHARE-th part of the device's free memory."""

STUCK = (RuntimeError, ValueError)
"""Raised for code that looks at values, for outputs that are no tensors, and where memory runs out after all."""

Suffix = Callable[[Any, Float[Tensor, "*n D"]], Any]
"""From a boundary and a vector to a network's outputs."""


class Stack:
    """Runs the suffixes of many networks, some at once.

    Args:
        suffix: of one network; under ``vmap`` of as many as there are rows.
        device: where they run.
        size: networks at once; None for one on a CPU, and on other devices for what fits into memory.

    Raises:
        ConfigError: a size below 1.
    """

    def __init__(self, suffix: Suffix, device: torch.device, size: int | None = None) -> None:
        if size is not None:
            check_range("stack", size, least=1)
        self.suffix, self.device = suffix, device
        self.size = 1 if size is None and device.type == "cpu" else size

    def outputs(
        self, boundary: Any, vectors: Float[Tensor, "N D"], rows: Sequence[int]
    ) -> Iterator[tuple[int, Any]]:
        """Each of these networks with its outputs for one batch, in this order."""
        if self.size is None:
            self.size = self._fitting(boundary, vectors[rows[0]])
        start = 0
        while start < len(rows):
            some = rows[start : start + self.size]
            yield from zip(some, self._together(boundary, vectors, some))
            start += len(some)

    def _together(self, boundary: Any, vectors: Float[Tensor, "N D"], rows: Sequence[int]) -> Iterator[Any]:
        """Outputs of these networks; one after another once it turned out that they cannot be stacked."""
        if self.size == 1 or len(rows) == 1:
            return (self.suffix(boundary, vectors[row]) for row in rows)
        try:
            stacked = torch.func.vmap(self.suffix, in_dims=(None, 0))(boundary, vectors[list(rows)])
        except STUCK as error:
            self.size = 1
            say(f"  networks are scored one after another: they cannot be stacked ({first_line(error)})")
            return self._together(boundary, vectors, rows)
        return (_part(stacked, place) for place in range(len(rows)))

    def _fitting(self, boundary: Any, v: Float[Tensor, "D"]) -> int:
        """Networks whose suffixes fit into a part of the free memory."""
        with Allocated() as seen:
            self.suffix(boundary, v)
        return int(max(1, min(MOST, free_bytes(self.device) / SHARE / max(1, seen.bytes))))


class Allocated(TorchDispatchMode):
    """Adds up the size of everything that operations return inside, views included.

    Attributes:
        bytes: so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        self.bytes += sum(leaf.nbytes for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result


def _part(outputs: Any, place: int) -> Any:
    return tree_map_only(Tensor, lambda stacked: stacked[place], outputs)


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160]
