"""The quick part of the ladder (``python -m benchmarks.ladder``): a prior learns distributions that are known."""

import torch

from benchmarks.ladder import climb, table, value_of
from benchmarks.worlds import WORLDS, world


def test_worlds_know_their_own_draws():
    for name in WORLDS:
        truth = world(name)
        draws = truth.draw(1000, seed=4)
        assert 0.8 < truth.within(draws) < 1.2
        noise = truth.noise(1000, times=2)
        assert 0.4 < truth.distance(draws) / noise < 2.5 < truth.distance(draws + 0.5) / noise
        inside, weights = truth.inside(draws), truth.weights(draws)
        assert inside is None or (inside > 0.99 and float(truth.inside(draws + 1) or 0) < 0.8)
        if weights is not None:
            assert torch.allclose(weights, truth.shape.weights, atol=0.05)  # type: ignore[union-attr]


def test_a_prior_learns_four_modes_and_keeps_them_at_a_low_temperature():
    """After a seventh of its steps; at 0.4 the earlier contraction left a seventh of the samples in a mode."""
    warm, cold = climb("modes", 200, (1.0, 0.4), n=200, steps=300, sample_steps=20)
    assert 0.9 < warm.variance < 1.15 and warm.within is not None and 0.5 < warm.within < 2
    assert warm.inside is not None and warm.inside > 0.8 and warm.distance is not None and warm.distance < 4
    assert cold.inside is not None and cold.inside >= max(warm.inside, 0.97)
    assert warm.weights is not None and cold.weights is not None and cold.weights < warm.weights + 0.05
    assert 0.85 < cold.variance < 1.15 and cold.within is not None and cold.within < 0.35
    assert "| modes | 200 | 300 |" in table([warm, cold])


def test_a_whole_generator_learns_a_gaussian_of_low_rank():
    warm, cold = climb(
        "low rank", 200, (1.0, 0.4), "p-diff-linear", n=200, steps=50, components=16, sample_steps=20
    )
    assert 0.75 < warm.variance < 1.25
    assert 0.11 < cold.variance / warm.variance < 0.22, "the square of the temperature"


def test_settings_are_read_as_what_they_look_like():
    assert list(map(value_of, ("2", "0.5", "false", "eps"))) == [2, 0.5, False, "eps"]
