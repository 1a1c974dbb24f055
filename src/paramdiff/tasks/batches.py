"""From what a task's ``train_data()`` and ``test_data()`` return to batches on the right device."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, default_collate

from paramdiff.errors import TaskError, check_range
from paramdiff.seeds import generator, seeded
from paramdiff.tasks.task import Batch, Data

BATCH_SIZE = 128
"""Of a plain ``Dataset`` that was not wrapped with a batch size of its own."""


def as_data(dataset: Any, batch_size: int = BATCH_SIZE) -> Data:
    """A map-style ``torch.utils.data.Dataset`` as :class:`Data`; what is :class:`Data` already is kept.

    Raises:
        TaskError: it is neither.
    """
    if isinstance(dataset, Data):
        return dataset
    map_style = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if not map_style or isinstance(dataset, IterableDataset):
        raise TaskError(
            f"a task's data is a {type(dataset).__name__}",
            expected="a map-style torch.utils.data.Dataset (__len__ and __getitem__) or a paramdiff Data",
            remedy="return the Dataset itself, not a DataLoader or an iterator over it",
        )
    return DatasetData(dataset, batch_size)


def on_device(data: Any, device: torch.device | str) -> Data:
    """A task's data as :class:`Data` whose batches lie on ``device``.

    Data that can move as a whole (:meth:`ImageData.to`) does; of others each batch is moved.
    """
    data = as_data(data)
    return data.to(device) if hasattr(data, "to") else _Moved(data, torch.device(device))


def epoch_order(n: int, batch_size: int, seed: int) -> list[Tensor]:
    """Indices of the batches of a shuffled epoch: every item once, in batches as even as can be."""
    order = torch.randperm(n, generator=generator("shuffle", seed))
    return list(order.tensor_split(epoch_steps(n, batch_size)))


def epoch_steps(n: int, batch_size: int) -> int:
    """Batches of a shuffled epoch, no item left out: 245 items at a batch size of 128 are batches of 123 and 122.

    A short last batch would weigh its items more, and BatchNorm cannot learn from one item. So what is left over is
    spread, and only where two is the batch size of an odd number of items has one batch an item more than that.
    """
    least = min(batch_size, 2)
    return max(1, min(-(-n // batch_size), n // least))


class DatasetData:
    """A map-style dataset, collated by torch's rules: items ``(x, ..., y)`` become batches ``(X, ..., Y)``.

    Args:
        dataset: anything with ``__len__`` and ``__getitem__``, a list of items too.
        batch_size: items of a batch.
        collate: from a list of items to a batch, where torch's rules do not serve: sequences to be padded, images of
            different sizes, boxes.

    Random transforms inside the dataset follow torch's global generator, seeded per batch, so an
    epoch can be repeated; transforms that draw from ``random`` or numpy cannot.
    """

    def __init__(
        self, dataset: "Dataset[Any] | list[Any]", batch_size: int = BATCH_SIZE,
        collate: Callable[[list[Any]], Batch] = default_collate,
    ) -> None:  # fmt: skip
        check_range("batch_size", batch_size, least=1)
        self.dataset, self.batch_size, self.collate = dataset, batch_size, collate
        if len(self) == 0:
            raise TaskError("a task's data holds no items", expected="at least one")

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # map-style datasets have a length

    @property
    def steps(self) -> int:
        return epoch_steps(len(self), self.batch_size)

    def batches(self) -> Iterator[Batch]:
        return self._read(list(torch.arange(len(self)).split(self.batch_size)), "fixed", 0)

    def shuffled(self, seed: int) -> Iterator[Batch]:
        return self._read(epoch_order(len(self), self.batch_size, seed), "epoch", seed)

    def _read(self, batches: list[Tensor], *key: int | str) -> Iterator[Batch]:
        for number, indices in enumerate(batches):
            with seeded("dataset", *key, number):
                batch = self.collate([self.dataset[i] for i in indices.tolist()])
            yield tuple(batch) if isinstance(batch, list) else batch


class _Moved:
    """Data whose batches are moved to a device one by one."""

    def __init__(self, data: Data, device: torch.device) -> None:
        self.data, self.device = data, device

    def __len__(self) -> int:
        return len(self.data)

    @property
    def steps(self) -> int:
        return self.data.steps

    def batches(self) -> Iterator[Batch]:
        return (move(batch, self.device) for batch in self.data.batches())

    def shuffled(self, seed: int) -> Iterator[Batch]:
        return (move(batch, self.device) for batch in self.data.shuffled(seed))


def move(value: Any, device: torch.device) -> Any:
    """Every tensor in a batch of nested tuples, lists and mappings, on ``device``."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: move(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(move(item, device) for item in value)
    return value
