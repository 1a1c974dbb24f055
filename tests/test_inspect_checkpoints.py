"""``paramdiff inspect`` on folders of strangers: what is there, what is taken, what can and cannot be told."""

import json
from pathlib import Path

import pytest
import torch

from paramdiff.cli import main
from paramdiff.files import save_tensors
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.tasks import TASKS, make_task
from paramdiff.zoo.inspection import inspect
from paramdiff.zoo.zoo import Zoo

TASK = ["task=digits", "task.model=mlp"]


def make_zoo(vectors: torch.Tensor, trajectory: bool = False) -> Zoo:
    state = {"w": vectors[0].clone()}
    return Zoo(vectors, ParameterSpec.from_state_dict(state), state, None, {"trajectory": trajectory})


def inspected(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert main(["inspect", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def networks(folder: Path, n: int = 4) -> Path:
    """Checkpoints of the digits' network."""
    folder.mkdir(parents=True, exist_ok=True)
    model = make_task(TASKS["digits"](model="mlp")).model()
    for i in range(n):
        state = {name: t + 0.01 * torch.randn_like(t) for name, t in model.state_dict().items()}
        save_tensors(folder / f"net{i}.safetensors", state)
    return folder


def test_the_largest_group_of_a_messy_folder_is_inspected_and_another_on_demand(tmp_path, capsys):
    for i in range(3):
        torch.save({"w": torch.randn(5)}, tmp_path / f"net{i}.pt")
    for i in range(2):
        torch.save({"module.v": torch.randn(7)}, tmp_path / f"other{i}.bin")
    torch.save({"state": {}, "param_groups": []}, tmp_path / "sgd.pt")
    facts = inspected(capsys, str(tmp_path))
    assert (facts["k"], facts["dim"]) == (3, 5)
    assert [text.split(",")[0] for text in facts["groups"]] == [
        "3 files of 1 tensor and 5 numbers", "2 files of 1 tensor and 7 numbers", "1 file without a network",
    ]  # fmt: skip
    facts = inspected(capsys, str(tmp_path), "group=2")
    assert (facts["k"], facts["dim"], facts["groups"]) == (2, 7, [])
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "files:      of 3 kinds; the first is taken, another with group=2" in out
    assert "(2) 2 files of 1 tensor and 7 numbers" in out
    for group in ("3", "0", "x", "-1", "9" * 30):
        assert main(["inspect", str(tmp_path), f"group={group}"]) == 2
    assert "group: " in capsys.readouterr().err


def test_a_folder_without_a_file_of_the_tasks_network_is_refused(tmp_path, capsys):
    for i in range(3):
        torch.save({"w": torch.randn(5 + i)}, tmp_path / f"net{i}.pt")
    assert main(["inspect", str(tmp_path), *TASK]) == 2
    assert "holds 1 tensors that the model does not have" in capsys.readouterr().err


def test_the_selection_is_the_same_with_and_without_a_task_and_the_network_is_said(tmp_path, capsys):
    folder = networks(tmp_path)
    without, named = inspected(capsys, str(folder)), inspected(capsys, str(folder), *TASK)
    assert without["dim"] == named["dim"] and without["select"] == named["select"] == "all"
    assert (without["network"], named["network"]) == ("", "mlp")
    assert main(["inspect", str(folder), *TASK]) == 0
    out = capsys.readouterr().out
    assert "network:    mlp" in out and "select = 'all'" in out


def test_the_default_network_is_said_to_be_one(tmp_path, capsys):
    model = make_task(TASKS["digits"]()).model()
    for i in range(2):
        save_tensors(tmp_path / f"{i}.safetensors", {name: t + i for name, t in model.state_dict().items()})
    facts = inspected(capsys, str(tmp_path), "task=digits")
    assert facts["network"] == "convnet (the default of digits; another with task.model=NAME)"


def test_a_part_of_a_network_is_inspected_as_far_as_it_is_held(tmp_path, capsys):
    model = make_task(TASKS["digits"](model="mlp")).model()
    last = list(model.state_dict())[-2:]
    for i in range(3):
        torch.save({name: torch.randn_like(model.state_dict()[name]) for name in last}, tmp_path / f"{i}.pt")
    with_task, without = inspected(capsys, str(tmp_path), *TASK), inspected(capsys, str(tmp_path))
    assert with_task["dim"] == without["dim"]
    assert [t["name"] for t in with_task["tensors"]] == [t["name"] for t in without["tensors"]] == last


def test_without_data_nothing_is_promised(tmp_path, capsys):
    facts = inspected(capsys, str(networks(tmp_path)))
    said = " ".join(facts["recommendations"])
    assert "Likely to work" not in said
    assert "Without data it cannot be told whether the checkpoints work" in said and "task=NAME" in said


def test_near_copies_are_counted_beside_copies():
    torch.manual_seed(0)
    v = torch.randn(20, 200)
    close = v[:5] + 0.02 * torch.randn(5, 200)
    zoo = make_zoo(torch.cat([v, close, v[:2]]))
    facts = inspect(zoo)
    assert facts.duplicates == [25, 26] and facts.near_duplicates == [20, 21, 22, 23, 24]
    assert any(
        "5 of 27 checkpoints are nearly copies of others (members 20, 21, 22, 23, 24), as steps of one training are: "
        "the zoo is worth about K = 20" in sentence
        for sentence in facts.recommendations
    )
    assert inspect(make_zoo(v)).near_duplicates == []


def test_runs_of_near_copies_are_found_and_independent_walks_are_not():
    torch.manual_seed(0)
    runs = torch.cat([torch.randn(1, 300) + 0.03 * torch.randn(6, 300) for _ in range(4)])
    assert len(inspect(make_zoo(runs)).near_duplicates) == 20
    walk = torch.randn(50, 300).cumsum(0)
    assert len(inspect(make_zoo(walk, trajectory=True)).near_duplicates) == 0
