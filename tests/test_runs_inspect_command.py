"""``paramdiff inspect``: barriers before and after weight matching, and damaged zoos."""

import json
from pathlib import Path

import pytest
import torch

from paramdiff.cli import main
from paramdiff.zoo.zoo import Zoo

SEEDS = ["experiment=digits_seeds", "zoo.k=4", "zoo.train.epochs=3"]
TASK = ["task=digits", "task.model=mlp"]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo of four seeds whose units are in no common order."""
    folder = tmp_path_factory.mktemp("seeds")
    assert main(["collect", f"run_dir={folder}", *SEEDS, "zoo.align=false"]) == 0
    return folder / "zoo"


def inspected(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert main(["inspect", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_several_basins_are_tried_to_be_aligned(seeds: Path, capsys: pytest.CaptureFixture[str]):
    facts = inspected(capsys, str(seeds), *TASK)
    assert facts["basin"]["one_basin"] is False
    assert facts["aligned"]["before"] == facts["basin"]
    assert facts["aligned"]["after"]["barrier"] < facts["aligned"]["before"]["barrier"]
    assert facts["notes"][-1].startswith("tried here: 2 of 2 groups of hidden units")
    assert "aligned" not in Zoo.load(seeds).about
    assert main(["inspect", str(seeds), *TASK]) == 0
    before, after = (facts["aligned"][key] for key in ("before", "after"))
    assert (
        f"aligned:    2 of 2 groups of hidden units; midpoints: accuracy {before['midpoints']:.4f} "
        f"(barrier {before['barrier']:.4f}) before, {after['midpoints']:.4f} (barrier {after['barrier']:.4f}) after"
    ) in capsys.readouterr().out


def test_an_aligned_zoo_tells_what_was_recorded(
    seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert main(["collect", f"run_dir={tmp_path}", *SEEDS, "zoo.align=true"]) == 0
    recorded = Zoo.load(tmp_path / "zoo").about["aligned"]
    monkeypatch.setattr("paramdiff.runs.inspecting.align_zoo", None)  # not done a second time
    assert inspected(capsys, str(tmp_path), *TASK)["aligned"] == recorded


def test_without_a_task_or_for_a_trajectory_nothing_is_aligned(
    seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    zoo = Zoo.load(seeds)
    zoo.about["trajectory"] = True
    zoo.save(tmp_path / "steps")
    assert inspected(capsys, str(tmp_path / "steps"), *TASK)["aligned"] is None
    del zoo.about["task"]
    zoo.about["trajectory"] = False
    zoo.save(tmp_path / "foreign")
    facts = inspected(capsys, str(tmp_path / "foreign"))
    assert facts["basin"] is None and facts["aligned"] is None


def test_a_damaged_zoo_is_one_line(seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    zoo = Zoo.load(seeds)
    zoo.save(tmp_path / "zoo")
    other = Zoo(torch.zeros_like(zoo.vectors), zoo.spec, zoo.base)
    other.save(tmp_path / "other")
    (tmp_path / "other/vectors.safetensors").replace(tmp_path / "zoo/vectors.safetensors")
    assert main(["inspect", str(tmp_path / "zoo")]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "vectors.safetensors" in x]
    assert "is not the file that was saved" in line
