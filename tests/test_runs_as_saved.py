"""The row of the checkpoints as they are in their files, where they differ outside the selection."""

from pathlib import Path

import pytest
import torch

from paramdiff.errors import CheckpointError, FrozenRestWarning
from paramdiff.files import load_tensors, save_tensors
from paramdiff.runs.config import build
from paramdiff.runs.configured import plan_of
from paramdiff.runs.launch import composed
from paramdiff.runs.pipeline import Pipeline
from paramdiff.runs.stages import originals
from paramdiff.scoring import saved_networks as scoring
from paramdiff.seeds import seeded
from paramdiff.zoo.records import OUTSIDE
from paramdiff.zoo.saved_networks import states, why_unreadable
from paramdiff.zoo.zoo import Zoo

ROW = "scores/original-as-saved.safetensors"
K = 3


def pipeline(folder: Path, *words: str) -> Pipeline:
    small = [
        "task.model_options={channels: [4, 4]}",
        "task.selection_items=50",
        f"zoo.path={folder / 'files'}",
    ]
    words = ["name=digits", "zoo=import", f"run_dir={folder / 'r'}", *small, *words]
    return Pipeline(plan_of(build(composed(words))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Networks that differ in everything, statistics of norm layers included."""
    (tmp_path / "files").mkdir()
    for seed in range(K):
        with seeded("as saved", seed):
            model = pipeline(tmp_path).context.task.model()
            for (
                name,
                value,
            ) in model.state_dict().items():  # random answers, which differ from network to network
                value.copy_(torch.rand(value.shape) + 0.5 if "var" in name else torch.randn(value.shape))
        torch.save(model.state_dict(), tmp_path / "files" / f"{seed}.pt")
    return tmp_path


def collected(folder: Path, *words: str) -> Pipeline:
    run = pipeline(folder, *words)
    run.run("collect")
    return run


def score(run: Pipeline) -> None:
    with run.folder.opened():
        run.folder.run_all(originals.stages(run.context))
        originals.score_as_saved(run.context)


def accuracy(run: Pipeline, state: dict[str, torch.Tensor]) -> float:
    model, right, items = run.context.task.model(), 0, 0
    model.load_state_dict(state)
    for batch in run.context.task.test_data().batches():
        answers = model.eval()(*run.context.task.inputs(batch)).argmax(1)
        right, items = right + int((answers == batch[1]).sum()), items + len(batch[1])
    return right / items


def test_the_row_is_of_the_networks_in_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch):
    run = collected(folder, "zoo.select=conv1.*")
    monkeypatch.setattr(scoring, "NETWORKS_AT_ONCE", 1)  # one network at a time
    score(run)
    files = [torch.load(folder / "files" / f"{seed}.pt") for seed in range(K)]
    as_saved = load_tensors(folder / "r" / ROW)["test"]
    assert as_saved.tolist() == pytest.approx([accuracy(run, state) for state in files])
    original = load_tensors(folder / "r" / "scores/original.safetensors")["test"]
    assert original.tolist() == pytest.approx(
        [accuracy(run, run.context.zoo.state_dict(v)) for v in run.context.zoo.vectors]
    )
    assert not torch.equal(original, as_saved)
    first, second = originals.rows(run.context)
    assert (first["name"], second["name"]) == ("original", "original-as-saved")
    assert second["test"]["mean"] == pytest.approx(float(as_saved.mean()))
    (note,) = originals.notes(run.context)
    assert f"mean test accuracy of {as_saved.mean():.4g}; with the frozen rest of the first" in note
    assert f"{original.mean():.4g}" in note


@pytest.mark.parametrize("change", ["gone", "changed", "exchanged"])
def test_files_that_are_no_longer_what_was_imported_leave_the_row_out(folder: Path, change: str):
    run, file = collected(folder, "zoo.select=conv1.*"), folder / "files" / "1.pt"
    state = torch.load(file)
    file.unlink()
    if change == "changed":
        save_tensors(file, {"w": torch.zeros(3)})
    elif change == "exchanged":  # for one of the same size
        torch.save({name: value.flip(0) if value.ndim else value for name, value in state.items()}, file)
    score(run)
    assert not (folder / "r" / ROW).exists() and [row["name"] for row in originals.rows(run.context)] == [
        "original"
    ]
    (note,) = originals.notes(run.context)
    assert note.startswith("the checkpoints could not be scored as they are in their files: ")
    assert {"gone": "1.pt is no longer there", "changed": "1.pt has changed since"}.get(change, "") in note
    torch.save(state, file)
    if not why_unreadable(run.context.zoo):  # the same bytes again
        score(run)
        assert (folder / "r" / ROW).exists()


def test_without_a_selection_everything_is_generated(folder: Path):
    run = collected(folder)
    assert run.context.zoo.spec.select == "all" and OUTSIDE not in run.context.zoo.about
    (note,) = [note for note in run.context.zoo.about["notes"] if "outside last_norms:2" in note]
    assert note.startswith(
        "the checkpoints differ outside last_norms:2 (in conv1.weight, norm1.running_mean, "
    )
    assert (
        "so all tensors are generated; select=last_norms:2 would give every member the frozen rest of 0.pt"
        in note
    )
    assert originals.notes(run.context) == []


def test_statistics_of_norm_layers_count_as_differing(tmp_path: Path):
    norm = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3))
    for index in range(2):
        norm[1].running_mean.fill_(index)
        save_tensors(tmp_path / f"{index}.safetensors", norm.state_dict())
    with pytest.warns(
        FrozenRestWarning, match=r"differ outside the selection '2\.\*' \(1.running_mean\), and the zoo"
    ):
        zoo = Zoo.from_checkpoints(tmp_path, norm, "2.*")
    assert zoo.about[OUTSIDE] == ["1.running_mean"]
    assert [state["1.running_mean"][0].item() for state in states(zoo)] == [0, 1]
    zoo.save(tmp_path / "zoo")
    again = Zoo.load(tmp_path / "zoo")
    assert again.records == zoo.records and len(list(states(again[[1]]))) == 1


def test_only_regular_files_with_the_recorded_bytes_are_read(tmp_path: Path):
    """A manifest from a stranger may name any path."""
    for index in range(2):
        save_tensors(tmp_path / f"{index}.safetensors", {"v": torch.rand(2), "w": torch.rand(2)})
    with pytest.warns(FrozenRestWarning):
        zoo = Zoo.from_checkpoints(tmp_path, select="v")
    zoo.records[1].path = "/dev/zero"
    with pytest.raises(
        CheckpointError, match="/dev/zero is no longer there; expected the files that the zoo was"
    ):
        list(states(zoo))
    zoo.records[1].path = "x" * 5000
    with pytest.raises(CheckpointError, match="xxx is no longer there"):
        list(states(zoo))
    zoo.records[1].path = 3
    assert "1.safetensors was read from is not known" in why_unreadable(zoo)
    zoo.records[1].path, zoo.about[OUTSIDE] = None, 5
    assert zoo.frozen_differences == []
    with pytest.raises(CheckpointError, match=r"where 1.safetensors was read from is not known"):
        list(states(zoo))


def test_merged_zoos_warn_and_know_their_files(tmp_path: Path):
    for name in ("a", "b"):
        rest = torch.rand(2)
        for index in range(2):
            save_tensors(tmp_path / name / f"{index}.safetensors", {"v": torch.rand(2), "w": rest})
    parts = [Zoo.from_checkpoints(tmp_path / name, select="v") for name in ("a", "b")]
    with pytest.warns(FrozenRestWarning, match=r"outside the selection 'v' \(w\)"):
        merged = Zoo.merge(*parts)
    assert merged.about[OUTSIDE] == ["w"] and OUTSIDE not in parts[0].about
    assert torch.equal(list(states(merged))[3]["w"], parts[1].base["w"])
