"""The examples run as they say."""

from pathlib import Path

import pytest

from paramdiff.cli import main
from paramdiff.zoo.zoo import Zoo
from tiny_images import write_folder

EXAMPLES = Path(__file__).parents[1] / "examples"
IMAGE_FOLDER = ["--config-dir", str(EXAMPLES / "image_folder"), "experiment=trees"]


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images that the project has never seen, as the example wants it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARAMDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PARAMDIFF_DATA", raising=False)
    return write_folder(tmp_path / "trees", n=48, size=(40, 32))


def test_an_image_folder_needs_ten_lines_of_yaml(trees: Path):
    text = (EXAMPLES / "image_folder/experiment/trees.yaml").read_text()
    assert sum(not line.startswith("#") for line in text.splitlines()) <= 10
    small = ["zoo.k=6", "zoo.pretrain.epochs=1", "task.batch_size=16", "run_dir=run"]
    assert main(["collect", *IMAGE_FOLDER, *small]) == 0
    zoo = Zoo.load(Path("run/zoo"))
    assert zoo.about["task"]["data"] == "trees" and zoo.base["head.weight"].shape == (3, 64)


def test_without_its_folder_the_example_says_what_is_missing(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARAMDIFF_DATA", raising=False)
    assert main(["collect", *IMAGE_FOLDER]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "paramdiff: error: task.data: there is no data set 'trees' (looked for trees); expected a"
    )


def test_data_has_to_be_named(capsys):
    assert main(["collect", "task=images"]) == 2
    assert "task.data" in capsys.readouterr().err.splitlines()[-1]
