"""A point of the accuracy-diversity trade: its mean, its interval over items, its similarity."""

import json
import math

import pytest
import torch

from paramdiff.evaluation.similarity import Behaviour
from paramdiff.evaluation.statistics import bootstrap_ci
from paramdiff.evaluation.tradeoff import point
from paramdiff.scoring.scores import Scores

ITEMS = 80


def scores(n: int, seed: int = 0, share: float = 0.8) -> Scores:
    correct = torch.rand(n, ITEMS, generator=torch.Generator().manual_seed(seed)) < share
    return Scores({"correct": correct}, {"accuracy": correct.double().mean(1)})


def test_what_a_point_holds():
    test, zoo = scores(6), ~scores(10, seed=1).outcomes["correct"]
    found, seen = point(test, zoo, True), Behaviour.of(~test.outcomes["correct"], zoo)
    assert found["n"] == 6 and found["test_mean"] == pytest.approx(float(test.metric.mean()))
    assert found["test_median"] == pytest.approx(float(test.metric.quantile(0.5)))
    assert found["test_std"] == pytest.approx(float(test.metric.std(correction=0)))
    assert (found["within"], found["to_zoo_mean"]) == (seen.within, pytest.approx(float(seen.mean.mean())))
    assert found["to_zoo_max_mean"] == pytest.approx(float(seen.max.mean()))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_ensembles_are_summed_up_by_size():
    alone, together = scores(10), scores(3, seed=2)
    both = Scores(alone.outcomes, alone.metrics, together)
    found = point(both, None, True)["ensembles"]
    assert list(found) == ["1", "5", "10"], "ten networks make two ensembles of 5 and one of 10"
    assert found["1"]["accuracy"] == pytest.approx(float(alone.metric.mean()))
    assert found["5"]["accuracy"] == pytest.approx(float(together.metric[:2].mean()))
    assert point(alone, None, True)["ensembles"] == {}


def test_the_interval_is_over_items():
    """For copies of one network it is that network's own, however many there are."""
    one = scores(1)
    copies = Scores({"correct": one.outcomes["correct"].expand(9, -1)}, {"accuracy": one.metric.expand(9)})
    expected = list(bootstrap_ci(one.outcomes["correct"][0].double()))
    assert point(copies, None, True)["test_ci95"] == pytest.approx(expected)
    low, high = point(scores(9), None, True)["test_ci95"]
    assert low < float(scores(9).metric.mean()) < high
    assert high - low < expected[1] - expected[0], "nine networks that differ average the noise of items"


def test_what_does_not_exist_is_none():
    error = torch.rand(3, ITEMS)
    regression = point(Scores({"error": error}, {"mse": error.double().mean(1)}), None, False)
    assert regression["within"] is None and regression["test_ci95"] is not None
    assert (
        point(Scores({"error": error}, {"rmse": error.double().mean(1).sqrt()}), None, False)["test_ci95"]
        is None
    )
    broken = scores(2)
    broken.metrics["accuracy"][0] = -math.inf
    assert point(broken, None, True)["test_mean"] is None
    assert point(scores(1), ~scores(4).outcomes["correct"], True)["within"] is None
