"""Pages that teach run as printed: every block of a page, in order, in an empty folder.

A block whose first line is a comment with a file name is that file. Fits are made short; nothing else is changed.
"""

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from functools import partialmethod
from pathlib import Path

import pytest

from finished_runs import QUICK_FIT, undrawn
from paramdiff import ParameterDiffusion
from paramdiff.cli import main
from paramdiff.generators.autoencoder import Autoencoder
from paramdiff.generators.diffusion import Diffusion

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(python|sh|yaml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SMALL = ["n=4", "compare=none", *QUICK_FIT]


def play(page: str, *smaller: str) -> dict:
    """Run every block of a page; the names its Python leaves behind.

    Args:
        smaller: more overrides for ``paramdiff run``.
    """
    names: dict = {"__name__": "__tutorial__"}
    for language, block in BLOCK.findall((DOCS / page).read_text()):
        first = re.match(r"# ([\w/]+\.\w+)$", block.splitlines()[0])
        if first:
            Path(first[1]).parent.mkdir(parents=True, exist_ok=True)
            Path(first[1]).write_text(block.split("\n", 1)[1])
        elif language == "python":
            exec(compile(block, page, "exec"), names)
        else:
            for line in block.splitlines():
                type_in(line, smaller)
    return names


def type_in(line: str, smaller: Sequence[str]) -> None:
    """A line of the shell; runs are made small by more overrides."""
    program, *words = shlex.split(line, comments=True) or [""]
    assert program in ("paramdiff", ""), f"a page types {line!r}"
    if words:
        with undrawn():
            assert main([*words, *([*SMALL, *smaller] if words[0] == "run" else [])]) == 0, line


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in it, import from it, and forget afterwards what was imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def short_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = partialmethod(
        ParameterDiffusion.__init__, autoencoder=Autoencoder(steps=5), diffusion=Diffusion(steps=5)
    )
    monkeypatch.setattr(ParameterDiffusion, "__init__", quick)


def test_your_own_experiment():
    play("own_experiment.md", "zoo.k=8", "zoo.pretrain.epochs=1", "zoo.lr=0.3")
    assert len(list(Path("runs").glob("digits_sgd,*/results.json"))) == 2
    assert len(list(Path("runs").glob("comparison-*/comparison.html"))) == 1


def test_the_experiment_of_the_page_is_the_example():
    page = (DOCS / "own_experiment.md").read_text()
    for name in ("experiment/digits_sgd.yaml", "ablation/rate.yaml"):
        example = (DOCS.parent / "examples/own_experiment" / name).read_text()
        assert [line for line in example.splitlines() if line[0] != "#"][-1] in page
