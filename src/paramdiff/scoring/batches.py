"""Batches for scoring: few large ones, and a fixed random subset of the items for feedback.

A batch is opaque here; it can be cut and joined item by item if its parts are tensors (in tuples, lists or
dicts) that all have one row per item. Others, e.g. images of different sizes with lists of boxes, stay as
they are.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from paramdiff.seeds import generator
from paramdiff.tasks.task import Batch, Data

MOST_ITEMS = 512
MOST_BYTES = 4 << 20
"""Limits of a joined batch: beyond them the fixed cost of an operation is negligible, and memory is not."""


def rows(batch: Batch) -> int | None:
    """Items in a batch if it can be cut item by item, else None."""
    sizes = {len(leaf) if isinstance(leaf, Tensor) and leaf.ndim else None for leaf in tree_leaves(batch)}
    return sizes.pop() if len(sizes) == 1 else None


def items_in(batch: Batch) -> int:
    """Items in a batch, as far as it shows them: rows of its tensors, else the length of its first part."""
    found = rows(batch)
    if found is not None:
        return found
    parts = list(batch.values()) if isinstance(batch, Mapping) else batch
    return max(1, len(parts[0])) if isinstance(parts, (list, tuple)) and hasattr(parts[0], "__len__") else 1


def joined(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same items in the same order in fewer batches, of at most 512 items and 4 MiB if they are joined.

    A task's batches are made for training, often 32 items; a network in eval mode treats items one by one.
    """
    waiting: list[Batch] = []
    for batch in batches:
        if waiting and not _fits(waiting, batch):
            yield joined_batch(waiting)
            waiting = []
        waiting.append(batch)
    if waiting:
        yield joined_batch(waiting)


def random_subset(data: Data, items: int) -> Iterator[Batch]:
    """``items`` random items of ``data`` in its order, the same in every run; all if there are no more.

    Batches that cannot be cut are kept or left out whole, so that about ``items`` are kept.
    """
    draws = generator("probe", items)  # the name these draws have always had
    chosen = torch.zeros(len(data), dtype=torch.bool)
    chosen[torch.randperm(len(data), generator=draws)[:items]] = True
    start = 0
    for index, batch in enumerate(data.batches()):
        size = rows(batch)
        if size is None:
            if index == 0 or float(torch.rand((), generator=draws)) < items / len(data):
                yield batch
            continue
        kept = chosen[start : start + size].nonzero()[:, 0]  # on the CPU: a mask would stop the device
        start += size
        if len(kept):
            yield tree_map(lambda leaf, kept=kept: leaf[kept.to(leaf.device, non_blocking=True)], batch)


def evened(batches: Iterable[Batch], least: int) -> list[Batch]:
    """The same items in the same order in batches of at least ``least``, whose sizes differ by one at most.

    For what depends on the batch: a short last one would count too much. Fewer items are one batch; batches that
    cannot be cut or joined stay as they are.
    """
    given = list(batches)
    if not given or not all(_alike(given[0], batch) for batch in given):
        return given
    whole = joined_batch(given)
    columns, tree = tree_flatten(whole)
    count = max(1, len(columns[0]) // least)
    parts = zip(*(column.tensor_split(count) for column in columns), strict=True)
    return [tree_unflatten(list(part), tree) for part in parts]


def _fits(waiting: list[Batch], batch: Batch) -> bool:
    """Whether a batch can be joined with those that wait."""
    if not _alike(waiting[0], batch) or sum(rows(one) or 0 for one in (*waiting, batch)) > MOST_ITEMS:
        return False
    return sum(leaf.nbytes for one in (*waiting, batch) for leaf in tree_leaves(one)) <= MOST_BYTES


def _alike(batch: Batch, other: Batch) -> bool:
    """Whether two batches can be cut and joined item by item."""
    (mine, tree), (theirs, shape) = tree_flatten(batch), tree_flatten(other)
    if None in (rows(batch), rows(other)) or tree != shape:
        return False
    return all(a.shape[1:] == b.shape[1:] and a.dtype == b.dtype for a, b in zip(mine, theirs, strict=True))


def joined_batch(batches: list[Batch]) -> Batch:
    """Batches that can be joined, as one."""
    if len(batches) == 1:
        return batches[0]
    columns = zip(*(tree_leaves(batch) for batch in batches), strict=True)
    return tree_unflatten([torch.cat(column) for column in columns], tree_flatten(batches[0])[1])
