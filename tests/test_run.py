"""The whole job at a small size: through the command line's own code, and killed on the way."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import paramdiff
from finished_runs import QUICK_FIT, undrawn
from paramdiff.cli import main
from paramdiff.collectors.processes import can_fork
from paramdiff.evaluation.results_schema import Results
from paramdiff.files import load_metadata, load_tensors, read_json
from paramdiff.runs.summary_table import together
from paramdiff.tasks.classification import ImageClassification
from paramdiff.validation import typed
from processes import Forked, killed_at

SMALL = [
    "zoo.k=24", "zoo.pretrain.epochs=2", "n=12", "generator.autoencoder.steps=40", "generator.diffusion.steps=60",
    "compare.pdiff_linear.diffusion.steps=60", "compare.pdiff_linear.diffusion.sample_steps=10",
    "generator.diffusion.sample_steps=10",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "digits"
    assert main(["run", f"run_dir={folder}", *SMALL]) == 0
    return folder


def numbers(folder: Path) -> dict:
    """``results.json`` without what a clock or a process decides."""
    results = read_json(folder / "results.json")
    return {
        key: value for key, value in results.items() if key not in ("timings_s", "peak_rss_bytes", "command")
    }


def test_evaluate_gives_the_numbers_of_the_run(finished: Path, capsys: pytest.CaptureFixture[str]):
    """The same zoo and generators from Python: the same rows, to the last bit."""
    run = paramdiff.run(f"run_dir={finished}", *SMALL)  # all of it is there
    assert run.folder == finished and capsys.readouterr().out == ""
    main = replace(run.generator)  # not fitted
    found = paramdiff.evaluate("digits", run.zoo, {"p-diff": main, "gaussian": paramdiff.Gaussian()}, n=12)
    assert found.rows == {name: run.rows[name] for name in ("original", "p-diff", "gaussian")}
    assert torch.equal(found.samples, run.samples) and torch.equal(found.zoo.vectors, run.zoo.vectors)
    for key in (
        "schema",
        "generator",
        "seed",
        "task",
        "zoo",
        "n_items",
        "reference",
        "reconstruction_check",
        "denoising",
        "notes",
    ):
        assert found.results[key] == run.results[key], key
    assert found.results.keys() == run.results.keys() and found.verdict["shares"] == run.verdict["shares"]
    assert {name: value.tolist() for name, value in found.best.items()} == {
        name: value.tolist() for name, value in run.best.items()
    }


def test_results_follow_the_schema(finished: Path):
    results = read_json(finished / "results.json")
    assert typed(results, Results, "results.json") == results, "what is written has the type that is read"
    assert results["schema"] == 1 and results["experiment"] == "digits"
    assert results["task"] == {
        "name": "digits",
        "metric": "accuracy",
        "higher_is_better": True,
        "chance": 0.1,
    }
    assert (results["zoo"]["k"], results["zoo"]["dim"], results["zoo"]["select"]) == (24, 256, "last_norms:2")
    names = [row["name"] for row in results["models"]]
    assert names[:2] == ["original", "p-diff"] and len(set(names)) == 8
    for row in results["models"]:
        assert row["n"] == row["best_of"] == (24 if row["name"] == "original" else 12), (
            "equal N for every generator"
        )
        for split in ("train", "test"):
            assert row[split]["worst"] <= row[split]["median"] <= row[split]["best"]
        assert row["selected"]["test_ci95"][0] <= row["selected"]["test"] <= row["selected"]["test_ci95"][1]
        assert set(row["similarity"]) == {"within", "to_zoo_mean", "to_zoo_max_mean"}
        assert set(row["distance"]) == {
            "nearest",
            "ratio",
            "residual_to_span",
            "nearest_ratio",
            "pairwise_ratio",
        }
        groups = {entry["m"]: entry["groups"] for entry in row["ensembles"]}
        assert groups == ({1: 24, 5: 4, 10: 2} if row["name"] == "original" else {1: 12, 5: 2, 10: 1})
        assert row["ensembles"][0]["accuracy"] == pytest.approx(row["test"]["mean"])
        assert all(0 <= entry["ece"] <= 1 and entry["nll"] > 0 for entry in row["ensembles"])
        paid = (
            row["cost"]["gradient_steps"] > 80
            if row["name"] == "original"
            else row["cost"]["gradient_steps"] == 0
        )
        assert paid and row["cost"]["with_zoo"] > 0
    assert results["verdict"]["class"] in results["verdict"]["shares"] and results["verdict"]["why"]
    assert sum(results["verdict"]["shares"].values()) == pytest.approx(1)
    assert set(results["denoising"]) == {"members", "held_out", "gap"} and results["denoising"]["members"] > 0
    assert set(results["timings_s"]) == {"collect", "fit", "sample", "score", "compare", "total"}
    assert results["peak_rss_bytes"] > 1e7


def test_the_averaged_model_gains_nothing_together(finished: Path):
    """It is one network however often it is drawn; the originals differ."""
    rows = {row["name"]: row["ensembles"] for row in read_json(finished / "results.json")["models"]}
    one, five, ten = rows["average"]
    assert five["disagreement"] == ten["disagreement"] == 0
    assert all(ten[name] == pytest.approx(one[name], abs=1e-6) for name in ("nll", "ece"))
    one, five, ten = rows["original"]
    assert ten["disagreement"] > 0 and ten["nll"] < five["nll"] < one["nll"]
    assert ten["vs_original"] is None
    assert set(rows["p-diff"][2]["vs_original"]) == {"accuracy", "nll"}


def test_the_terminal_compares_ensembles_in_one_line():
    versus = {"nll": {"difference": 0.003, "ci95": [-0.001, 0.0071]}}
    ten = {"m": 10, "nll": 0.123, "vs_original": versus}
    rows = [{"name": "original"}, {"name": "p-diff", "ensembles": [{"m": 1, "nll": 0.2}, ten]}]
    lines = lambda: together({"generator": "p-diff", "models": rows})
    assert lines() == [
        "ensembles of 10: p-diff NLL 0.123, originals 0.12 (difference +0.003 [-0.001, +0.0071])"
    ]
    ten["vs_original"] = None
    assert lines() == ["ensembles of 10: p-diff NLL 0.123"]
    ten["nll"] = None
    assert lines() == []
    del rows[1]["ensembles"]
    assert lines() == []


def test_the_best_sample_loads_into_the_plain_model(finished: Path):
    from paramdiff.tasks import make_task

    task = make_task("digits")
    model = task.model()
    model.load_state_dict(load_tensors(finished / "samples/best.safetensors"))
    model.eval()
    right = [task.predict(model(batch[0]), batch)["correct"] for batch in task.test_data().batches()]
    row = next(row for row in read_json(finished / "results.json")["models"] if row["name"] == "p-diff")
    assert float(torch.cat(right).double().mean()) == pytest.approx(row["selected"]["test"], abs=1e-9)


def test_selection_does_not_look_at_the_test_set(finished: Path):
    """Rule 9: the selected sample is the best on train, whatever it scores on test."""
    for row in read_json(finished / "results.json")["models"]:
        scores = load_tensors(finished / f"scores/{row['name']}.safetensors")
        index = row["selected"]["index"]
        assert scores["train"][index] == scores["train"].max()
        assert row["selected"]["test"] == pytest.approx(float(scores["test"][index]))


def test_run_folder_is_complete(finished: Path):
    for name in (
        "config.yaml",
        "manifest.json",
        "zoo/vectors.safetensors",
        "generator/config.json",
        "stats.jsonl",
        "report.html",
    ):
        assert (finished / name).is_file(), name
    manifest = read_json(finished / "manifest.json")
    assert manifest["versions"]["torch"] == torch.__version__
    assert {"collect", "fit", "sample", "score:p-diff", "report"} <= set(manifest["stages"])
    lines = [json.loads(line) for line in (finished / "stats.jsonl").read_text().splitlines()]
    assert {"autoencoder", "denoiser"} <= {line["name"] for line in lines}
    assert not list(finished.glob(".state/*")), "no state is left behind"


def test_what_figures_are_drawn_from_is_kept(finished: Path):
    points = load_tensors(finished / "evaluation/latents.safetensors")
    sizes = {name: len(value) for name, value in points.items() if name.startswith("map.")}
    assert sizes == {"map.originals": 24, "map.samples": 12, "map.noised": 24}
    assert points["paths.plane"].shape == (11, 5, 2) and points["paths.score"].shape == (11, 5)
    items = load_metadata(finished / "evaluation/latents.safetensors")["items"]
    training = read_json(finished / "evaluation/training.json")
    assert float(items) == training["items"] == 1000
    scores = load_tensors(finished / "scores/p-diff.safetensors")["train"]
    away = points["paths.score"][-1] - scores[:5]  # the samples, but on other items
    assert float(away.abs().max()) < 0.05
    assert training["points"][0][2] < 0.5
    assert training["points"][-1][2] > 0.8
    assert {f"{name}.svg" for name in ("front", "latents", "paths", "pace")} <= {
        path.name for path in (finished / "figures").iterdir()
    }


def test_the_same_command_again_changes_nothing(finished: Path):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.safetensors")}
    assert main(["run", f"run_dir={finished}", *SMALL]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in finished.rglob("*.safetensors")}


def test_one_stage_after_the_other_gives_the_same_numbers_and_only_the_last_reads_the_test_set(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Rule 9: nothing that is learnt, drawn or gated has seen it."""

    def refuse(task: ImageClassification) -> None:
        raise AssertionError("the test set was read")

    with monkeypatch.context() as patch:
        patch.setattr(ImageClassification, "test_data", refuse)
        for command in ("collect", "fit", "sample"):
            assert main([command, f"run_dir={tmp_path / 'r'}", *SMALL]) == 0
        capsys.readouterr()
        assert main(["score", f"run_dir={tmp_path / 'r'}", *SMALL]) == 1
        assert "AssertionError: the test set was read" in capsys.readouterr().err
    assert main(["score", f"run_dir={tmp_path / 'r'}", *SMALL]) == 0
    rows = read_json(tmp_path / "r/results.json")["models"]
    assert rows == read_json(finished / "results.json")["models"][:2]


def test_a_stage_alone_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sample", f"run_dir={tmp_path / 'r'}"]) == 2
    assert "sample needs" in capsys.readouterr().err


MOMENTS = {
    "collecting": ".state/collect-*",
    "fitting": ".state/fit-*/*.safetensors",
    "sampled": "samples/samples.safetensors",
    "scored": "scores/p-diff.safetensors",
    "comparing": "baselines/gaussian",
}


@pytest.mark.skipif(not can_fork(), reason="processes are forked on Linux only")
def test_killed_anywhere_it_ends_with_the_same_numbers(finished: Path, tmp_path: Path):
    folder = tmp_path / "digits"
    command = ["run", f"run_dir={folder}", *SMALL]
    for pattern in MOMENTS.values():
        process = Forked(killed_at(folder, pattern, lambda: main(command)), tmp_path)
        assert process.wait() == -signal.SIGKILL, f"it ended before there was {pattern}: {process.stderr}"
    with undrawn():
        assert main(command) == 0
    assert numbers(folder) == numbers(finished)


def test_baselines_that_ask_the_task_and_match_the_samples(tmp_path: Path):
    small = ["zoo.k=8", "zoo.pretrain.epochs=1", "n=4", "compare=none", *QUICK_FIT]
    asking = ["+generator@compare.tuned=fine_tuned", "compare.tuned.steps=3"]
    matching = ["+generator@compare.matched=matched_noise"]
    for command in ("collect", "fit", "sample", "score", "compare"):
        assert main([command, f"run_dir={tmp_path / 'r'}", *small, *asking, *matching]) == 0
    models = {row["name"]: row for row in read_json(tmp_path / "r/results.json")["models"]}
    rows = {name: row["n"] for name, row in models.items()}
    assert rows == {"original": 8, "p-diff": 4, "fine-tuned-3": 4, "matched-noise": 4}
    assert (
        models["fine-tuned-3"]["cost"]["gradient_steps"] == 3 and models["original"]["cost"]["with_zoo"] > 3
    )
    found = read_json(tmp_path / "r/baselines/matched-noise/generator/config.json")["notes"]["matched"]
    assert found["by"] == "similarity" and 0 <= found["own"] <= 1 and 0 <= found["reference"] <= 1
    samples = load_tensors(tmp_path / "r/baselines/fine-tuned-3/samples/samples.safetensors")["samples"]
    members = load_tensors(tmp_path / "r/zoo/vectors.safetensors")["vectors"]
    assert float(torch.cdist(samples, members).min(1).values.min()) > 0


def test_a_sweep_makes_a_folder_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert main(["collect", "zoo.k=4", "-m", "seed=0,1", "zoo.pretrain.epochs=1"]) == 0
    folders = sorted(p.name for p in (tmp_path / "runs").iterdir() if p.is_dir())
    assert len(folders) == 2 and "seed=0" in folders[0] and "seed=1" in folders[1]
    zoos = [load_tensors(tmp_path / "runs" / name / "zoo/vectors.safetensors")["vectors"] for name in folders]
    assert not torch.equal(*zoos)


def test_seeds_are_aligned_where_it_helps_and_the_results_say_so(tmp_path: Path):
    words = ["experiment=digits_seeds", "zoo.k=6", "zoo.train.epochs=3", "n=4", "compare=none", *QUICK_FIT]
    with undrawn():
        assert main(["run", f"run_dir={tmp_path / 'r'}", *words]) == 0
    results = read_json(tmp_path / "r/results.json")
    (note,) = results["notes"]
    assert note.startswith("2 of 2 groups of hidden units were put in a common order (")


@pytest.mark.parametrize(
    ("method", "by"), [("activations", "their activations"), ("loss", "the loss of midpoints")]
)
def test_seeds_are_aligned_by_the_method_that_is_asked_for(
    tmp_path: Path, method: str, by: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("paramdiff.scoring.alignment_data.STEPS", 3)
    words = ["experiment=digits_seeds", "zoo.k=2", "zoo.train.epochs=1", f"zoo.align={method}"]
    assert main(["collect", f"run_dir={tmp_path}", *words]) == 0
    about = read_json(tmp_path / "zoo/manifest.json")["about"]
    assert about["aligned"]["method"] == method
    assert about["notes"][0].startswith(f"2 of 2 groups of hidden units were put in a common order by {by} (")
