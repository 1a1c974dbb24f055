"""Pages that teach run as printed: every block of a page, in order, in an empty folder.

A block whose first line is a comment with a file name is that file. Fits are made short; nothing else is changed.
"""

import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partialmethod
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from omegaconf import OmegaConf

from finished_runs import QUICK_FIT, undrawn
from paramdiff import ParameterDiffusion
from paramdiff.cli import main
from paramdiff.generators.autoencoder import Autoencoder
from paramdiff.generators.diffusion import Diffusion
from paramdiff.testing import check_generator, check_task

DOCS, EXAMPLES = (Path(__file__).parents[1] / name for name in ("docs", "examples"))
BLOCK = re.compile(r"^```(python|sh|yaml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SMALL = ("n=4", "compare=none", *QUICK_FIT)


def play(page: str, *smaller: str, fewer: Mapping[str, str] | None = None) -> dict:
    """Run every block of a page; the names its Python leaves behind.

    Args:
        smaller: more overrides for ``paramdiff run``.
        fewer: numbers of the page, and what they are here.
    """
    names: dict = {"__name__": "__tutorial__"}
    text = (DOCS / page).read_text()
    for whole, part in (fewer or {}).items():
        text = text.replace(whole, part)
    for language, block in BLOCK.findall(text):
        first = re.match(r"# ([\w/]+\.\w+)$", block.splitlines()[0])
        if first:
            Path(first[1]).parent.mkdir(parents=True, exist_ok=True)
            body = block.split("\n", 1)[1]
            Path(first[1]).write_text(quick(body) if first[1].startswith("experiment/") else body)
        elif language == "python":
            exec(compile(block, page, "exec"), names)
        else:
            for line in block.splitlines():
                type_in(line, smaller)
    return names


def quick(experiment: str) -> str:
    """The same experiment with short fits and few samples."""
    made = OmegaConf.merge(OmegaConf.create(experiment), OmegaConf.from_dotlist(["n=4", *QUICK_FIT]))
    return f"# @package _global_\n{OmegaConf.to_yaml(made)}"


def type_in(line: str, smaller: Sequence[str]) -> None:
    """A line of the shell; runs are made small by more overrides."""
    program, *words = shlex.split(line, comments=True) or [""]
    assert program in ("paramdiff", ""), f"a page types {line!r}"
    if words:
        assert main([*words, *(smaller if words[0] == "run" else [])]) == 0, line


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in it, import from it, and forget afterwards what was imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(sys.modules)
    with undrawn():
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


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a module of ``examples/``, which is forgotten afterwards."""

    def imported(path: str) -> ModuleType:
        file = EXAMPLES / path
        monkeypatch.syspath_prepend(str(file.parent))
        monkeypatch.delitem(sys.modules, file.stem, raising=False)
        found = import_module(file.stem)
        monkeypatch.delitem(sys.modules, file.stem)
        return found

    return imported


def test_from_your_own_checkpoints_to_a_network_in_use(short_fits: None):
    names = play(
        "tutorial.md",
        *SMALL,
        fewer={"n=50": "n=4", "range(20)": "range(11)", "run_dir=runs/mine": "--cfg job"},
    )
    assert names["zoo"].k == 11 and names["samples"].shape == (50, names["zoo"].dim)
    assert {row["name"] for row in names["evaluation"].results["models"]} >= {"p-diff", "average", "gaussian"}


def test_your_own_generator():
    names = play("own_generator.md", fewer={"n=20": "n=4"})
    assert names["evaluation"].verdict["class"] == "interpolation"


def test_the_example_of_a_generator_keeps_what_generators_promise(example: Callable[[str], ModuleType]):
    check_generator(example("own_generator/student_t.py").StudentT())


def test_your_own_task():
    play("own_task.md", *SMALL, "zoo.k=8", "zoo.pretrain.epochs=1")
    assert Path("runs/diabetes/results.json").exists()


def test_the_task_of_the_page_is_the_example():
    code = (EXAMPLES / "own_task/diabetes.py").read_text().split("class Diabetes")[1]
    assert code in (DOCS / "own_task.md").read_text()


@pytest.mark.parametrize(("path", "name"), [("diabetes.py", "Diabetes"), ("waves.py", "Waves")])
def test_examples_of_tasks_keep_what_tasks_promise(
    example: Callable[[str], ModuleType], path: str, name: str
):
    check_task(getattr(example(f"own_task/{path}"), name)())


def test_your_own_experiment():
    play("own_experiment.md", "compare=none", "zoo.k=8", "zoo.pretrain.epochs=1", "zoo.lr=0.3")
    assert len(list(Path("runs").glob("digits_sgd,*/results.json"))) == 2
    assert len(list(Path("runs").glob("comparison-*/comparison.html"))) == 1


def test_the_experiment_of_the_page_is_the_example():
    page = (DOCS / "own_experiment.md").read_text()
    for name in ("experiment/digits_sgd.yaml", "ablation/rate.yaml"):
        example = (EXAMPLES / "own_experiment" / name).read_text()
        assert [line for line in example.splitlines() if line[0] != "#"][-1] in page
