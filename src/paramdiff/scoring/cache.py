"""Batches with the part of the computation that all networks share, kept between calls within a budget of memory.

Ranks that work together keep their own batches only.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from paramdiff.distributed import is_local, local_items
from paramdiff.scoring.batches import joined
from paramdiff.tasks.task import Batch


class Cache:
    """Batches with their boundaries, kept by key and number until the budget is spent."""

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.kept: dict[str, dict[int, tuple[Batch, Any]]] = {}
        self.counts: dict[str, int] = {}

    def through(
        self, key: str, batches: Callable[[], Iterable[Batch]], prepare: Callable[[Batch], tuple[Batch, Any]]
    ) -> Iterator[tuple[Batch, Any]]:
        """This rank's batches, prepared: kept ones from memory, the others anew."""
        kept = self.kept.setdefault(key, {})
        wanted = local_items(range(self.counts[key])) if key in self.counts else None
        if wanted is not None and all(index in kept for index in wanted):
            yield from (kept[index] for index in wanted)
            return
        count = 0
        for index, batch in enumerate(joined(batches())):
            count += 1
            if is_local(index):
                ready = kept[index] if index in kept else prepare(batch)
                self._keep(kept, index, ready)
                yield ready
        self.counts[key] = count

    def _keep(self, kept: dict[int, tuple[Batch, Any]], index: int, ready: tuple[Batch, Any]) -> None:
        tensors = {leaf.data_ptr(): leaf.nbytes for leaf in tree_leaves(ready) if isinstance(leaf, Tensor)}
        size = sum(tensors.values())
        if index not in kept and size <= self.left:
            kept[index] = ready
            self.left -= size
