"""Plain datasets as a task's data, and batches on a device."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from paramdiff.errors import ConfigError, TaskError
from paramdiff.tasks.batches import as_data, epoch_order, epoch_steps, move, on_device
from paramdiff.tasks.task import Data


def numbers(n: int = 10) -> TensorDataset:
    return TensorDataset(torch.arange(n).float()[:, None], torch.arange(n))


class Noisy(Dataset):
    """A dataset with a random transform."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int):
        return torch.randn(2), index


def test_a_dataset_becomes_data():
    data = as_data(numbers(), batch_size=4)
    assert isinstance(data, Data)
    assert (len(data), data.steps) == (10, 3)
    batches = list(data.batches())
    assert all(isinstance(batch, tuple) for batch in batches)
    assert torch.cat([y for _, y in batches]).tolist() == list(range(10))


def test_data_is_kept_as_it_is():
    data = as_data(numbers())
    assert as_data(data) is data


def test_shuffling_follows_from_the_seed():
    data = as_data(numbers(), batch_size=5)
    order = [torch.cat([y for _, y in data.shuffled(seed)]).tolist() for seed in (0, 0, 1)]
    assert order[0] == order[1] != order[2]
    assert sorted(order[2]) == list(range(10))


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [
        (245, 128, [123, 122]),
        (129, 128, [65, 64]),
        (10, 4, [4, 3, 3]),
        (5, 2, [3, 2]),
        (3, 8, [3]),
        (1, 4, [1]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_an_epoch_has_every_item_once_and_no_batch_of_one(n: int, size: int, expected: list[int]):
    """245 images in batches of 128 used to be one update an epoch, with 117 images left out."""
    batches = epoch_order(n, size, seed=0)
    assert [len(batch) for batch in batches] == expected
    assert sorted(torch.cat(batches).tolist()) == list(range(n)) and len(batches) == epoch_steps(n, size)


def test_random_transforms_repeat_and_leave_the_global_generator_alone():
    data = as_data(Noisy(), batch_size=4)
    torch.manual_seed(3)
    first = torch.cat([x for x, _ in data.shuffled(0)])
    after = torch.rand(1)
    torch.manual_seed(4)
    assert torch.equal(first, torch.cat([x for x, _ in data.shuffled(0)]))
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


def test_ready_moves_every_batch():
    data = on_device(numbers(), "meta")
    assert {x.device.type for x, _ in data.batches()} == {"meta"}
    assert {y.device.type for _, y in data.shuffled(0)} == {"meta"}
    assert (len(data), data.steps) == (10, 1)


def test_moving_keeps_the_structure():
    batch = ({"a": torch.ones(2), "b": [torch.zeros(1), "text"]}, 3)
    moved = move(batch, torch.device("meta"))
    assert moved[0]["a"].is_meta and moved[0]["b"][0].is_meta
    assert moved[0]["b"][1] == "text" and moved[1] == 3


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


@pytest.mark.parametrize("wrong", [DataLoader(numbers()), Stream(), iter([1]), None])
def test_what_is_not_a_dataset_is_named(wrong):
    with pytest.raises(TaskError, match=rf"a task's data is a {type(wrong).__name__}; expected a map-style"):
        as_data(wrong)


def test_an_empty_dataset_and_a_bad_batch_size():
    with pytest.raises(TaskError, match="a task's data holds no items; expected at least one"):
        as_data(TensorDataset(torch.empty(0, 1)))
    with pytest.raises(ConfigError, match="batch_size: 0 is out of range"):
        as_data(numbers(), batch_size=0)
