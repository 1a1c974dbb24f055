"""``paramdiff sweep-temperature``: one curve a generator, no fit done again, every point on its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from finished_runs import QUICK_FIT, undrawn
from paramdiff.cli import main
from paramdiff.evaluation.comparison import Scored
from paramdiff.files import load_tensors, read_json
from paramdiff.generators.generator import GENERATORS, Generator
from paramdiff.runs.plan import SweepConfig
from paramdiff.runs.rows import GeneratorRow
from paramdiff.runs.stages.sweep import curves_of

SMALL = [
    "zoo.k=8", "zoo.pretrain.epochs=1", "n=6", *QUICK_FIT,
    "generator.contraction=0.7", "compare=none", "+generator@compare.gaussian=gaussian",
    "+generator@compare.mean=average_of_k", "compare.mean.k=4",
]  # fmt: skip
SWEEP = ["sweep.n=5", "sweep.temperatures=[0,0.7]"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sweep") / "r"
    with undrawn():  # every test here draws the page again
        assert main(["sweep-temperature", f"run_dir={folder}", *SMALL, *SWEEP]) == 0
        yield folder


def seconds(folder: Path) -> dict[str, float]:
    """A stage that is done again takes another time."""
    return {name: stage["seconds"] for name, stage in read_json(folder / "manifest.json")["stages"].items()}


def test_every_generator_with_a_knob_gets_a_curve(swept: Path):
    sweep = read_json(swept / "sweep.json")
    assert (sweep["schema"], sweep["n"]) == (1, 5)
    assert [(c["name"], c["label"], c["knob"]) for c in sweep["curves"]] == [
        ("p-diff", "p-diff", "contraction"), ("gaussian", "gaussian", "scale"),
        ("average-of-4", "average-of-k", "k"),
    ]  # fmt: skip
    assert [[p["value"] for p in c["points"]] for c in sweep["curves"]] == [[0, 0.7], [0, 0.7], [1, 2, 4, 8]]
    keys = {"value", "n", "test_mean", "test_median", "test_std", "test_ci95", "within", "to_zoo_mean",
            "to_zoo_max_mean", "ensembles"}  # fmt: skip
    for curve in sweep["curves"]:
        for point in curve["points"]:
            assert set(point) == keys and point["n"] == 5
            assert point["test_ci95"][0] <= point["test_mean"] <= point["test_ci95"][1]
        if curve["knob"] != "k":
            cold = curve["points"][0]
            assert cold["within"] == 1 and cold["test_std"] == 0, "all samples are the same at 0"
    assert sweep["curves"][2]["points"][3]["within"] == 1, "there is one mean of all 8"


def test_a_point_is_what_the_run_itself_draws_there(swept: Path):
    """Sample i is the same for every N, so the point at the run's temperature is its first five samples."""
    ours = Scored.from_tensors(load_tensors(swept / "scores/p-diff.safetensors"))
    at = {p["value"]: p for p in read_json(swept / "sweep.json")["curves"][0]["points"]}
    assert at[0.7]["test_mean"] == pytest.approx(float(ours.test[:5].mean()))


def test_the_same_command_again_does_nothing_and_a_lost_point_comes_back(swept: Path):
    before, page = seconds(swept), (swept / "report.html").read_bytes()
    lost = swept / "sweep/gaussian/0.7.json"
    content = lost.read_bytes()
    lost.unlink()
    assert main(["sweep-temperature", f"run_dir={swept}", *SMALL, *SWEEP]) == 0
    assert lost.read_bytes() == content and (swept / "report.html").read_bytes() == page
    changed = {name for name, took in seconds(swept).items() if took != before[name]}
    assert changed <= {"sweep:gaussian:0.7"}


def test_other_values_are_added_to_a_finished_run(swept: Path, capsys: pytest.CaptureFixture[str]):
    before = seconds(swept)
    words = ["sweep.n=5", "sweep.temperatures=[0,0.3]", "sweep.members=[2]"]
    assert main(["sweep-temperature", f"run_dir={swept}", *SMALL, *words]) == 0
    after = seconds(swept)
    assert after.keys() - before.keys() == {"sweep:p-diff:0.3", "sweep:gaussian:0.3"}
    assert {name for name in before if after[name] != before[name]} <= {"sweep", "results", "report"}
    assert [len(c["points"]) for c in read_json(swept / "sweep.json")["curves"]] == [2, 2, 1]
    printed = capsys.readouterr().out
    assert "contraction 0.3" in printed and "average-of-k" in printed


def test_a_plain_run_reads_none_of_it(swept: Path):
    before = seconds(swept)
    assert main(["run", f"run_dir={swept}", *SMALL]) == 0
    assert {name for name, took in seconds(swept).items() if took != before[name]} <= {"results", "report"}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sweep.temperatures=[-1]", "sweep.temperatures: -1.0 is out of range; expected at least 0"),
        ("sweep.temperatures=[]", "sweep.temperatures: 0 values; expected 1 to 1000"),
        ("sweep.members=[0]", "sweep.members: 0 is out of range; expected at least 1"),
        ("sweep.temprature=1", "sweep.temprature: no such key; did you mean temperatures"),
    ],
)
def test_mistakes(word: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sweep-temperature", f"run_dir={tmp_path / 'r'}", word]) == 2
    assert message in capsys.readouterr().err


def test_two_generators_of_a_kind_keep_their_names():
    kinds = GENERATORS.all()
    entries = [GeneratorRow(f"g{i}", kinds["gaussian"](scale=scale)) for i, scale in enumerate((0.5, 1))]
    assert [curve.label for curve in curves_of(entries, SweepConfig(), 9)] == ["g0", "g1"]


@pytest.mark.parametrize("name", [n for n, kind in GENERATORS.all().items() if kind.knob])
def test_a_knob_is_turned_without_fitting_again(name: str):
    """It is a setting, one that only sampling reads; that of a mean is also compared with K by its fit."""
    kind: type[Generator] = GENERATORS.all()[name]
    assert kind.knob in kind.sampling or kind.knob == "k"
    assert hasattr(kind(), kind.knob)
    assert torch.tensor(float(getattr(kind().adapted(20), kind.knob))).isfinite()
