"""``recalibrate=ITEMS`` from the command line to the report; without it nothing is other than before."""

from pathlib import Path

import pytest
import torch

from finished_runs import QUICK_FIT, undrawn
from paramdiff.cli import main
from paramdiff.errors import ConfigError
from paramdiff.evaluation.comparison import Scored
from paramdiff.evaluation.summary import spread
from paramdiff.files import load_tensors, read_json
from paramdiff.generators.guidance import without_guidance
from paramdiff.networks.recalibration import recalibrate
from paramdiff.reports.finished_run import FinishedRun
from paramdiff.runs.config import build
from paramdiff.runs.configured import plan_of
from paramdiff.runs.launch import composed
from paramdiff.runs.pipeline import Pipeline
from paramdiff.runs.summary_table import recalibrated_on, summary_sheet
from paramdiff.scoring.batches import evened, random_subset
from paramdiff.scoring.recalibration import Recalibration
from paramdiff.scoring.scorer import Scorer
from paramdiff.tasks import make_task
from paramdiff.tasks.task import Task
from paramdiff.zoo.zoo import Zoo

TINY = [
    "task.model_options={channels: [8, 8]}", "zoo.select=all", "zoo.lr=3e-3", "zoo.k=10", "zoo.pretrain.epochs=3",
    "n=5", *QUICK_FIT, "generator.contraction=0.7", "compare=none",
    "+generator@compare.average=average", "+generator@compare.copies=noised", "compare.copies.amplitude=0",
]  # fmt: skip
ON = [*TINY, "recalibrate=300"]
SWEEP = ["sweep.n=3", "sweep.temperatures=[0.7]"]
STAGES = ("fit", "sample", "score:p-diff", "compare:average:sample", "compare:average", "compare:latents:map")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recalibrated") / "digits"
    with undrawn():
        assert main(["sweep-temperature", f"run_dir={folder}", *ON, *SWEEP]) == 0
    return folder


def own_task() -> Task:
    return make_task(build(composed(["name=digits", *ON])).task)


def rows(folder: Path) -> dict[str, dict]:
    return {row["name"]: row for row in read_json(folder / "results.json")["models"]}


def tensors(folder: Path, name: str, row: str = "p-diff") -> dict[str, torch.Tensor]:
    inside = folder if row == "p-diff" else folder / "baselines" / row
    return load_tensors(inside / "samples" / f"{name}.safetensors")


@pytest.mark.parametrize("row", ["p-diff", "average"])
def test_samples_carry_statistics_measured_on_training_data(finished: Path, row: str):
    zoo, task = (
        Zoo.load(finished / "zoo"),
        own_task(),
    )
    v, drawn = tensors(finished, "samples", row)["samples"][2], tensors(finished, "drawn_statistics", row)
    model = task.model()
    model.load_state_dict(zoo.state_dict(v))
    expected = recalibrate(
        model, [(batch[0],) for batch in evened(random_subset(task.train_data(), 300), 128)]
    )
    assert set(expected) == set(drawn) and len(drawn) == 4
    for name, value in expected.items():
        torch.testing.assert_close(zoo.spec.unflatten(v)[name], value, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(drawn[name][2], value, rtol=1e-3)


def test_scores_before_stand_beside_those_after(finished: Path):
    zoo, task = (
        Zoo.load(finished / "zoo"),
        own_task(),
    )
    for name in ("p-diff", "average"):
        block, samples = (
            rows(finished)[name]["recalibration"],
            tensors(finished, "samples", name)["samples"].clone(),
        )
        for key, values in tensors(finished, "drawn_statistics", name).items():
            samples[:, zoo.spec.slices[key]] = values
        before = Scorer(task, zoo).score(samples, "test").metric
        assert block == {"items": 300, "before": spread(before, True)}
        assert block["before"] != rows(finished)[name]["test"]
    assert "recalibration" not in rows(finished)["original"]


def scores(folder: Path, row: str, name: str = "test") -> torch.Tensor:
    return load_tensors(folder / "scores" / f"{row}.safetensors")[name]


def test_what_originals_gain_as_well_is_no_gain_of_samples(finished: Path):
    """Copies of originals are no better, and no farther from them, than these are once recalibrated, too."""
    after, copies = (scores(finished, row) for row in ("original-recalibrated", "noised-0"))
    assert set(copies.tolist()) <= set(after.tolist())
    assert float(scores(finished, "noised-0", "nearest").max()) < 1e-3
    results, row = read_json(finished / "results.json"), rows(finished)
    names = [one["name"] for one in results["models"]]
    assert results["reference"] == "original-recalibrated"
    assert names[:3] == ["original", "original-recalibrated", "p-diff"]
    reference, chosen = row["original-recalibrated"], row["noised-0"]["selected"]
    assert chosen["vs_original"]["difference"] == pytest.approx(
        chosen["test"] - reference["selected"]["test"]
    )
    assert row["original"]["selected"]["vs_original"] is reference["selected"]["vs_original"] is None
    assert reference["recalibration"] == {"items": 300, "before": row["original"]["test"]}


def test_a_gain_that_comes_from_recalibration_is_none(finished: Path, tmp_path: Path):
    """Originals whose statistics are stale, and copies of them: better only than what they were."""
    zoo = Zoo.load(finished / "zoo")
    stale = zoo.vectors.clone()
    for spec in zoo.spec.tensors:
        if spec.name.endswith("running_mean"):
            stale[:, zoo.spec.slices[spec.name]] += 2.0
    Zoo(stale, zoo.spec, zoo.base, zoo.records, zoo.about).save(tmp_path / "stale")
    words = [word for word in ON if not word.startswith(("zoo.", "generator.", "+", "compare"))]
    copying = ["zoo=import", f"zoo.path={tmp_path / 'stale'}", "generator=noised", "generator.amplitude=0"]
    for command in ("collect", "fit", "sample", "score"):
        assert main([command, f"run_dir={tmp_path / 'r'}", *words, *copying, "compare=none"]) == 0
    row = rows(tmp_path / "r")
    reference, copies = row["original-recalibrated"], row["noised-0"]
    assert copies["selected"]["test"] - row["original"]["selected"]["test"] > 0.05, "what was claimed"
    assert copies["selected"]["vs_original"]["difference"] <= 0, "of copies the best is no better than of all"
    assert copies["test"]["best"] <= reference["test"]["best"]
    assert read_json(tmp_path / "r/results.json")["verdict"]["class"] == "replica"


def test_recalibrated_originals_are_those_of_a_recalibration(finished: Path):
    zoo, task = Zoo.load(finished / "zoo"), own_task()
    kept = load_tensors(finished / "evaluation/recalibrated_originals.safetensors")["vectors"]
    expected = Recalibration(Scorer(task, zoo), 300)(zoo.vectors)
    assert torch.equal(kept, expected) and not torch.equal(kept, zoo.vectors)
    run = FinishedRun.read(finished)
    assert torch.equal(run.zoo.vectors, kept) and run.originals.name == "original-recalibrated"
    assert "original" not in [one.name for one in run.compared]


def test_the_best_sample_is_a_recalibrated_one(finished: Path):
    zoo, best = Zoo.load(finished / "zoo"), load_tensors(finished / "samples/best.safetensors")
    index = rows(finished)["p-diff"]["selected"]["index"]
    assert torch.equal(zoo.spec.flatten(best), tensors(finished, "samples")["samples"][index])
    assert "norm1.num_batches_tracked" in best


def test_a_sweep_draws_recalibrated_networks_too(finished: Path):
    ours = Scored.from_tensors(load_tensors(finished / "scores/p-diff.safetensors"))
    (point,) = read_json(finished / "sweep.json")["curves"][0]["points"]
    assert point["test_mean"] == pytest.approx(float(ours.test[:3].mean()))


def test_networks_on_the_way_to_a_sample_are_recalibrated_too(finished: Path):
    """The last of them is the sample."""
    path = load_tensors(finished / "evaluation/latents.safetensors")["paths.score"]
    ours = load_tensors(finished / "scores/p-diff.safetensors")["train"]
    assert float((path[-1] - ours).abs().max()) < 0.05  # on other items


def test_people_are_told(finished: Path):
    results = read_json(finished / "results.json")
    sheet = summary_sheet(results)
    assert recalibrated_on(results).endswith("were measured on 300 training items")
    cells = [row[sheet.headings.index("before")] for row in sheet.rows]  # originals first
    assert cells[0] == "-" and all(float(cell) > 0 for cell in cells[1:])
    page = (finished / "report.html").read_text()
    assert "mean before<br>recalibration" in page and "measured anew like those of samples" in page


def test_the_same_command_does_nothing_and_other_items_measure_again(finished: Path, tmp_path: Path):
    def prints() -> dict[str, str]:
        stages = read_json(finished / "manifest.json")["stages"]
        return {name: stages[name]["fingerprint"] for name in STAGES}

    before = prints()
    assert before.keys() == set(STAGES)
    made = {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")}
    assert main(["compare", f"run_dir={finished}", *ON]) == 0
    assert made == {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")}
    other = [*TINY, "recalibrate=200"]
    current = Pipeline(plan_of(build(composed(["name=digits", f"run_dir={finished}", "force=true", *other]))))
    (fit,), (sample,) = current.stages("fit"), current.stages("sample")
    assert current.folder._fingerprint(fit) == before["fit"], "fitting does not know of it"
    assert current.folder._fingerprint(sample) != before["sample"]


def test_without_it_stages_are_what_they_were(tmp_path: Path):
    run = Pipeline(plan_of(build(composed(["name=digits", f"run_dir={tmp_path / 'r'}", *TINY]))))
    assert set(run.plan.settings) == {"name", "seed", "n", "task", "zoo", "generator", "compare"}
    stages = {stage.name: stage for group in ("sample", "score", "compare") for stage in run.stages(group)}
    now = without_guidance({"contraction": 0.7} | run.main.sampling)
    task = run.plan.settings["task"]
    found = {name: (s.settings, list(s.needs), list(s.makes)) for name, s in stages.items() if name in STAGES}
    samples, scores = "samples/samples.safetensors", "scores/{}.safetensors"
    mean = f"baselines/average/{samples}"
    assert found == {
        "sample": ([5, 0, now], ["generator"], [samples]),
        "score:p-diff": (task, ["zoo", samples, scores.format("original")], [scores.format("p-diff")]),
        "compare:average:sample": ([5, 0, {}], ["baselines/average/generator"], [mean]),
        "compare:average": (task, ["zoo", mean, scores.format("original")], [scores.format("average")]),
        "compare:latents:map": ([task, 0, now], ["zoo", "generator", samples], ["evaluation/latents.safetensors"]),
    }  # fmt: skip


def test_a_selection_without_statistics_is_refused_before_anything_is_fitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = [f"run_dir={tmp_path / 'r'}", *ON, "zoo.k=4", "zoo.pretrain.epochs=1", "zoo.select=last_norms:2"]
    assert main(["collect", *words]) == 0
    assert main(["fit", *words]) == 2
    said = capsys.readouterr().err
    assert "recalibrate: zoo.select=last_norms:2 generates no running statistics" in said
    assert not (tmp_path / "r" / "generator").exists()


@pytest.mark.parametrize(("items", "expected"), [(-1, "at least 0"), (1, "0, for off, or at least 2 items")])
def test_a_number_of_items_that_makes_no_sense(items: int, expected: str):
    with pytest.raises(ConfigError, match=f"^recalibrate: {items} is out of range; expected {expected}$"):
        build(composed(["name=test", f"recalibrate={items}"]))
