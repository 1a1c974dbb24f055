"""Every benchmark at tiny sizes without data. Times are never asserted, only what is computed from them."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import measure, suite
from benchmarks.__main__ import main
from benchmarks.cases import (
    collect,
    end_to_end,
    fit,
    growth,
    importing,
    machine,
    memory,
    reading,
    sample,
    score,
    seeds,
    similarity,
    solvers,
)
from benchmarks.figure import curves_of, draw_growth
from benchmarks.inputs import plain_zoo, reference, trajectory
from benchmarks.measure import Candidate, Estimate, exponent, measured
from benchmarks.rows import Curve, Measurement, Row
from benchmarks.sizes import Common, Reference, sizes_of
from benchmarks.suite import CASES, Settings, Suite, after, load_case
from benchmarks.table import written
from benchmarks.worker import record_of
from finished_runs import results
from paramdiff.error_iou import error_iou
from paramdiff.errors import ConfigError, ParamdiffError
from paramdiff.files import read_json, write_json
from paramdiff.generators.gaussian import Gaussian
from paramdiff.generators.generator import Generator
from toy_zoos import SMALL, quick

DOTTED = {f"autoencoder.{key}": value for key, value in SMALL.items()} | {
    "diffusion.steps": 2,
    "diffusion.width": 16,
}
FAST = ("generator.diffusion.steps=2", "generator.diffusion.width=16", "generator.diffusion.sample_steps=4")
BOTH = (*FAST, "generator.autoencoder.steps=2", "generator.autoencoder.latent=8")
TINY = {
    "rounds": 2, "k": 12, "images": 40, "train": 256, "model": "convnet", "options": {"channels": [4, 8, 8]},
    "shape": (1, 8, 8), "classes": 10,
}  # fmt: skip
OWN = score.Subject(
    "benchmarks.cases.score:OwnNetwork", {"classes": 3}, (3, 8, 8), 3, "norm.weight,norm.bias,head", 3, 20, 8
)
SIZES = {
    "machine": machine.Sizes(rounds=2, n=16, copied=4096, repeats=2),
    "importing": importing.Sizes(rounds=1, repeats=1),
    "score": score.Sizes(**TINY, networks=4, plain_networks=2, subjects=(OWN,), precision="float32"),
    "similarity": similarity.Sizes(rounds=2, models=6, items=50, plain_rows=3),
    "sample": sample.Sizes(**TINY, n=4, plain_n=2, plain_steps=5, fit=BOTH),
    "fit": fit.Sizes(
        **TINY | {"rounds": 1}, n=4, convolutional=("generator=pdiff_cool", *BOTH),
        linear=("generator=pdiff_linear", *FAST),
        paper=(
            "generator=paper", "generator.autoencoder.latent=8", "generator.diffusion.sample_steps=3",
            "generator.diffusion.batch=4",
        ),
        autoencoder_steps=1, steps=1, plain_n=1,
    ),
    "memory": memory.Sizes(dim=300, k=12, batch=4, autoencoder_steps=1, steps=2),
    "growth": growth.Sizes(
        rounds=1, dims=(64, 128), members=(12, 16), counts=(2, 3), k=12, dim=64, n=2, steps=2
    ),
    "solvers": solvers.Sizes(**TINY, n=12, steps=(2, 4), settings=DOTTED),
    "collect": collect.Sizes(**TINY, steps=2),
    "seeds": seeds.Sizes(rounds=2, subjects=(seeds.Subject("mnist", "mlp", (1, 8, 8), 10, 256, 2),), compiled=False),
    "reading": reading.Sizes(rounds=1, tensors=20, few=2, many=3),
    "end_to_end": end_to_end.Sizes(rounds=2),
}  # fmt: skip
WITHOUT_PLAIN = {"machine", "memory", "growth", "solvers", "end_to_end"}


@pytest.fixture
def no_runs(monkeypatch):
    """``paramdiff run`` leaves a folder behind without doing anything."""

    def pretend(words, **_):
        folder = next(word for word in words if word.startswith("run_dir=")).partition("=")[2]
        write_json(Path(folder) / "results.json", results())

    monkeypatch.setattr(subprocess, "run", pretend)


@pytest.fixture(scope="module")
def rows():
    """Rows of each case, made once."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = list(load_case(name).run(SIZES[name]))
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        for name, words in growth.GENERATORS.items():
            patch.setitem(growth.GENERATORS, name, (*words, *FAST))
        patch.setattr(
            measure, "gc", SimpleNamespace(collect=lambda: 0)
        )  # for the memory, which is not looked at
        yield of


# Every case ------------------------------------------------------------------------------------------


def test_every_case_has_sizes_here():
    assert SIZES.keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_case_gives_rows(name, rows, no_runs):
    found = rows(name)
    assert found
    for row in found:
        assert row.what and (row.measurements or row.figures)
        assert all(len(one.seconds) == SIZES[name].rounds for one in row.measurements if name != "memory")
        assert all(second > 0 for one in row.measurements for second in one.seconds)
        assert bool(row.ratios) == (name not in WITHOUT_PLAIN) and len(row.ratios) == len(row.plain)
        assert all(len(rounds) == len(row.ours.seconds) for rounds in row.ratios.values())
        assert Row.from_json(row.to_json()) == row


@pytest.mark.parametrize("name", CASES)
def test_quick_sizes_are_sizes(name):
    case = load_case(name)
    quick = sizes_of(case, quick=True, rounds=5, data="somewhere")
    assert quick.data == "somewhere" and quick != case.Sizes(rounds=5, data="somewhere")


def test_large_sizes_are_full_ones_and_more():
    assert sizes_of(growth, large=True).dims == (*growth.Sizes().dims, growth.WHOLE_RESNET18)
    assert sizes_of(machine, large=True) == machine.Sizes()


# Ours and the plain way give the same ----------------------------------------------------------------


def test_scores_are_those_of_full_forwards(rows):
    for row in rows("score"):
        assert row.quality["same answers"] == 1 and row.quality["probabilities differ by"] < 1e-5


def test_full_forwards_are_of_each_network():
    sizes = SIZES["score"]
    world = reference(sizes)
    batches = [x for x, _ in world.task.test_data().batches()]
    vectors = torch.stack([world.zoo.vectors[0], -world.zoo.vectors[0]])
    answers, probability = score.full_forwards(world.model, world, vectors, batches, torch.inference_mode())
    assert answers.shape == probability.shape == (2, 40)
    assert (probability[0] - probability[1]).abs().max() > 1e-3


def test_multiply_adds_are_counted():
    """ConvNet on 1 x 8 x 8: 3 x 3 convolutions to 4 x 8 x 8, 8 x 4 x 4 and 8 x 2 x 2, and a head of 8 x 10."""
    world = reference(SIZES["score"])
    whole, suffix = score.multiply_adds(world, torch.zeros(1, 1, 8, 8))
    first, second, third, head = 9 * 4 * 64, 9 * 4 * 8 * 16, 9 * 8 * 8 * 4, 80
    assert whole == first + second + third + head
    assert suffix == third + head


def test_similarities_are_those_of_the_double_loop(rows):
    assert rows("similarity")[0].quality["largest difference"] < 1e-12


def test_checkpoints_are_read_as_plain_loops_read_them(rows):
    assert [row.quality["same numbers"] for row in rows("reading")] == [1.0] * 4


def test_double_loop_on_known_sets():
    a = np.array([[True, True, False], [False, False, False]])
    b = np.array([[True, False, True], [False, False, False]])
    found = similarity.double_loop(a, b, np.count_nonzero)
    assert found.tolist() == [[1 / 3, 0], [0, 1]]
    assert np.array_equal(found, error_iou(torch.tensor(a), torch.tensor(b)).numpy())


def test_members_are_those_of_the_plain_module(rows):
    assert rows("collect")[0].quality["largest difference after a step"] < 1e-4


def test_one_at_a_time_draws_the_same_vectors():
    fitted = quick("p-diff", diffusion={"steps": 2, "scheduler": "ddpm", "sample_steps": 4}).fit(
        plain_zoo(12, 64)
    )
    single = sample.one_at_a_time(fitted, {})
    drawn = []
    single._sample = lambda rows, *others, own=single._sample: drawn.append(len(rows)) or own(rows, *others)
    assert torch.allclose(single.sample(3), fitted.sample(3), atol=1e-5)
    assert drawn == [1, 1, 1] and Generator.drawn_at_once == fitted.drawn_at_once == 100


def test_paper_is_scaled_to_all_of_its_steps(rows):
    row = rows("fit")[0]
    names = [one.name for one in row.measurements]
    assert names == ["ours", "reference implementation", "paper's settings"]
    assert row.measurements[1].seconds == [fit.REFERENCE_SECONDS] * SIZES["fit"].rounds


def test_growth_has_curves(rows, tmp_path):
    curves = [row.curve for row in rows("growth") if row.curve]
    assert [(curve.of, curve.over) for curve in curves] == [
        (name, over) for over in "DKN" for name in ("p-diff", "p-diff-linear")
    ]
    found = {"cases": {"growth": {"rows": [row.to_json() for row in rows("growth")]}}}
    assert curves_of(found) == curves
    draw_growth(found, tmp_path / "today.json")
    assert {path.name for path in tmp_path.iterdir()} == {"today-growth.png", "today-growth.svg"}


def test_no_figure_without_curves(tmp_path):
    draw_growth({"cases": {}}, tmp_path / "today.json")
    assert not list(tmp_path.iterdir())


# Measuring -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_exponent_of_known_data(power):
    x = [2, 8, 50, 1000]
    assert exponent(x, [3 * value**power for value in x]) == pytest.approx(power, abs=1e-12)


def test_exponent_is_a_least_squares_fit():
    x, noise = np.array([1.0, 10, 100]), np.array([0.1, -0.2, 0.1])
    expected = np.polyfit(np.log(x), 1.5 * np.log(x) + noise, 1)[0]
    assert exponent(x, np.exp(1.5 * np.log(x) + noise)) == pytest.approx(expected)


def test_ways_take_turns_and_warm_up_is_not_timed():
    calls = []
    measurements, given = measured(
        Candidate("ours", lambda: calls.append("a") or 1),
        Candidate("plain", lambda: calls.append("b") or Estimate(7.0), scale=2.0, note="half"),
        rounds=2,
    )
    assert calls == ["a", "b"] * 3 and given == [1, 7.0]
    assert (
        measurements[1].seconds == [7.0, 7.0]
        and measurements[1].whole == [14.0, 14.0]
        and measurements[1].median == 14
    )
    assert len(measurements[0].seconds) == 2


def test_memory_is_that_of_one_call():
    large = 128 << 20
    measurements, _ = measured(
        Candidate("large", lambda: torch.ones(large // 4).sum()),
        Candidate("small", lambda: torch.ones(4).sum()),
        rounds=1,
    )
    assert measurements[0].above_inputs > 0.8 * large > 0.4 * large > measurements[1].above_inputs


def test_ratios_are_of_each_round():
    row = Row("work", [Measurement("ours", [1, 2, 4]), Measurement("plain", [3, 2, 2], scale=2)])
    assert row.ratios == {"plain": [6, 2, 1]}
    assert row.to_json()["ratio"] == {"plain": 2} and row.to_json()["median_s"] == {"ours": 2, "plain": 4}


def test_made_up_zoo_looks_like_a_trajectory():
    v = trajectory(40, 500)
    steps, apart = (v[1:] - v[:-1]).norm(dim=1).mean(), (v[20:] - v[:20]).norm(dim=1).mean()
    assert steps < 0.7 * apart and torch.isfinite(v).all()
    assert torch.equal(trajectory(40, 500), v)
    assert float(v.std(0).mean()) == pytest.approx(0.05, rel=0.3)


def test_random_reference_has_the_sizes_of_the_real_one():
    world = reference(Reference(k=2, images=3, train=2))
    assert world.zoo.dim == 2048 and world.task.test_data().images.shape == (3, 3, 32, 32) and not world.real


# The suite -------------------------------------------------------------------------------------------


def test_record_of_a_case_that_breaks_keeps_its_rows(capsys):
    def run(sizes):
        yield Row("first", [Measurement("ours", [1.0], peak_bytes=1 << 50)])
        raise ValueError("no more\nlines")

    kept = []
    assert not record_of(run, Common(), kept.append)
    assert [record["status"] for record in kept] == ["running", "running", "failed"]
    assert kept[-1]["why"] == "ValueError: no more" and len(kept[-1]["rows"]) == 1
    assert kept[-1]["peak_rss_bytes"] == 1 << 50
    capsys.readouterr()


def test_record_of_a_process_that_was_killed():
    running, done = {"status": "running", "rows": [1]}, {"status": "done", "rows": []}
    assert after(running, -9) == {"status": "failed", "why": "killed by signal 9", "rows": [1]}
    assert after(done, 0) == done


@pytest.fixture
def fake_cases(monkeypatch):
    """Cases take no time; ``ran`` lists them, and ``failing`` those that break."""
    ran, failing = [], set()

    def pretend(name, settings):
        ran.append(name)
        status = "failed" if name in failing else "done"
        row = Row(
            "work", [Measurement("ours", [1.0]), Measurement("plain", [2.0])], quality={"accuracy": 0.5}
        )
        why = "killed by signal 9" if status == "failed" else ""
        return {
            "status": status, "why": why, "seconds": 1.0, "load_average": [0.1, 0.2, 0.3],
            "peak_rss_bytes": 1 << 30, "rows": [row.to_json()],
        }  # fmt: skip

    monkeypatch.setattr(suite, "in_own_process", pretend)
    return ran, failing


def test_resume_does_what_is_not_done(tmp_path, fake_cases):
    ran, failing = fake_cases
    out = tmp_path / "figures.json"
    failing.add("score")
    assert not Suite(out, Settings()).run(["machine", "score"])
    failing.clear()
    assert Suite(out, Settings(), resume=True).run(["machine", "score", "fit"])
    assert ran == ["machine", "score", "score", "fit"]
    assert list(read_json(out)["cases"]) == ["machine", "score", "fit"]
    assert Suite(out, Settings()).run(["machine"]) and list(read_json(out)["cases"]) == ["machine"]


def test_resume_refuses_other_settings(tmp_path, fake_cases):
    out = tmp_path / "figures.json"
    Suite(out, Settings()).run(["machine"])
    with pytest.raises(ParamdiffError, match="was measured with settings .*'rounds': 3.*leave --resume out"):
        Suite(out, Settings(rounds=5), resume=True)


def test_unknown_case_is_refused_before_anything_runs(tmp_path, fake_cases):
    ran, _ = fake_cases
    with pytest.raises(ConfigError, match="only: 'scores' is not known.*did you mean score"):
        Suite(tmp_path / "figures.json", Settings()).run(["machine", "scores"])
    assert not ran


def test_table(tmp_path, fake_cases):
    _, failing = fake_cases
    failing.add("fit")
    made = Suite(tmp_path / "figures.json", Settings(quick=True))
    made.run(["machine", "fit"])
    text = (tmp_path / "figures.md").read_text()
    assert text == written(read_json(tmp_path / "figures.json"))
    assert "| machine | work | 1 s | plain | 2 s | **2x** |  |  | accuracy 0.5 |" in text
    assert "random networks and images of the same sizes (quick sizes)" in text
    assert "| fit | 1 s | 0.10 | 1.00 GiB | killed by signal 9 |" in text


def test_table_has_a_line_for_each_plain_way():
    measurements = [
        Measurement("ours", [0.01], note="x", loaded_bytes=0, peak_bytes=5 << 20),
        Measurement("a", [2.0]),
        Measurement("b", [150.0]),
    ]
    row = Row("work", measurements, "8x", curve=Curve("p", "D", [1, 2], [1.0, 2.0], 1.0, 1.0))
    case = {
        "status": "done",
        "why": "",
        "seconds": 1.0,
        "load_average": [0, 0, 0],
        "peak_rss_bytes": 1,
        "rows": [row.to_json()],
    }
    text = written(
        {
            "machine": {"cpu": "A", "cores": 2, "threads": 1, "torch": "2", "device": "cpu"},
            "settings": {"rounds": 1, "quick": False}, "inputs": "real", "git": "abc", "cases": {"score": case},
        }
    )  # fmt: skip
    assert "| score | work | 10 ms (x) | a | 2 s | **200x** | 8x | 5 MiB |  |" in text
    assert "| score |  |  | b | 150 s | **15,000x** |  |  |  |" in text


def test_a_case_in_its_own_process_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("PARAMDIFF_DATA", raising=False)
    out = tmp_path / "figures.json"
    words = ["--quick", "--only", "machine", "--rounds", "1", "--out", str(out)]
    assert main(words) == 0
    found = read_json(out)
    assert found["inputs"] == "synthetic" and found["cases"]["machine"]["status"] == "done"
    assert found["cases"]["machine"]["peak_rss_bytes"] > 1 << 20
    assert "| machine | matrix product 1024 x 1024, float32" in capsys.readouterr().out


def test_rounds_are_checked():
    with pytest.raises(ConfigError, match="rounds: 0 is out of range"):
        main(["--rounds", "0"])


def test_a_changed_generator_leaves_the_fitted_one_as_it_was():
    fitted = Gaussian().fit(plain_zoo(12, 30))
    assert sample.one_at_a_time(fitted, {"scale": 0.0}).scale == 0 and fitted.scale == 1
