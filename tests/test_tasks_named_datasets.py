"""The table of named data sets."""

import pytest

from paramdiff.tasks.dataset_rows import HUB_ID
from paramdiff.tasks.named_datasets import NAMED_DATASETS, short_name


@pytest.mark.parametrize("name", NAMED_DATASETS)
def test_an_entry_is_consistent(name: str):
    entry = NAMED_DATASETS[name]
    assert HUB_ID.fullmatch(entry.hub) and "/" not in name
    assert len(entry.mean) == len(entry.std) == entry.shape[0] in (1, 3)
    assert all(0 < value < 1 for value in [*entry.mean, *entry.std])
    assert entry.shape[1:] == (entry.size, entry.size) and entry.classes >= 10


def test_the_papers_sets_are_there():
    paper = {"mnist", "cifar10", "cifar100", "stl10", "flowers102", "pets", "food101", "imagenet1k"}
    assert paper | {"svhn", "fashion_mnist"} == set(NAMED_DATASETS)
    assert {NAMED_DATASETS[name].classes for name in paper} == {10, 100, 102, 37, 101, 1000}


def test_a_set_is_known_by_its_id_too():
    assert (
        short_name("cifar100")
        == short_name("uoft-cs/cifar100")
        == short_name("UOFT-CS/CIFAR100")
        == "cifar100"
    )
    assert short_name("uoft-cs/cifar1000") is None and short_name("digits") is None
