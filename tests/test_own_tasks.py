"""Tasks of other kinds than image classification, from training to the report: text, detection, generation."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from finished_runs import QUICK_FIT
from own_tasks import AveragePrecision, Line, PeakDetector, Reviews, Ring, Squares
from paramdiff.cli import main
from paramdiff.collectors import TrainingConfig, TrajectoryCollector
from paramdiff.distributed import ProcessRank, _place
from paramdiff.errors import TaskError
from paramdiff.evaluation.comparison import Scored
from paramdiff.files import read_json
from paramdiff.networks.modes import train_selected
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.reports import page as page_module
from paramdiff.runs.summary_table import summary_sheet
from paramdiff.scoring import passes
from paramdiff.scoring import scorer as module
from paramdiff.scoring.scorer import Scorer
from paramdiff.tasks import make_task
from paramdiff.tasks.task import Task
from paramdiff.zoo.zoo import Zoo


def zoo_of(task: Task, select: str, n: int = 5) -> Zoo:
    torch.manual_seed(0)
    model = task.model()
    spec = ParameterSpec.from_model(model, select)
    v = spec.flatten(model.state_dict())
    return Zoo(v + 0.1 * torch.randn(n, spec.dim), spec, model.state_dict())


# From collecting to the report ------------------------------------------------------------------------------

RUNS = {
    "Reviews": ("head.*", 30, {"test_ci95", "within"}),
    "Squares": ('"body.1.weight,body.1.bias,head.*"', 25, set()),
    "Ring": ("last_norms:2", 60, set()),
    "Line": ("last_norms:1", 100, {"test_ci95"}),
}
"""Selection, epochs, and which of what needs per-item outcomes each task gives."""


@pytest.mark.parametrize("name", RUNS)
def test_a_task_of_any_kind_runs_to_its_report(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    select, epochs, given = RUNS[name]
    monkeypatch.chdir(tmp_path)
    words = [
        "task=own", f"task.name=own_tasks:{name}", f"zoo.select={select}", "zoo.k=6", "n=4",
        f"zoo.pretrain.epochs={epochs}", "zoo.pretrain.lr=1e-2", "compare=none",
        *QUICK_FIT, "run_dir=run",
    ]  # fmt: skip
    if name != "Ring":  # drawing takes longer than all else
        monkeypatch.setattr(page_module, "FIGURES", {"": page_module.FIGURES[""][:1]})
    assert main(["run", *words]) == 0
    results, task = read_json(Path("run/results.json")), make_task(f"own_tasks:{name}")
    assert results["task"]["metric"] == task.metric
    original, sampled = results["models"]
    level = {"Reviews": 0.85, "Squares": 0.4, "Ring": 0.3, "Line": 0.5}[name]
    assert (original["test"]["mean"] > level) == task.higher_is_better, original["test"]
    for row in (original, sampled):
        assert (row["selected"]["test_ci95"] is not None) == ("test_ci95" in given)
        assert (row["similarity"]["within"] is not None) == ("within" in given)
        assert not row.get("ensembles")
    assert ("to zoo" in summary_sheet(results).headings) == ("within" in given)
    assert results["verdict"]["class"] in ("replica", "interpolation", "novel", "broken")
    page = Path("run/report.html").read_text()
    assert task.metric in page and ('scope="colgroup">Error similarity' in page) == ("within" in given)
    if name == "Squares":
        before = read_json(Path("run/manifest.json"))["stages"]
        assert main(["run", *words]) == 0 and read_json(Path("run/manifest.json"))["stages"] == before, (
            "resumed"
        )


# Training and eval mode -------------------------------------------------------------------------------------


def test_a_detector_is_collected_in_train_mode_and_its_frozen_statistics_stay(tmp_path: Path):
    seen = []

    class Watched(Squares):
        def forward(self, model, batch, training):
            seen.append((training, model.training, model.body[1].training))
            return super().forward(model, batch, training)

    collector = TrajectoryCollector(k=3, select="head.*", pretrain=TrainingConfig(epochs=1))
    zoo = collector.collect(Watched(), tmp_path)
    training = [modes for modes in seen if modes[0]]
    assert training == [(True, True, True)] * 6 + [(True, True, False)] * 3
    assert all(mode == (False, False, False) for mode in seen if not mode[0])
    assert not torch.equal(zoo.vectors[0], zoo.vectors[1])
    assert int(zoo.base["body.1.num_batches_tracked"]) == 6


def test_without_a_forward_of_its_own_such_a_task_is_told(tmp_path: Path):
    class Plain(Squares):
        forward = Task.forward

        def inputs(self, batch):
            return batch

    assert Plain().forward(PeakDetector(), next(Squares().test_data().batches()), True).keys() == {
        "heat",
        "sides",
    }
    with pytest.raises(TaskError, match=r"loss of task 'squares' fails .*eval mode .*override Task.forward"):
        TrajectoryCollector(k=2, select="head.*", pretrain=TrainingConfig(epochs=0)).collect(
            Plain(), tmp_path
        )


def test_only_layers_with_buffers_of_their_own_are_kept_from_changing():
    network = nn.Sequential(PeakDetector(), nn.BatchNorm2d(2), nn.Dropout())
    train_selected(network, ["1.running_mean"])
    modes = {name: m.training for name, m in network.named_modules()}
    assert not modes["0.body.1"] and modes["1"] and modes["2"] and modes[""]
    assert modes["0"], "buffers of a module with children are constants; it may look at its mode"


def test_gradients_are_those_of_the_training_loss_with_the_same_noise_for_every_network():
    task, zoo = Ring(), zoo_of(Ring(), "last_norms:2")
    scorer = Scorer(task, zoo)
    first = scorer.gradients(zoo.vectors[[0, 1, 0]], 3)
    assert torch.equal(first[0], first[2]) and not torch.equal(first[0], first[1])
    detector, heads = Squares(), zoo_of(Squares(), "head.*")
    found = Scorer(detector, heads).gradients(heads.vectors[:1], 0)[0]
    model = detector.model()
    model.load_state_dict(heads.state_dict(heads.vectors[0]))
    train_selected(model)
    batch = next(iter(detector.train_data().shuffled(0)))
    detector.loss(detector.forward(model, batch, True), batch).backward()
    expected = heads.spec.flatten({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_forward_of_its_own_is_scored_as_the_plain_networks(monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    monkeypatch.setattr(module, "say", said.append)
    task, zoo = Reviews(), zoo_of(Reviews(), "head.*,lstm.bias*")
    scores = Scorer(task, zoo).score(zoo.vectors, "test")
    assert said == ["  the whole network runs for every sample: the task has a forward of its own"]
    for row, v in zip(scores.outcomes["correct"], zoo.vectors):
        model = task.model().eval()
        model.load_state_dict(zoo.state_dict(v))
        right = [
            task.predict(task.forward(model, b, False), b)["correct"] for b in task.test_data().batches()
        ]
        assert torch.equal(row, torch.cat(right))


# Scores of a whole data set ---------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [2, 16])
def test_metric_objects_see_every_batch_once_for_each_network(at_once: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(passes, "NETWORKS_AT_ONCE", at_once)
    task, zoo = Squares(), zoo_of(Squares(), "head.*")
    scores = Scorer(task, zoo).score(zoo.vectors[[0, 1, 2, 0]], "test", [(0, 1)])
    assert scores.outcomes == {} and list(scores.metrics) == ["ap50"] and scores.ensembles is None
    for v, found in zip(zoo.vectors[[0, 1, 2, 0]], scores.metric.tolist()):
        model, metric = task.model().eval(), AveragePrecision()
        model.load_state_dict(zoo.state_dict(v))
        for images, targets in task.test_data().batches():
            metric.update(model(images), targets)
        assert found == metric.compute()["ap50"]


def test_several_processes_share_the_networks(monkeypatch: pytest.MonkeyPatch):
    """Each computes its own on all batches, so that the numbers are those of one."""
    task, zoo = Ring(), zoo_of(Ring(), "last_norms:2")
    alone = Scorer(task, zoo).score(zoo.vectors, "test").metric
    parts = []
    monkeypatch.setattr(passes, "gather_items", lambda own: parts.append(own) or own)
    for rank in range(2):
        before = _place.set(ProcessRank(rank, 2, rank))
        try:
            scorer = Scorer(task, zoo)
            monkeypatch.setattr(scorer, "_shared_data", scorer._data)
            scorer.score(zoo.vectors, "test")
        finally:
            _place.reset(before)
    assert [len(part) for part in parts] == [3, 2]
    assert [parts[i % 2][i // 2][1]["fd"] for i in range(5)] == alone.tolist()


class Both(Line):
    """Per-item errors, two of each item, and a correlation of the whole set, which is the first metric."""

    metric, higher_is_better = "r", True

    def predict(self, outputs, batch):
        error = super().predict(outputs, batch)["squared_error"]
        return {"squared_error": error, "pair": torch.stack([error, error], 1)}

    def metric_objects(self):
        return {"r": Correlation()}

    def ensemble(self, outputs):
        return torch.stack(list(outputs)).mean(0)


class Correlation(nn.Module):
    """As a torchmetrics.Metric: a module with update(preds, target) and compute()."""

    def __init__(self):
        super().__init__()
        self.pairs = []

    def update(self, outputs, y):
        self.pairs.append(torch.stack([outputs[:, 0], y]))

    def compute(self):
        return torch.corrcoef(torch.cat(self.pairs, 1))[0, 1]


def test_a_task_may_give_both():
    task, zoo = Both(), zoo_of(Both(), "last_norms:1")
    scores = Scorer(task, zoo).score(zoo.vectors, "test", [(0, 1), (2, 3)])
    assert list(scores.metrics) == ["r", "mse"] and scores.metric.max() <= 1
    assert scores.outcomes["pair"].shape == (5, 64, 2)
    torch.testing.assert_close(scores.metrics["mse"], scores.outcomes["squared_error"].double().mean(1))
    assert scores.ensembles is not None and scores.ensembles.metrics["mse"].shape == (2,)
    kept = Scored.of(scores, scores)
    again = Scored.from_tensors(kept.tensors())
    assert (
        torch.equal(again.test, scores.metric) and again.item_values(0) is None and again.wrong_test is None
    )


def test_a_network_of_nan_has_the_worst_score_and_harms_no_other():
    for task, select, worst in ((Ring(), "last_norms:2", math.inf), (Both(), "last_norms:1", -math.inf)):
        zoo = zoo_of(task, select)
        good = Scorer(task, zoo).score(zoo.vectors, "train").metric
        broken = zoo.vectors.clone()
        broken[2] = torch.nan
        found = Scorer(task, zoo).score(broken, "train").metric
        assert found[2] == worst and torch.equal(found[[0, 1, 3, 4]], good[[0, 1, 3, 4]])
        assert bool(Scorer(task, zoo).score(broken[[2, 2]], "train").metric.isinf().all())


# What is refused --------------------------------------------------------------------------------------------


class Silent(Line):
    predict, metrics = Task.predict, Task.metrics


class Wordy(Ring):
    def metric_objects(self):
        one = super().metric_objects()["fd"]
        one.compute = lambda: "good"
        return {"fd": one}


class Misnamed(Ring):
    metric = "fid"


def test_a_task_that_cannot_score_is_refused_before_anything_runs():
    with pytest.raises(
        TaskError, match=r"'Silent|'line' does not say how good a network is; expected per-item"
    ):
        make_task("test_own_tasks:Silent")
    with pytest.raises(TaskError, match="does not say how good"):
        Scorer(Silent(), zoo_of(Line(), "last_norms:1"))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Wordy, "metric object 'fd' of task 'ring' computes a str; expected a number, or a mapping"),
        (Misnamed, "metrics of task 'ring' gives fd; expected fid"),
    ],
)
def test_metric_objects_that_give_no_number_or_another_one(kind: type[Task], said: str):
    zoo = zoo_of(Ring(), "last_norms:2")
    with pytest.raises(TaskError, match=said):
        Scorer(kind(), zoo).score(zoo.vectors, "test")


def test_torchmetrics_objects_are_used_as_they_are():
    torchmetrics = pytest.importorskip("torchmetrics")

    class Measured(Line):
        predict, metrics = Task.predict, Task.metrics

        def metric_objects(self):
            return {"mse": torchmetrics.MeanSquaredError()}

        def update_metrics(self, objects, outputs, batch):
            objects["mse"].update(outputs[:, 0], batch[-1])

    zoo = zoo_of(Line(), "last_norms:1")
    expected, found = (Scorer(task, zoo).score(zoo.vectors, "test").metric for task in (Line(), Measured()))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
