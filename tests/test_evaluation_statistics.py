"""Intervals against closed forms and their coverage, pairing, selection rules."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest

from paramdiff.evaluation import statistics as module
from paramdiff.evaluation.rare_error_ci import EXACT, counted_ci, limits
from paramdiff.evaluation.statistics import bootstrap_ci, paired_difference_ci, resampled, select_on_train


def normal_ci(values):
    half = 1.96 * float(values.double().std(correction=0)) / math.sqrt(len(values))
    return float(values.double().mean()) - half, float(values.double().mean()) + half


@pytest.mark.parametrize(("right", "items"), [(498, 500), (500, 500), (0, 30), (37, 50), (1, 2)])
def test_an_accuracy_has_the_exact_binomial_interval(right, items):
    correct = torch.arange(items) < right
    expected = binomtest(right, items).proportion_ci(0.95, "exact")
    for values in (correct, correct.double()):
        assert bootstrap_ci(values) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("items", [50, 500, 10_000])
def test_it_covers_the_accuracy_at_least_as_often_as_it_says(items):
    """Where 500 items are right in 99.6%, resampling covered it in 86 of 100 cases."""
    for wrong in (0.002, 0.004, 0.05):
        least, most = binom.ppf([1e-4, 1 - 1e-4], items, wrong)
        counts = np.arange(least, most + 1)
        inside = [
            low <= wrong <= high for low, high in (limits(count, items, EXACT) for count in counts.tolist())
        ]
        assert float(binom.pmf(counts, items, wrong)[inside].sum()) >= 0.949


@pytest.mark.parametrize(("only_a", "only_b"), [(1, 0), (2, 1), (1, 1), (5, 1), (10, 10), (60, 20)])
def test_a_difference_is_covered_whether_few_or_many_items_differ(only_a, only_b):
    items = 500

    @cache
    def interval(above, below):
        values = torch.zeros(items, dtype=torch.float64)
        values[:above], values[above : above + below] = 1, -1
        return counted_ci(values, 0.0, binary=True, both=True)

    shares = [only_a / items, only_b / items, 1 - (only_a + only_b) / items]
    drawn = np.random.default_rng(0).multinomial(items, shares, size=1000)
    ends = np.array([interval(above, below) for above, below, _ in drawn.tolist()])
    truth = (only_a - only_b) / items
    assert np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])) > 0.935
    if only_a + only_b >= 20:
        normal = 3.92 * math.sqrt(only_a + only_b - (only_a - only_b) ** 2 / items) / items
        assert 0.95 < np.mean(ends[:, 1] - ends[:, 0]) / normal < 1.1


def test_a_pair_without_a_difference_may_still_differ():
    right = torch.ones(500, dtype=torch.bool)
    low, high = paired_difference_ci(right, right)
    assert high == -low == pytest.approx(3 / 500 * math.sqrt(1), rel=0.02)
    assert paired_difference_ci(torch.rand(40), torch.rand(40))[0] < 0
    losses = torch.rand(40)
    assert paired_difference_ci(losses, losses) == (0.0, 0.0)


def test_a_pair_is_far_narrower_than_its_parts():
    """Two networks at 90% that differ in 4 of 1,000 items: the difference is known several times better."""
    a = torch.arange(1000) % 10 != 0
    b = a.clone()
    b[[1, 2, 3, 4]] = False
    low, high = paired_difference_ci(a, b)
    assert -0.0005 < low < 0.004 < high < 0.011
    single = bootstrap_ci(a)
    assert high - low < (single[1] - single[0]) / 3
    assert paired_difference_ci(b, a) == pytest.approx((-high, -low), abs=1e-9)


def test_means_of_several_networks_are_counted_by_the_sizes_of_their_deviations():
    """Four networks, 500 items, each of which is hard with probability 0.01: then it is wrong for some of them."""
    draws = np.random.default_rng(0)
    hits = []
    for _ in range(200):
        wrong = (draws.random(500) < 0.01) * draws.integers(1, 5, 500) / 4
        low, high = bootstrap_ci(torch.from_numpy(1 - wrong))
        assert low < high <= 1
        hits.append(low <= 1 - 0.01 * 2.5 / 4 <= high)
    assert np.mean(hits) > 0.93


@pytest.mark.parametrize("items", [30, 3000])
def test_losses_have_a_studentised_interval(items):
    values = torch.randn(items, generator=torch.Generator().manual_seed(0)).exp()
    low, high = bootstrap_ci(values)
    mean, (left, right) = float(values.mean()), normal_ci(values)
    assert high - mean > 1.1 * (mean - low), "the longer arm is on the side of the tail"
    assert (low, high) == pytest.approx((left, right), abs=(0.1 if items > 100 else 1.2) * (right - left))
    assert bootstrap_ci(-values) == pytest.approx((-high, -low), rel=1e-6)


def test_resampled_means_have_the_mean_and_spread_of_the_bootstrap(monkeypatch):
    values = torch.tensor([0.0, 0.0, 1.0, 5.0]).double()
    monkeypatch.setattr(module, "IN_DOUBLE", 1000)
    means, errors = resampled(values)
    assert len(means) == len(errors) == 2000
    assert float(means.mean()) == pytest.approx(1.5, abs=0.1)
    assert float(means.std()) == pytest.approx(float(values.std(correction=0)) / 2, rel=0.08)


def test_equal_seeds_give_equal_intervals():
    values = torch.rand(500)
    assert bootstrap_ci(values, 3) == bootstrap_ci(values, 3)
    assert bootstrap_ci(values, 3) != bootstrap_ci(values, 4)


def test_values_without_an_interval():
    assert all(map(math.isnan, bootstrap_ci(torch.tensor([1.0, torch.inf]))))
    assert all(map(math.isnan, bootstrap_ci(torch.tensor([]))))
    assert bootstrap_ci(torch.full((7,), 0.5)) == (0.5, 0.5)
    assert all(map(math.isfinite, bootstrap_ci(torch.tensor([0.3, 0.7]))))


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
