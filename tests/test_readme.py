"""What the README prints works as printed: every block of Python, every command of the ``sh`` blocks.

Runs are made small by more overrides; nothing else is changed.
"""

import re
import shlex
import shutil
from contextlib import nullcontext
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from torch import nn

import paramdiff
from finished_runs import QUICK_FIT, undrawn
from paramdiff import ParameterDiffusion, run
from paramdiff.cli import main
from paramdiff.files import save_tensors
from paramdiff.generators.autoencoder import Autoencoder
from paramdiff.generators.diffusion import Diffusion

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
SMALL = ["zoo.k=8", "n=4", "compare=none", *QUICK_FIT]

DRAWN = ["run", "experiment=digits_full"]
"""The command whose figures are drawn."""


def shorter(words: list[str]) -> list[str]:
    """What else makes this command's run small."""
    trainings = "zoo.train.epochs=1" if "experiment=digits_seeds" in words else "zoo.pretrain.epochs=1"
    return [trainings, *(["sweep.n=4"] if words[0] == "sweep-temperature" else [])]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> list[list[str]]:
    """The words of every ``paramdiff`` line, without comments, with the folder it is typed in."""
    found, folder = [], ROOT
    for block in blocks("sh"):
        folder = ROOT
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["cd"]:
                folder = ROOT / words[1]
            elif words:
                assert words[0] == "paramdiff", f"the README types {line!r}"
                found.append([str(folder), *words[1:]])
    return found


@pytest.fixture
def my_model() -> nn.Module:
    first = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()]
    return nn.Sequential(*first, nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2))


def write_checkpoints(model: nn.Module, folder: Path, k: int = 12) -> None:
    for i in range(k):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        save_tensors(folder / f"step{i}.safetensors", model.state_dict())


def test_the_five_lines_of_python(my_model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_checkpoints(my_model, tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)
    quick = partialmethod(
        ParameterDiffusion.__init__, autoencoder=Autoencoder(steps=20), diffusion=Diffusion(steps=30)
    )
    monkeypatch.setattr(ParameterDiffusion, "__init__", quick)
    block = blocks("python")[0]
    assert len(block.strip().splitlines()) <= 5
    names: dict = {"my_model": my_model}
    exec(compile(block, "README.md", "exec"), names)
    assert names["samples"].shape == (100, 2 * 8 + 2 * 8)
    expected = names["zoo"].spec.unflatten(names["samples"][0])
    assert torch.equal(my_model[4].weight, expected["4.weight"])


def test_the_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    small = [*SMALL, "zoo.pretrain.epochs=1", "task.selection_items=100", "run_dir=run"]
    monkeypatch.setattr(paramdiff, "run", lambda *settings: run(*settings, *small))
    quick = partialmethod(
        ParameterDiffusion.__init__, autoencoder=Autoencoder(steps=5), diffusion=Diffusion(steps=5)
    )
    monkeypatch.setattr(ParameterDiffusion, "__init__", quick)
    names: dict = {}
    with undrawn():
        exec(compile(blocks("python")[1].replace("n=50", "n=4"), "README.md", "exec"), names)
    assert "gaussian" in capsys.readouterr().out
    assert names["run"].samples.shape == (4, 256) and Path("evaluation/report.html").exists()


@pytest.mark.parametrize("typed", commands(), ids=lambda words: " ".join(words[1:])[:60])
def test_every_command(
    typed: list[str], my_model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    folder, *words = typed
    work = tmp_path / Path(folder).name
    shutil.copytree(folder, work) if Path(folder) != ROOT else work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(work))
    if words[0] == "inspect":
        write_checkpoints(my_model, work / words[1])
        assert main(words) == 0
        assert "What to expect" in capsys.readouterr().out
        return
    swept = "-m" in words
    with nullcontext() if words == DRAWN else undrawn():
        assert main([*words, *SMALL, *shorter(words)]) == 0
    reports = list(Path("runs").rglob("report.html"))
    assert len(reports) == (3 if swept else 1)
