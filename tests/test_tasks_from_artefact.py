"""What a zoo says about its task is data: nothing of it runs, is imported, fetched or interpolated."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from paramdiff.cli import main
from paramdiff.errors import ParamdiffError
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.runs.config import plain
from paramdiff.tasks import make_task
from paramdiff.tasks.from_artefact import UntrustedError, described_task
from paramdiff.zoo.zoo import Zoo

COMMAND = {"args": "touch {mark}", "shell": True}
DIGITS = plain(make_task("digits").settings)  # type: ignore[attr-defined]

CODE: dict[str, dict[str, Any]] = {
    "own task": {"kind": "OwnTask", "name": "subprocess:check_output", "options": COMMAND},
    "own task without options": {"kind": "OwnTask", "name": "antigravity:fly"},
    "own task of a text": {"kind": "OwnTask", "name": "os:system", "options": "touch {mark}"},
    "model": DIGITS | {"model": "os:system", "model_options": {"command": "touch {mark}"}},
    "model with a slash": DIGITS | {"model": "timm/os:system", "model_options": {"command": "touch {mark}"}},
    "library and path": DIGITS | {"model": "timm/../x"},
    "model of the hub": DIGITS | {"model": "timm/hf-hub:somebody/something"},
    "checkpoint": DIGITS
    | {"model": "timm/resnet18", "model_options": {"arguments": {"checkpoint_path": "/tmp/evil.pth"}}},
    "loose checkpoint": DIGITS
    | {"model": "timm/resnet18", "model_options": {"checkpoint_path": "/tmp/evil.pth"}},
    "pretrained argument": DIGITS
    | {"model": "timm/resnet18", "model_options": {"arguments": {"pretrained": True}}},
    "folder": DIGITS | {"data": "/etc"},
    "relative folder": DIGITS | {"data": "../../x"},
    "device": DIGITS | {"data": "/dev/zero"},
    "hub": DIGITS | {"data": "somebody/something"},
    "secret as a hub id": DIGITS | {"data": "user/${oc.env:SECRET}"},
    "named data set that is elsewhere": {"kind": "Images", "data": "imagenet1k"},
}

WRONG: dict[str, dict[str, Any]] = {
    "kind": {"kind": "Anything"},
    "no kind": {"data": "digits"},
    "list as kind": {"kind": ["OwnTask"]},
    "target": DIGITS | {"_target_": "os.system"},
    "nested target": DIGITS | {"augment": {"kind": "Augment", "_target_": "os.system"}},
    "interpolated number": DIGITS | {"batch_size": "${oc.decode:'1'}"},
    "interpolated node": DIGITS | {"reading": "${oc.env:SECRET}"},
    "model options": DIGITS | {"model_options": "x"},
    "another network": DIGITS | {"model": "mlp"},
    "a network of a terabyte": DIGITS | {"model_options": {"channels": [10**6, 10**6]}},
    "number of a kind": DIGITS | {"channels": [1]},
    "endless number": DIGITS | {"batch_size": 10**30},
}


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    model = make_task("digits").model()
    spec = ParameterSpec.from_model(model, "last_norms:2")
    v = spec.flatten(model.state_dict())
    return Zoo(v + 0.01 * torch.randn(6, spec.dim), spec, model.state_dict(), about={"task": DIGITS})


def marked(settings: Any, mark: Path) -> Any:
    return json.loads(json.dumps(settings).replace("{mark}", str(mark)))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Any process that is started, module of a stranger that is imported, or request fails the test."""

    def forbidden(*given: Any, **more: Any) -> None:
        raise AssertionError(f"called with {given} {more}")

    for name in ("subprocess.Popen", "os.system", "socket.socket.connect", "socket.getaddrinfo"):
        monkeypatch.setattr(name, forbidden)
    monkeypatch.setenv("SECRET", "secret-of-the-user")
    monkeypatch.setenv("PARAMDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PARAMDIFF_DATA", raising=False)
    monkeypatch.delenv("PARAMDIFF_QUIET", raising=False)
    return tmp_path / "mark"


@pytest.mark.parametrize("name", CODE)
def test_code_folders_and_the_hub_are_not_used_on_the_word_of_a_file(name: str, zoo: Zoo, watched: Path):
    with pytest.raises(UntrustedError) as caught:
        described_task(marked(CODE[name], watched), zoo.base)
    assert not watched.exists() and "secret-of-the-user" not in str(caught.value)
    assert caught.value.typed.startswith("task=") and "antigravity" not in sys.modules


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_description_of_ours_is_one_line(name: str, zoo: Zoo, watched: Path):
    with pytest.raises(ParamdiffError) as caught:
        described_task(WRONG[name], zoo.base)
    assert "\n" not in str(caught.value) and "secret-of-the-user" not in str(caught.value)


@pytest.mark.parametrize("name", ["own task", "model", "secret as a hub id", "target"])
def test_inspect_runs_nothing_and_says_what_to_type(
    name: str, zoo: Zoo, watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A zoo, and a run folder that holds it."""
    hostile = Zoo(zoo.vectors, zoo.spec, zoo.base, about={"task": marked((CODE | WRONG)[name], watched)})
    hostile.save(tmp_path / "run" / "zoo")
    for path in (tmp_path / "run" / "zoo", tmp_path / "run"):
        assert main(["inspect", str(path)]) == 0
        out, err = capsys.readouterr()
        said = [line for line in err.splitlines() if line.startswith("the zoo")]
        assert len(said) == 1 and "midpoints are not scored" in said[0]
        assert (name == "target") or "type it: task=" in said[0]
        assert not watched.exists() and "secret-of-the-user" not in out + err


def test_a_zoo_of_ours_still_knows_its_task(zoo: Zoo):
    task = described_task(json.loads(json.dumps(DIGITS)), zoo.base)
    assert task.name == "digits" and list(task.model().state_dict()) == list(zoo.base)


def test_modules_of_the_folder_somebody_stands_in_are_not_imported(
    zoo: Zoo, watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A downloaded folder may hold a ``timm.py``; only who names code of the current folder gets it."""
    before = [path for path in sys.path if path not in ("", str(tmp_path))]
    monkeypatch.setattr(sys, "path", before)
    monkeypatch.chdir(tmp_path)
    zoo.save("zoo")
    assert main(["inspect", "zoo"]) == 0
    assert sys.path == before
    (tmp_path / "mine_in_here.py").write_text("class Wrong: pass\n")
    assert main(["inspect", "zoo", "task=own", "task.name=mine_in_here:Wrong"]) == 2
    assert sys.path[0] == os.fspath(tmp_path) and "mine_in_here" in sys.modules
