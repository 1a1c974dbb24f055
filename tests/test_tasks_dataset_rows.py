"""From a name to a folder or the Hub, and what is said when there is nothing."""

import os
import sys
from pathlib import Path

import pytest

from paramdiff.errors import ConfigError, TaskError
from paramdiff.tasks import dataset_rows
from paramdiff.tasks.dataset_rows import DatasetLocation, Reading, locate, read_rows
from tiny_images import write_folder, write_shards


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``PARAMDIFF_DATA``, with another folder as the current one."""
    (tmp_path / "here").mkdir()
    (tmp_path / "root").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PARAMDIFF_DATA", str(tmp_path / "root"))
    return tmp_path / "root"


def test_a_name_is_looked_for_under_the_root_first(root: Path):
    here = root.parent / "here/leaves"
    here.mkdir()
    assert locate("leaves").path == str(here)
    (root / "leaves").mkdir()
    assert locate("leaves").path == str(root / "leaves") and locate("leaves").local
    assert locate("./leaves").path == str(here)
    assert locate(str(here)).path == str(here)


@pytest.mark.parametrize("name", ["cifar100", "uoft-cs/cifar100"])
@pytest.mark.parametrize("folder", ["cifar100", "uoft-cs/cifar100"])
def test_a_named_data_set_is_found_by_either_of_its_names(root: Path, name: str, folder: str):
    assert locate(name) == DatasetLocation(name, "cifar100", "uoft-cs/cifar100", locate(name).tried)
    assert not locate(name).local and len(locate(name).tried) == 2
    (root / folder).mkdir(parents=True)
    assert locate(name) == DatasetLocation(name, "cifar100", str(root / folder))


def test_a_folder_that_happens_to_be_called_like_a_named_data_set_is_not_taken(root: Path):
    (root.parent / "here/mnist").mkdir()
    assert locate("mnist").path == "ylecun/mnist"
    assert locate("./mnist").path == str(root.parent / "here/mnist")


def test_the_last_part_of_an_id_is_enough_under_the_root(root: Path):
    assert locate("someone/leaves").path == "someone/leaves"
    (root / "leaves").mkdir()
    assert locate("someone/leaves") == DatasetLocation("someone/leaves", None, str(root / "leaves"))


def test_a_name_that_is_nothing_is_explained_at_once(root: Path):
    with pytest.raises(TaskError) as caught:
        locate("cifar")
    assert str(caught.value).startswith(
        f"there is no data set 'cifar' (looked for {root}/cifar, cifar); expected a"
    )
    assert str(caught.value).endswith("did you mean cifar10, cifar100")
    with pytest.raises(TaskError, match=r"^there is no data set './leaves' \(looked for leaves\)"):
        locate("./leaves")


def test_the_stamp_follows_the_files(tmp_path: Path):
    place = DatasetLocation("a", None, str(tmp_path))
    stamps = [place.stamp()]
    file = tmp_path / "deep/1.png"
    file.parent.mkdir()
    for content in (b"1", b"12"):
        file.write_bytes(content)
        stamps.append(place.stamp())
    os.utime(file, (1, 1))
    stamps.append(place.stamp())
    file.rename(tmp_path / "deep/2.png")
    stamps.append(place.stamp())
    assert len(set(stamps)) == 5 and place.stamp() == stamps[-1]


def test_shards_and_image_folders_are_read(tmp_path: Path):
    for write in (write_shards, write_folder):
        folder = write(tmp_path / write.__name__)
        rows = read_rows(DatasetLocation("a", None, str(folder)), Reading(), tmp_path / "cache")
        assert {name: len(split) for name, split in rows.items()} == {"train": 6, "test": 6}
        assert rows["train"].features["label"].names == ["ash", "birch", "cedar"]


def test_the_configuration_of_a_named_data_set_is_taken_where_the_folder_has_it(tmp_path: Path):
    plain, card = write_shards(tmp_path / "plain"), write_shards(tmp_path / "card")
    config = "- config_name: {}\n  data_files:\n  - split: train\n    path: data/{}-*\n"
    text = config.format("full_numbers", "test") + config.format("cropped_digits", "train")
    (card / "README.md").write_text(f"---\nconfigs:\n{text}---\n")
    for folder, splits in ((plain, {"train", "test"}), (card, {"train"})):
        rows = read_rows(DatasetLocation("svhn", "svhn", str(folder)), Reading(), tmp_path / "cache")
        assert set(rows) == splits


def test_a_damaged_file_is_named(tmp_path: Path):
    folder = write_shards(tmp_path / "a")
    file = folder / "data/test-00000-of-00001.parquet"
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:40] + bytes(400) + whole[440:]):
        file.write_bytes(damaged)
        with pytest.raises(TaskError) as caught:
            read_rows(DatasetLocation("a", None, str(folder)), Reading(), tmp_path / "cache")
        assert str(caught.value).startswith(f"{file} is damaged (")
        assert str(caught.value).endswith("expected a complete parquet file; copy or download it again")


def test_a_folder_of_something_else_is_explained(tmp_path: Path):
    with pytest.raises(
        TaskError, match="cannot be read as a data set .*; expected parquet files, or an image folder"
    ):
        read_rows(DatasetLocation("a", None, str(tmp_path)), Reading(), tmp_path / "cache")


def test_without_the_hub_it_is_said_how_to_get_the_data(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dataset_rows, "_hub_reachable", lambda: False)
    with pytest.raises(TaskError) as caught:
        read_rows(locate("svhn"), Reading(), root / "cache")
    assert str(caught.value) == (
        f"the data set 'svhn' is not on this machine (looked for {root}/svhn, {root}/ufldl-stanford/svhn) and the "
        "Hugging Face Hub, where it is ufldl-stanford/svhn, cannot be reached; go online, or get a copy (parquet files "
        "or an image folder) and set task.data to its path, or PARAMDIFF_DATA to the folder around it"
    )


def test_the_hub_is_not_tried_again_and_again(monkeypatch: pytest.MonkeyPatch):
    """One request decides, and the library is told."""
    import datasets
    from huggingface_hub import utils

    class Session:
        asked = 0

        def head(self, url: str, timeout: float) -> None:
            Session.asked += 1
            raise OSError("no network")

    monkeypatch.setattr(utils, "get_session", Session)
    assert not dataset_rows._hub_reachable() and Session.asked == 1
    seen = []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_, **__: seen.append(datasets.config.HF_HUB_OFFLINE)
    )
    before = datasets.config.HF_HUB_OFFLINE
    read_rows(locate("someone/leaves"), Reading(), Path("nowhere"))
    assert seen == [True] and before == datasets.config.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (
            "Dataset 'a/b' is a gated dataset on the Hub.",
            r"gated dataset.*; ask for access .* `hf auth login`$",
        ),
        (
            "Dataset 'a/b' doesn't exist on the Hub",
            r"^the Hugging Face Hub does not give 'a/b' \(Dataset 'a/b' doesn't",
        ),
    ],
)
def test_what_the_hub_refuses_is_passed_on(monkeypatch: pytest.MonkeyPatch, said: str, text: str):
    import datasets

    def refuse(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError(said)

    monkeypatch.setattr(dataset_rows, "_hub_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(TaskError, match=text):
        read_rows(locate("a/b"), Reading(), Path("nowhere"))


def test_the_hub_gets_the_id_configuration_and_revision(monkeypatch: pytest.MonkeyPatch):
    import datasets

    calls = []
    monkeypatch.delenv("PARAMDIFF_DATA", raising=False)
    monkeypatch.setattr(dataset_rows, "_hub_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: calls.append((args, options)))
    read_rows(locate("svhn"), Reading(revision="abc"), Path("nowhere"))
    read_rows(locate("a/b"), Reading(config="small"), Path("nowhere"))
    assert calls == [
        (("ufldl-stanford/svhn", "cropped_digits"), {"revision": "abc"}),
        (("a/b", "small"), {"revision": None}),
    ]


def test_a_missing_library_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(TaskError, match=r"needs the datasets library; pip install 'paramdiff\[vision\]'"):
        read_rows(DatasetLocation("a", None, str(tmp_path)), Reading(), tmp_path)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="holdout: 1 is out of range; expected at least 0 and less than 1"):
        Reading(holdout=1)
    with pytest.raises(ConfigError, match="holdout: 0.2 as well as test=val; expected one of them"):
        Reading(holdout=0.2, test="val")
