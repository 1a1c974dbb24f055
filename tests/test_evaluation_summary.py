"""Rows of results.json: the schema, strict JSON, directions, and sets of one."""

import json
import math

import pytest
import torch

from paramdiff.evaluation.comparison import Originals, Scored
from paramdiff.evaluation.statistics import paired_difference_ci
from paramdiff.evaluation.summary import arrays, spread, summarise
from paramdiff.files import load_tensors, save_tensors
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.scoring.scores import Scores
from paramdiff.zoo.zoo import Zoo

DIM, ITEMS = 30, 60


def zoo_of(k, seed=0, **about):
    vectors = torch.randn(k, DIM, generator=torch.Generator().manual_seed(seed))
    return Zoo(
        vectors, ParameterSpec.from_state_dict({"w": torch.zeros(DIM)}), {"w": vectors[0]}, about=about
    )


def scores_of(n, seed=0, metric="accuracy"):
    g = torch.Generator().manual_seed(seed)
    correct, error = torch.rand(n, ITEMS, generator=g) < 0.8, torch.rand(n, ITEMS, generator=g)
    values = {"accuracy": correct.double(), "mse": error.double(), "f1": error.double() ** 2}
    outcomes = {"correct": correct, "nll": torch.rand(n, ITEMS, generator=g), "error": error}
    return Scores(outcomes, {metric: values[metric].mean(1)})


def scored_of(n, seed=0, metric="accuracy"):
    return Scored.of(scores_of(n, seed, metric), scores_of(n, seed + 100, metric))


def strict(row):
    return json.loads(json.dumps(row, allow_nan=False))


def test_a_row_has_the_schema():
    zoo = zoo_of(8)
    originals = Originals(zoo, scored_of(8))
    row = strict(summarise("p-diff", originals.compare(zoo_of(5, 1).vectors, scored_of(5, 1)), originals))
    assert list(row) == [
        "name", "label", "n", "best_of", "train", "test", "selected", "similarity", "distance",
    ]  # fmt: skip
    assert list(row["train"]) == list(row["test"]) == ["best", "mean", "median", "worst", "std"]
    assert list(row["selected"]) == ["index", "train", "test", "test_ci95", "vs_original"]
    assert list(row["similarity"]) == ["within", "to_zoo_mean", "to_zoo_max_mean"]
    assert list(row["distance"]) == [
        "nearest",
        "ratio",
        "residual_to_span",
        "nearest_ratio",
        "pairwise_ratio",
    ]
    assert row["n"] == row["best_of"] == 5
    assert row["name"] == row["label"] == "p-diff"


def test_the_numbers_are_those_of_the_networks():
    zoo = zoo_of(8)
    originals, scored, vectors = Originals(zoo, scored_of(8)), scored_of(5, 1), zoo_of(5, 1).vectors
    comparison = originals.compare(vectors, scored)
    row = summarise("p-diff", comparison, originals, label="p-diff (ours)")
    best, reference = comparison.selected, originals.own.selected
    assert float(scored.train[best]) == float(scored.train.max())
    assert row["label"] == "p-diff (ours)"
    assert row["selected"]["index"] == best
    assert row["selected"]["test"] == pytest.approx(float(scored.test[best]))
    low, high = row["selected"]["test_ci95"]
    assert low < row["selected"]["test"] < high
    versus = row["selected"]["vs_original"]
    assert versus["difference"] == pytest.approx(float(scored.test[best] - originals.scored.test[reference]))
    correct = ~scored.wrong_test[best], ~originals.scored.wrong_test[reference]
    assert versus["ci95"] == list(paired_difference_ci(*correct))
    assert row["distance"]["nearest"] == pytest.approx(float(comparison.distances.nearest.median()))
    found = arrays(comparison)
    assert list(found) == ["train", "test", "nearest", "to_zoo_max", "iou_within", "iou_between"]
    assert all(found[name].shape == (5,) for name in ("train", "test", "nearest", "to_zoo_max"))
    assert found["iou_within"].shape == (5, 5) and found["iou_between"].shape == (5, 8)
    assert "iou_between" not in arrays(originals.own)
    assert row["distance"]["ratio"] == pytest.approx(float(comparison.distances.ratio.median()))
    assert row["similarity"]["to_zoo_max_mean"] == pytest.approx(float(found["to_zoo_max"].mean()))


def test_the_originals_are_compared_without_themselves():
    originals = Originals(zoo_of(8), scored_of(8))
    row = strict(summarise("original", originals.own, originals))
    assert row["similarity"]["to_zoo_mean"] == pytest.approx(row["similarity"]["within"])
    assert row["similarity"]["to_zoo_max_mean"] < 1
    assert row["distance"]["nearest"] > 0.5
    assert row["distance"]["ratio"] > 0.5
    assert row["distance"]["residual_to_span"] > 0.5
    assert row["selected"]["vs_original"] is None
    again = summarise("copies", originals.compare(zoo_of(8).vectors, scored_of(8)), originals)
    assert again["similarity"]["to_zoo_max_mean"] == 1
    assert again["distance"]["nearest"] == pytest.approx(0, abs=1e-6)


def test_one_network_and_two_members():
    zoo = zoo_of(2, trajectory=True)
    originals = Originals(zoo, scored_of(2))
    row = strict(
        summarise("average", originals.compare(zoo.vectors.mean(0, keepdim=True), scored_of(1, 1)), originals)
    )
    assert row["similarity"]["within"] is None
    assert row["similarity"]["to_zoo_max_mean"] >= row["similarity"]["to_zoo_mean"]
    assert row["test"]["std"] == 0
    assert row["test"]["best"] == row["test"]["worst"] == row["test"]["median"]
    assert strict(summarise("original", originals.own, originals))["distance"]["nearest"] == pytest.approx(2)


def test_lower_can_be_better():
    values = torch.tensor([0.3, 0.1, 0.2, 0.6], dtype=torch.float64)
    low, high = spread(values, False), spread(values, True)
    assert (low["best"], low["worst"]) == (high["worst"], high["best"]) == (0.1, 0.6)
    assert low["median"] == pytest.approx(0.25)
    assert low["std"] == pytest.approx(float(values.std(correction=0)))
    originals = Originals(zoo_of(4), scored_of(4, metric="mse"), higher_is_better=False)
    row = summarise("original", originals.own, originals)
    assert row["selected"]["train"] == row["train"]["best"] == float(originals.scored.train.min())


def test_intervals_follow_the_outcome_whose_mean_is_the_metric():
    scores = scores_of(4, metric="mse")
    scored = Scored.of(scores, scores)
    assert torch.equal(scored.item_values(2), scores.outcomes["error"][2].double())
    assert torch.equal(scored_of(4, metric="accuracy").item_values(1), (~scored_of(4).wrong_test[1]).double())
    assert scored_of(4, metric="f1").item_values(0) is None


def test_what_does_not_exist_is_null():
    """A regression: no mistakes, no nll; one network gave NaN, so its score is infinite."""
    scores = scores_of(3, metric="f1")
    scores.metrics["f1"][0] = torch.inf
    only = Scores({"error": scores.outcomes["error"]}, scores.metrics)
    originals = Originals(zoo_of(3), Scored.of(only, only), higher_is_better=False)
    row = strict(summarise("original", originals.own, originals))
    assert row["similarity"] == {"within": None, "to_zoo_mean": None, "to_zoo_max_mean": None}
    assert row["selected"]["test_ci95"] is None
    assert row["test"]["mean"] is None
    assert row["test"]["worst"] is None
    assert row["test"]["best"] == float(only.metric.min())
    assert row["selected"]["index"] != 0
    assert "to_zoo_max" not in arrays(originals.own)


@pytest.mark.parametrize("metric", ["accuracy", "mse", "f1"])
def test_scores_survive_the_disk(tmp_path, metric):
    scored = scored_of(4, metric=metric)
    save_tensors(tmp_path / "row.safetensors", scored.tensors() | {"nearest": torch.zeros(4)})
    loaded = Scored.from_tensors(load_tensors(tmp_path / "row.safetensors"))
    for name, value in scored.tensors().items():
        assert torch.equal(getattr(loaded, name), value)
    assert (loaded.item_values(0) is None) == (scored.item_values(0) is None)


def test_a_broken_network_does_not_hide_the_others_intervals():
    scores = scores_of(3, metric="mse")
    scores.outcomes["error"][1] = torch.nan
    scores.metrics["mse"][1] = torch.inf
    scored = Scored.of(scores, scores)
    assert torch.equal(scored.item_values(0), scores.outcomes["error"][0].double())
    originals = Originals(zoo_of(3), scored, higher_is_better=False)
    low, high = summarise("original", originals.own, originals)["selected"]["test_ci95"]
    assert math.isfinite(low) and low < high
