"""Data sets decoded once into the cache, or streamed."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from paramdiff.errors import DiskError, TaskError
from paramdiff.files import load_tensors, save_tensors
from paramdiff.tasks import image_cache, image_sources
from paramdiff.tasks.augment import Augment
from paramdiff.tasks.classification import ImageTask
from paramdiff.tasks.dataset_rows import Reading
from paramdiff.tasks.image_decoding import EncodedImages
from paramdiff.tasks.image_sources import SOURCES, HubImages, Source
from tiny_images import pictures, png, write_folder, write_parquet, write_shards


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAMDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PARAMDIFF_DATA", raising=False)


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is read now does not come from the data set."""

    def refuse(*_):
        raise AssertionError("the data set was read")

    monkeypatch.setattr(image_sources, "read_rows", refuse)


def expected(n: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures(n, (8, 8, 3), seed))).permute(0, 3, 1, 2)


def stored() -> list[Path]:
    return sorted((image_cache.cache_folder() / "images").iterdir())


def test_sources_are_sources(tmp_path: Path):
    for source in (SOURCES["digits"], HubImages("cifar10"), HubImages(str(write_shards(tmp_path / "a")))):
        assert isinstance(source, Source)


def test_a_named_data_set_is_known_before_it_is_read(unreadable):
    source = HubImages("cifar100")
    assert (source.name, source.classes, source.shape) == ("cifar100", 100, (3, 32, 32))
    source = HubImages("ylecun/mnist", size=32, channels=3)
    assert (source.name, source.classes, source.shape) == ("mnist", 10, (3, 32, 32))


def test_pixels_and_labels_arrive_unchanged(tmp_path: Path):
    source = HubImages(str(write_shards(tmp_path / "trees")))
    train, test = source.load()
    assert (source.name, source.classes, source.shape) == ("trees", 3, (3, 8, 8))
    assert torch.equal(train.images, expected()) and torch.equal(test.images, expected(seed=1))
    assert train.labels.tolist() == test.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_images_are_normalised_by_the_training_pixels(tmp_path: Path):
    train, test = HubImages(str(write_shards(tmp_path / "a"))).load()
    x = expected().double() / 255
    assert torch.allclose(torch.tensor(train.mean).double(), x.mean((0, 2, 3)))
    assert torch.allclose(torch.tensor(train.std).double(), x.std((0, 2, 3), correction=0))
    assert (train.mean, train.std) == (test.mean, test.std)


def test_a_named_data_set_brings_its_statistics_unless_its_channels_change(
    tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PARAMDIFF_DATA", str(tmp_path))
    kind = {"names": [str(i) for i in range(10)], "_type": "ClassLabel"}
    write_shards(tmp_path / "mnist", channels=1, size=28, kind=kind)
    assert HubImages("mnist").load()[0].mean == [0.1307]
    assert HubImages("mnist").load()[0].shape == (1, 28, 28)
    assert len(HubImages("mnist", channels=3).load()[0].mean) == 3
    monkeypatch.setattr(image_sources, "statistics", None)
    assert HubImages("mnist", stream=True).load()[0].std == [0.3081]
    with pytest.raises(TaskError, match="has 3 classes; expected 10, as svhn has"):
        write_shards(tmp_path / "svhn")
        HubImages("svhn").load()


def test_the_second_time_nothing_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = str(write_folder(tmp_path / "trees"))
    first = HubImages(folder).load()
    monkeypatch.setattr(image_sources, "read_rows", None)
    again = HubImages(folder)
    assert (again.classes, again.shape) == (3, (3, 8, 8))
    for ours, theirs in zip(first, again.load(), strict=True):
        assert torch.equal(ours.images, theirs.images) and torch.equal(ours.labels, theirs.labels)
        assert (ours.mean, ours.std) == (theirs.mean, theirs.std)
    assert [file.name.startswith("trees-") for file in stored()] == [True]


def test_another_way_to_read_or_a_changed_file_is_decoded_again(tmp_path: Path):
    folder = write_shards(tmp_path / "a")
    HubImages(str(folder)).load()
    assert HubImages(str(folder), size=4).load()[0].shape == (3, 4, 4)
    assert HubImages(str(folder), channels=1).load()[0].shape == (1, 8, 8)
    assert len(HubImages(str(folder), Reading(holdout=0.5)).load()[1]) == 3
    assert len(stored()) == 4
    file = folder / "data/train-00000-of-00001.parquet"
    write_parquet(file, [png(image) for image in pictures(6, (8, 8, 3), seed=5)], [0, 1, 2, 0, 1, 2])
    os.utime(file, (1, 1))
    assert torch.equal(HubImages(str(folder)).load()[0].images, expected(seed=5))


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _lose_a_tensor(file: Path) -> None:
    tensors = load_tensors(file)
    metadata = image_cache.load_metadata(file)
    save_tensors(
        file, {name: tensor.clone() for name, tensor in tensors.items() if name != "test.labels"}, metadata
    )


def _spoil_a_label(file: Path) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_tensors(file).items()}
    tensors["train.labels"][2] = 3
    save_tensors(file, tensors, image_cache.load_metadata(file))


def _forget_the_facts(file: Path) -> None:
    save_tensors(file, {name: tensor.clone() for name, tensor in load_tensors(file).items()}, {})


@pytest.mark.parametrize("damage", [_cut, _lose_a_tensor, _spoil_a_label, _forget_the_facts])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage):
    folder = str(write_shards(tmp_path / "a"))
    HubImages(folder).load()
    (file,) = stored()
    damage(file)
    again = HubImages(folder)
    assert (again.classes, again.shape) == (3, (3, 8, 8))
    assert torch.equal(again.load()[0].images, expected())
    facts = image_cache.ImageCache.info(again._cache)
    assert facts is not None and facts.fit(
        *(load_tensors(file)[f"train.{kind}"] for kind in ("images", "labels"))
    )


def test_a_disk_that_refuses_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_):
        raise DiskError("the disk is full while writing x")

    said = []
    monkeypatch.setattr(image_cache, "save_tensors", refuse)
    monkeypatch.setattr(image_cache, "say", said.append)
    train, _ = HubImages(str(write_shards(tmp_path / "a"))).load()
    assert torch.equal(train.images, expected())
    assert said == [
        "  the disk is full while writing x: a is not kept decoded; set PARAMDIFF_CACHE to another folder"
    ]


def test_a_streamed_set_gives_the_same_batches(tmp_path: Path):
    folder = str(write_folder(tmp_path / "a", n=10))
    settings = ImageTask(data=folder, batch_size=4, scoring_batch_size=3, augment=Augment(1, True, 0.6))
    once, streamed = settings.make(), ImageTask(**{**vars(settings), "stream": True}).make()
    assert once.source.classes == streamed.source.classes
    assert isinstance(streamed.train_data().images, EncodedImages)
    for ours, theirs in (
        (once.train_data().shuffled(3), streamed.train_data().shuffled(3)),
        (once.test_data().batches(), streamed.test_data().batches()),
    ):
        for (x, y), (z, w) in zip(ours, theirs, strict=True):
            assert torch.equal(x, z) and torch.equal(y, w)


def test_a_set_that_takes_too_much_memory_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, size = str(write_shards(tmp_path / "a")), 2 * 6 * 3 * 8 * 8
    monkeypatch.setattr(image_sources, "memory_bytes", lambda: 2 * size)
    assert isinstance(HubImages(folder, stream=True).load()[0].images, EncodedImages)
    assert isinstance(HubImages(folder).load()[0].images, torch.Tensor)
    (tmp_path / "cache").rename(tmp_path / "gone")
    monkeypatch.setattr(image_sources, "memory_bytes", lambda: 2 * size - 2)
    assert isinstance(HubImages(folder).load()[0].images, EncodedImages)
    assert isinstance(HubImages(folder, stream=False).load()[0].images, torch.Tensor)


def test_the_statistics_of_a_streamed_set_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = str(write_shards(tmp_path / "a"))
    first = HubImages(folder, stream=True).load()[0]
    assert first.mean == HubImages(folder, stream=False).load()[0].mean
    (image_cache.cache_folder() / "images").rename(tmp_path / "gone")
    HubImages(folder, stream=True).load()
    assert [file.suffix for file in stored()] == [".json"]
    monkeypatch.setattr(image_sources, "statistics", None)
    assert HubImages(folder, stream=True).load()[0].mean == first.mean


def test_a_damaged_image_stops_with_its_name_and_leaves_no_file(tmp_path: Path):
    folder = write_folder(tmp_path / "trees")
    broken = folder / "test/birch/4.jpg"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(
        TaskError, match=r"trees, split test: the image in row \d \(.*birch/4.jpg\) cannot be decoded"
    ):
        HubImages(str(folder)).load()
    assert not (image_cache.cache_folder() / "images").exists()
