"""Batches with what all networks share of their computation, kept between calls within a budget of memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from paramdiff.scoring.batches import joined
from paramdiff.tasks.base import Batch


class Cache:
    """Batches with their boundaries, kept by key in order until the budget is spent."""

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.kept: dict[str, list[tuple[Batch, Any]]] = {}
        self.complete: set[str] = set()

    def through(
        self, key: str, batches: Callable[[], Iterable[Batch]], prepare: Callable[[Batch], tuple[Batch, Any]]
    ) -> Iterator[tuple[Batch, Any]]:
        """All batches, prepared: kept ones from memory, the others anew."""
        kept = self.kept.setdefault(key, [])
        if key in self.complete:
            yield from kept
            return
        count = 0
        for index, batch in enumerate(joined(batches())):
            if index < len(kept):
                ready = kept[index]
            else:
                ready = prepare(batch)
                self._keep(kept, index, ready)
            yield ready
            count += 1
        if count == len(kept):
            self.complete.add(key)

    def _keep(self, kept: list[tuple[Batch, Any]], index: int, ready: tuple[Batch, Any]) -> None:
        tensors = {leaf.data_ptr(): leaf.nbytes for leaf in tree_leaves(ready) if isinstance(leaf, Tensor)}
        size = sum(tensors.values())
        if index == len(kept) and size <= self.left:
            kept.append(ready)
            self.left -= size
