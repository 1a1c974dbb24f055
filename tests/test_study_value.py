"""Intervals against closed forms, pairing, selection rules."""

import math

import pytest
import torch

from paramdiff.study import value as module
from paramdiff.study.value import bootstrap_ci, bootstrap_means, paired_difference_ci, select_on_train


def normal_ci(values):
    half = 1.96 * float(values.double().std(correction=0)) / math.sqrt(len(values))
    return float(values.double().mean()) - half, float(values.double().mean()) + half


@pytest.mark.parametrize("items", [200, 5000])
def test_an_accuracy_s_interval_is_near_the_normal_one(items):
    correct = torch.arange(items) % 5 != 0
    width = normal_ci(correct)[1] - normal_ci(correct)[0]
    assert bootstrap_ci(correct) == pytest.approx(normal_ci(correct), abs=0.08 * width)


def test_values_that_are_not_boolean():
    values = torch.randn(3000, generator=torch.Generator().manual_seed(0)).exp()
    width = normal_ci(values)[1] - normal_ci(values)[0]
    assert bootstrap_ci(values) == pytest.approx(normal_ci(values), abs=0.08 * width)


def test_resampled_means_have_the_mean_and_spread_of_the_bootstrap():
    values = torch.tensor([0.0, 0.0, 1.0, 5.0]).double()
    means = bootstrap_means(values)
    assert len(means) == 2000
    assert float(means.mean()) == pytest.approx(1.5, abs=0.1)
    assert float(means.std()) == pytest.approx(float(values.std(correction=0)) / 2, rel=0.08)


def test_blocks_hold_all_resamples(monkeypatch):
    monkeypatch.setattr(module, "ELEMENTS_AT_ONCE", 1000)
    assert len(bootstrap_means(torch.rand(300).double())) == 2000


def test_equal_seeds_give_equal_intervals():
    values = torch.rand(500)
    assert bootstrap_ci(values, 3) == bootstrap_ci(values, 3)
    assert bootstrap_ci(values, 3) != bootstrap_ci(values, 4)


def test_a_pair_is_far_narrower_than_its_parts():
    """Two networks at 90% that differ in 4 of 1,000 items: the difference is known ten times better."""
    a = torch.arange(1000) % 10 != 0
    b = a.clone()
    b[[1, 2, 3, 4]] = False
    low, high = paired_difference_ci(a, b)
    assert 0 < low < 0.004 < high < 0.009
    single = bootstrap_ci(a)
    assert high - low < (single[1] - single[0]) / 4
    assert paired_difference_ci(b, a) == pytest.approx((-high, -low), abs=0.001)


def test_without_mistakes_and_with_values_that_are_not_finite():
    assert bootstrap_ci(torch.ones(50, dtype=torch.bool)) == (1.0, 1.0)
    assert all(map(math.isnan, bootstrap_ci(torch.tensor([1.0, torch.inf]))))


@pytest.mark.parametrize(
    ("metric", "nll", "higher", "expected"),
    [
        ([0.1, 0.9, 0.5], None, True, 1),
        ([0.1, 0.9, 0.5], None, False, 0),
        ([0.9, 0.9, 0.5], None, True, 0),
        ([0.9, 0.9, 0.9], [0.3, 0.1, 0.1], True, 1),
        ([0.9, 0.8, 0.9], [0.3, 0.1, 0.2], True, 2),
        ([math.nan, 0.2, 0.1], None, True, 1),
        ([math.nan, 0.2, 0.1], None, False, 2),
        ([0.9, 0.9], [math.nan, 0.5], True, 1),
        ([-math.inf, 0.1], None, True, 1),
        ([math.nan], [math.nan], True, 0),
    ],
)
def test_selection(metric, nll, higher, expected):
    nll = None if nll is None else torch.tensor(nll)
    assert select_on_train(torch.tensor(metric), nll, higher) == expected
