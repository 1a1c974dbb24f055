"""Image folders whose names say which is for training."""

from pathlib import Path

import pytest

from paramdiff.errors import TaskError
from paramdiff.tasks.dataset_rows import DatasetLocation, Reading, read_rows
from paramdiff.tasks.image_folders import split_folders, split_of
from paramdiff.tasks.splits import open_splits
from tiny_images import pictures, png


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Train_png", "train"), ("TRAIN", "train"), ("training", "train"), ("my-training-images", "train"),
        ("train2017", "train"), ("Test_png", "test"), ("images.testing", "test"), ("Val", "validation"),
        ("valid", "validation"), ("Validation-set", "validation"), ("train_test", None), ("trained", None),
        ("contest", None), ("masks", None),
    ],
)  # fmt: skip
def test_a_name_says_what_a_folder_is_for(name: str, split: str | None):
    assert split_of(name) == split


def folder(root: Path, *names: str) -> Path:
    image = png(pictures(1, (4, 4))[0])
    for name in names:
        for kind in ("ash", "oak"):
            (root / name / kind).mkdir(parents=True)
            (root / name / kind / "0.png").write_bytes(image)
    (root / "notes").mkdir()
    return root


def test_names_that_the_library_knows_are_left_to_it(tmp_path: Path):
    assert split_folders(folder(tmp_path, "train", "test"), None, None) is None


def test_only_one_of_several_is_taken(tmp_path: Path):
    root = folder(tmp_path, "Train_png", "Train_jpg", "Test_png")
    text = "the folders Train_jpg, Train_png could all be the train data; set task.reading.train to the one to use"
    with pytest.raises(TaskError, match=text):
        split_folders(root, None, None)
    found = split_folders(root, "Train_png", None)
    assert found == {"train": f"{root}/Train_png/**", "test": f"{root}/Test_png/**"}


def test_one_that_is_called_so_exactly_is_preferred(tmp_path: Path):
    found = split_folders(folder(tmp_path, "Train", "Train_jpg", "Test"), None, None)
    assert found == {"train": f"{tmp_path}/Train/**", "test": f"{tmp_path}/Test/**"}


@pytest.mark.parametrize("reading", [Reading(), Reading(train="Train_png", test="Test_png")])
def test_such_a_folder_is_read(tmp_path: Path, reading: Reading):
    place = DatasetLocation("trees", None, str(folder(tmp_path / "trees", "Train_png", "Test_png")))
    rows = read_rows(place, reading, tmp_path / "cache")
    train, test, classes = open_splits(rows, place, reading)
    assert (len(train), len(test), classes) == (2, 2, 2)
