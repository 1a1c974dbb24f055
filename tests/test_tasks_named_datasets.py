"""The table of ready data sets."""

import pytest

from paramdiff.tasks.dataset_rows import HUB_ID
from paramdiff.tasks.named_datasets import READY, ready_name


@pytest.mark.parametrize("name", READY)
def test_an_entry_is_consistent(name: str):
    entry = READY[name]
    assert HUB_ID.fullmatch(entry.hub) and "/" not in name
    assert len(entry.mean) == len(entry.std) == entry.shape[0] in (1, 3)
    assert all(0 < value < 1 for value in [*entry.mean, *entry.std])
    assert entry.shape[1:] == (entry.size, entry.size) and entry.classes >= 10


def test_the_papers_sets_are_there():
    paper = {"mnist", "cifar10", "cifar100", "stl10", "flowers102", "pets", "food101", "imagenet1k"}
    assert paper | {"svhn", "fashion_mnist"} == set(READY)
    assert {READY[name].classes for name in paper} == {10, 100, 102, 37, 101, 1000}


def test_a_set_is_known_by_its_id_too():
    assert (
        ready_name("cifar100")
        == ready_name("uoft-cs/cifar100")
        == ready_name("UOFT-CS/CIFAR100")
        == "cifar100"
    )
    assert ready_name("uoft-cs/cifar1000") is None and ready_name("digits") is None
