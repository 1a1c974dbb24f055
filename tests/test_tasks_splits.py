"""Splits, columns and labels inside a data set."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from paramdiff.errors import TaskError
from paramdiff.tasks.dataset_rows import DatasetLocation, Reading, read_rows
from paramdiff.tasks.splits import Split, held_out, open_splits
from tiny_images import CLASS, INTEGER, pictures, png, write_folder, write_parquet, write_shards

IMAGES = [png(image) for image in pictures(6, (4, 4))]


def opened(folder: Path, short_name: str | None = None, **reading) -> tuple[Split, Split, int]:
    place, settings = DatasetLocation("trees", short_name, str(folder)), Reading(**reading)
    return open_splits(read_rows(place, settings, folder.parent / "cache"), place, settings)


@pytest.mark.parametrize("write", [write_shards, write_folder])
def test_splits_of_a_plain_set(tmp_path: Path, write):
    train, test, classes = opened(write(tmp_path / "a", n=7))
    assert (len(train), len(test), classes) == (7, 7, 3)
    assert train.labels.bincount().tolist() == [3, 2, 2]
    assert (train.name, test.name) == ("trees, split train", "trees, split test")
    for encoded in train.encoded(torch.tensor([3, 0])):
        assert encoded is not None and (encoded["bytes"] is not None or Path(encoded["path"]).is_file())


def test_columns_are_found_by_their_type_whatever_their_names(tmp_path: Path):
    more = {
        "weight": (INTEGER, list(range(6))),
        "text": ({"dtype": "string", "_type": "Value"}, list("abcdef")),
    }
    folder = write_shards(tmp_path / "a", image="img", label="species", more=more)
    train, _, _ = opened(folder)
    assert train.image == "img" and train.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_integers_are_labels_where_there_are_no_class_labels(tmp_path: Path):
    train, _, classes = opened(write_shards(tmp_path / "a", kind=INTEGER))
    assert classes == 3 and train.labels.dtype == torch.int64


def test_parquet_without_the_hubs_schema_is_read(tmp_path: Path):
    train, _, classes = opened(write_shards(tmp_path / "a", schema=False))
    assert classes == 3 and train.image == "image"


def test_several_label_columns_are_named_unless_one_is_chosen(tmp_path: Path):
    coarse = {"coarse_label": ({"names": ["leaf", "needle"], "_type": "ClassLabel"}, [0, 0, 1, 0, 0, 1])}
    folder = write_shards(tmp_path / "a", label="fine_label", more=coarse)
    with pytest.raises(TaskError) as caught:
        opened(folder)
    assert str(caught.value) == (
        "trees: the columns fine_label, coarse_label could all be the labels; it has image (Image), "
        "fine_label (ClassLabel), coarse_label (ClassLabel); set task.reading.label to the column to use"
    )
    assert opened(folder, label="coarse_label")[2] == 2
    with pytest.raises(TaskError, match=r"no column 'fine' \(task.reading.label\); did you mean fine_label"):
        opened(folder, label="fine")


def test_a_named_data_set_knows_its_label_column(tmp_path: Path):
    names = [str(i) for i in range(100)]
    kind = {"names": names, "_type": "ClassLabel"}
    folder = write_shards(
        tmp_path / "a", label="fine_label", kind=kind, more={"coarse_label": (CLASS, [0] * 6)}
    )
    train, _, classes = opened(folder, "cifar100")
    assert classes == 100 and train.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_a_set_without_images_is_explained(tmp_path: Path):
    folder = write_shards(tmp_path / "a", more={"n": (INTEGER, list(range(6)))})
    with pytest.raises(TaskError, match=r"column 'images' \(task.reading.image\); did you mean image"):
        opened(folder, image="images")
    import pyarrow as pa
    from pyarrow import parquet

    bare = tmp_path / "b"
    bare.mkdir()
    parquet.write_table(pa.table({"label": [0, 1]}), bare / "train.parquet")
    with pytest.raises(
        TaskError, match=r"trees: no column has the type of the images; it has label \(Value\)"
    ):
        opened(bare)


def test_a_copy_of_a_named_data_set_with_other_classes_is_refused(tmp_path: Path):
    with pytest.raises(TaskError, match="has 3 classes; expected 10, as cifar10 has; give its full path"):
        opened(write_shards(tmp_path / "a"), "cifar10")


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
def test_validation_data_is_the_test_data_where_there_is_no_other(tmp_path: Path, name: str):
    assert len(opened(write_folder(tmp_path / "a", splits=("train", name)))[1]) == 6


def test_a_split_can_be_chosen(tmp_path: Path):
    folder = write_folder(tmp_path / "a", splits=("train", "test"))
    write_folder(folder, n=3, splits=("validation",))
    assert [len(opened(folder, test=test)[1]) for test in (None, "validation")] == [6, 3]
    with pytest.raises(TaskError, match=r"no split 'vali' \(task.reading.test\); did you mean validation"):
        opened(folder, test="vali")


def test_a_named_data_sets_own_test_split_comes_first(tmp_path: Path):
    """ImageNet's test split has no labels."""
    kind = {"names": [str(i) for i in range(1000)], "_type": "ClassLabel"}
    folder = write_shards(tmp_path / "a", kind=kind)
    write_parquet(folder / "data/test-00000-of-00001.parquet", IMAGES, [-1] * 6, kind=kind)
    write_parquet(folder / "data/validation-00000-of-00001.parquet", IMAGES[:4], [3, 1, 0, 2], kind=kind)
    assert opened(folder, "imagenet1k")[1].labels.tolist() == [3, 1, 0, 2]
    with pytest.raises(
        TaskError, match=r"split test: row 0 has the label -1 \(6 such rows\); expected 0 to 999"
    ):
        opened(folder)


def test_without_test_data_it_is_said_how_to_name_some(tmp_path: Path):
    folder = write_folder(tmp_path / "a", n=12, splits=("train",))
    with pytest.raises(TaskError) as caught:
        opened(folder)
    assert str(caught.value) == (
        "trees has no test split, only train; expected one of test, validation, valid, val; set task.reading.test to "
        "the split to use or task.reading.holdout=0.2, a share of the training data"
    )
    train, test, classes = opened(folder, holdout=0.25)
    assert (len(train), len(test), classes) == (9, 3, 3)
    assert test.labels.tolist() == [0, 1, 2]
    assert sorted(torch.cat([train.chosen, test.chosen]).tolist()) == list(range(12))
    again = opened(folder, holdout=0.25)[1]
    assert torch.equal(test.chosen, again.chosen)


def test_held_out_items_are_a_share_of_each_class():
    labels = torch.arange(4).repeat_interleave(torch.tensor([2, 10, 20, 50]))
    held = held_out(labels, 0.2)
    assert labels[held].bincount().tolist() == [1, 2, 4, 10]
    with pytest.raises(TaskError, match="holdout=0.6 leaves none of the 1 images of class 2 for training"):
        held_out(torch.tensor([0, 0, 1, 1, 2]), 0.6)


@pytest.mark.parametrize(
    ("labels", "kind", "text"),
    [
        ([0, 1, 7, 0, 9, 1], CLASS, r"row 2 has the label 7 \(2 such rows\); expected 0 to 2; repair it"),
        ([0, 1, None, 0, 2, 1], CLASS, r"row 2 has the label None \(1 such rows\); expected 0 to 2"),
        ([0, 1, 2, -3, 2, 1], INTEGER, r"row 3 has the label -3 \(1 such rows\); expected 0 or more"),
    ],
)
def test_a_wrong_label_is_named(tmp_path: Path, labels, kind, text: str):
    folder = write_shards(tmp_path / "a", kind=kind)
    write_parquet(folder / "data/train-00000-of-00001.parquet", IMAGES, labels, kind=kind)
    with pytest.raises(TaskError, match=f"^trees, split train: {text}"):
        opened(folder)


def test_a_test_label_that_was_never_trained_is_named(tmp_path: Path):
    folder = write_shards(tmp_path / "a", kind=INTEGER)
    write_parquet(folder / "data/test-00000-of-00001.parquet", IMAGES, [0, 1, 2, 3, 2, 1], kind=INTEGER)
    with pytest.raises(
        TaskError, match=r"split test: row 3 has the label 3 \(1 such rows\); expected 0 to 2"
    ):
        opened(folder)


def test_labels_that_are_not_numbers_are_named(tmp_path: Path):
    text = {"dtype": "string", "_type": "Value"}
    folder = write_shards(tmp_path / "a", more={"name": (text, list("abcdef"))})
    with pytest.raises(TaskError, match="the labels in column 'name' are of type string; expected integers"):
        opened(folder, label="name")


def test_an_empty_split_is_named(tmp_path: Path):
    place = DatasetLocation("trees", None, str(write_shards(tmp_path / "a")))
    rows = read_rows(place, Reading(), tmp_path / "cache")
    rows["test"] = rows["test"].select([])
    with pytest.raises(TaskError, match="trees, split test is empty; expected at least one image"):
        open_splits(rows, place, Reading())


# --- paths in tables -------------------------------------------------------------------------------


def with_path(folder: Path, path: str) -> Path:
    """A data set whose first training image is not in the table but in a file."""
    import pyarrow
    from pyarrow import parquet

    (file,) = write_shards(folder).rglob("*train*.parquet")
    table = parquet.read_table(file)
    rows = table.column("image").to_pylist()
    rows[0] = {"bytes": None, "path": path}
    encoded = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    column = table.schema.get_field_index("image")
    changed = table.set_column(column, "image", pyarrow.array(rows, encoded))
    parquet.write_table(changed.replace_schema_metadata(table.schema.metadata), file)
    return folder


def first_image(folder: Path) -> list[dict[str, Any] | None]:
    place = DatasetLocation("trees", None, str(folder))
    train, _, _ = open_splits(read_rows(place, Reading(), folder.parent / "cache"), place, Reading())
    return train.encoded(torch.tensor([0]))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/dev/zero", "lies outside of the data set"), ("../out.png", "lies outside of the data set"),
        ("{folder}/../out.png", "lies outside of the data set"), ("pipe", "is a FIFO, not a file"),
        ("lost.png", "does not exist"), ("zero", "is a device, not a file"), (".", "is a folder, not a file"),
    ],
)  # fmt: skip
def test_a_path_in_a_table_leads_to_files_of_the_data_set_only(tmp_path: Path, path: str, message: str):
    folder = tmp_path / "set"
    with_path(folder, path.format(folder=folder))
    (tmp_path / "out.png").write_bytes(b"x")
    os.mkfifo(folder / "pipe")
    (folder / "zero").symlink_to("/dev/zero")
    with pytest.raises(
        TaskError, match=rf"split train: the image in row 0 \(.*\) {message}; expected an image in"
    ):
        first_image(folder)


def test_files_of_the_data_set_may_be_named(tmp_path: Path):
    folder = with_path(tmp_path / "set", "own.png")
    (folder / "own.png").write_bytes(b"x")
    assert first_image(folder) == [{"bytes": None, "path": str(folder / "own.png")}]
