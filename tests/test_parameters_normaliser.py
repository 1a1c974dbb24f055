"""Rule 2: unit variation between checkpoints, nothing divided by zero, exactly invertible."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paramdiff.parameters import normaliser
from paramdiff.parameters.normaliser import SMALLEST_POSITIVE, Normaliser


def zoo(k=6, dim=8, seed=0, dtype=torch.float32):
    """Small variation about a large centre; the last two coordinates are positive, the second is constant."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(dim, generator=generator)
    vectors = centre + 1e-3 * torch.randn(k, dim, generator=generator)
    vectors[:, -2:] = (vectors[:, -2:] * 3).exp()
    vectors[:, 1] = 0.1
    return vectors.to(dtype)


def positive(dim=8):
    return torch.arange(dim) >= dim - 2


def test_variation_between_checkpoints_has_unit_size():
    x = Normaliser.fit(zoo(), positive()).normalise(zoo(), torch.float64)
    varying = [0, *range(2, 8)]
    torch.testing.assert_close(x[:, varying].mean(0), torch.zeros(7, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(x[:, varying].var(0, correction=0), torch.ones(7, dtype=torch.float64))


def test_positive_coordinates_are_normalised_as_logarithms():
    normaliser = Normaliser.fit(zoo(), positive())
    torch.testing.assert_close(normaliser.mean[-2:], zoo()[:, -2:].double().log().mean(0))
    torch.testing.assert_close(normaliser.mean[0], zoo()[:, 0].double().mean())


@settings(max_examples=60, deadline=None)
@given(k=st.integers(1, 7), dim=st.integers(1, 9), scale=st.floats(1e-6, 1e3), seed=st.integers(0, 2**32))
def test_float32_comes_back_bit_for_bit(k, dim, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    positive = torch.rand(dim, generator=generator) < 0.5
    vectors = 10 * torch.randn(dim, generator=generator) + scale * torch.randn(k, dim, generator=generator)
    vectors = torch.where(positive, vectors.abs(), vectors)
    normaliser = Normaliser.fit(vectors, positive)
    x = normaliser.normalise(vectors, torch.float64)
    assert torch.isfinite(x).all()
    assert torch.equal(normaliser.denormalise(x), vectors)


def test_float32_latents_lose_less_than_a_float32_of_the_variation():
    vectors, normaliser = zoo(), Normaliser.fit(zoo(), positive())
    x = normaliser.normalise(vectors)
    assert x.dtype == torch.float32
    torch.testing.assert_close(normaliser.denormalise(x), vectors, rtol=1e-7, atol=1e-9)


def test_float64_zoos():
    vectors = zoo(dtype=torch.float64) * (1 + 1e-10)
    normaliser = Normaliser.fit(vectors, positive())
    back = normaliser.denormalise(normaliser.normalise(vectors, torch.float64), torch.float64)
    assert back.dtype == torch.float64
    torch.testing.assert_close(back, vectors, rtol=1e-14, atol=1e-15)
    assert torch.equal(back[:, 1], vectors[:, 1])


@pytest.mark.parametrize("value", [0.0, 0.1, -3e-39, 1e30])
def test_constant_coordinates_come_back_as_their_constant_whatever_x_says(value):
    vectors = torch.tensor([[value, 1.0], [value, 2.0], [value, 4.0]])
    normaliser = Normaliser.fit(vectors)
    assert normaliser.constant.tolist() == [True, False]
    assert torch.equal(normaliser.normalise(vectors)[:, 0], torch.zeros(3))
    wild = torch.tensor([[5.0, 0.0], [-1e30, 0.0], [float("inf"), 0.0]])
    assert torch.equal(normaliser.denormalise(wild)[:, 0], vectors[:, 0])


def test_constant_positive_and_float64_coordinates():
    vectors = torch.tensor([[1e-42, 0.1, 1 / 3]] * 7, dtype=torch.float64)
    normaliser = Normaliser.fit(vectors, torch.tensor([True, True, False]))
    assert normaliser.constant.all()
    back = normaliser.denormalise(torch.randn(7, 3), torch.float64)
    assert torch.equal(back[:, 2], vectors[:, 2])
    torch.testing.assert_close(back, vectors, rtol=1e-13, atol=0)


def test_the_smallest_variation_is_not_a_constant():
    vectors = torch.tensor([[1.0], [1.0], [1.0 + 2**-23]])
    normaliser = Normaliser.fit(vectors)
    assert not normaliser.constant.any()
    assert torch.equal(normaliser.denormalise(normaliser.normalise(vectors, torch.float64)), vectors)


@settings(max_examples=60, deadline=None)
@given(x=st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=2))
def test_positive_coordinates_stay_positive_and_finite_for_any_x(x):
    normaliser = Normaliser.fit(zoo(), positive())
    v = normaliser.denormalise(torch.tensor([[0.0] * 6 + x]))[:, -2:]
    assert bool((v > 0).all())
    assert bool(torch.isfinite(v).all())


def test_variances_of_dead_channels():
    """Subnormal float32 come back exactly; zero becomes the smallest positive number."""
    vectors = torch.tensor([[5.6e-45, 0.0], [1e-40, 0.0], [2.0, 0.0]])
    normaliser = Normaliser.fit(vectors, torch.ones(2, dtype=torch.bool))
    back = normaliser.denormalise(normaliser.normalise(vectors, torch.float64))
    assert torch.equal(back[:, 0], vectors[:, 0])
    assert back[:, 1].tolist() == [SMALLEST_POSITIVE] * 3


@pytest.mark.parametrize("at_once", [1, 6, 13, 47])
def test_blocks_give_the_same_as_all_at_once(monkeypatch, at_once):
    whole = Normaliser.fit(zoo(), positive())
    x, back = whole.normalise(zoo()), whole.denormalise(whole.normalise(zoo()))
    monkeypatch.setattr(normaliser, "IN_DOUBLE", at_once)
    blocked = Normaliser.fit(zoo(), positive())
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(blocked.state_dict()[name], tensor, rtol=1e-15, atol=0)
    assert torch.equal(whole.normalise(zoo()), x)
    assert torch.equal(whole.denormalise(x), back)


def test_inputs_are_not_written_to():
    vectors = zoo(dtype=torch.float64)
    normaliser = Normaliser.fit(vectors, positive())
    x = normaliser.normalise(vectors, torch.float64)
    kept = x.clone()
    normaliser.denormalise(x)
    assert torch.equal(vectors, zoo(dtype=torch.float64))
    assert torch.equal(x, kept)


def test_columns_are_the_same_for_some_coordinates():
    normaliser = Normaliser.fit(zoo(), positive())
    part = slice(3, 8)
    assert torch.equal(
        normaliser.columns(part).normalise(zoo()[:, part]), normaliser.normalise(zoo())[:, part]
    )


def test_state_round_trip():
    normaliser = Normaliser.fit(zoo(), positive())
    again = Normaliser.from_state(normaliser.state_dict())
    assert torch.equal(again.normalise(zoo()), normaliser.normalise(zoo()))
    assert again.constant.dtype == torch.bool


def test_vectors_are_left_as_they_are():
    """Float64 vectors need no conversion, so whatever is done in place would be done to them."""
    v = torch.rand(5, 9, dtype=torch.float64) + 1
    before = v.clone()
    for positive in (torch.zeros(9, dtype=torch.bool), torch.arange(9) > 5):
        normaliser = Normaliser.fit(v, positive)
        x = normaliser.normalise(v, torch.float64)
        kept = x.clone()
        normaliser.denormalise(x, torch.float64)
        assert torch.equal(v, before) and torch.equal(x, kept)
