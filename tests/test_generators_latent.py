"""What a generator with latents shows of them: encoded vectors, and its way from noise to a sample."""

from typing import Any

import pytest
import torch

from paramdiff.errors import GeneratorError
from paramdiff.generators import make
from paramdiff.generators.latent import LatentGenerator
from toy_zoos import curve, quick, toy_zoo


def fitted(name: str, **settings: Any) -> LatentGenerator:
    generator = quick(name, **settings).fit(toy_zoo(curve(14, 33)))
    assert isinstance(generator, LatentGenerator)
    return generator


@pytest.mark.parametrize("name", ["p-diff", "p-diff-linear"])
def test_latents_of_the_members_are_standardised(name: str):
    z = fitted(name, reconstruction_check={"held_out": 0.0}).encode(curve(14, 33))
    assert torch.allclose(z.mean(0), torch.zeros(z.shape[1]), atol=1e-4)
    deviation = z.std(0, correction=0)
    assert torch.allclose(deviation[deviation > 0.5], torch.ones(int((deviation > 0.5).sum())), atol=1e-3)


def test_linear_latents_are_what_a_sample_was_decoded_from():
    generator = fitted("p-diff-linear")
    z = generator.prior.sample(range(4), 3) * generator.contraction
    assert torch.allclose(generator.encode(generator.sample(4, 3)), z, atol=1e-2)


@pytest.mark.parametrize("settings", [{}, {"scheduler": "ddpm"}, {"process": "flow"}], ids=str)
def test_a_path_ends_in_the_samples_and_begins_in_noise(settings: dict[str, Any]):
    generator = fitted("p-diff-linear", contraction=0.5, diffusion=settings)
    path = generator.path(3, seed=2)
    assert path.shape[1:] == (3, 33) and 2 < len(path) <= 11
    assert torch.allclose(path[-1], generator.sample(3, seed=2), atol=1e-5)
    noise = generator.prior.path(range(3), 2)[0]
    assert torch.allclose(generator.encode(path[0]), 0.5 * noise, atol=1e-2), "the first point is noise"


def test_a_path_has_as_many_points_as_wanted_or_as_there_are_steps():
    generator = fitted("p-diff-linear", diffusion={"sample_steps": 6})
    assert [len(generator.path(2, points=points)) for points in (2, 4, 50)] == [2, 4, 7]
    ends = generator.path(2, points=2)
    assert torch.equal(ends, generator.path(2, points=50)[[0, -1]])


def test_nothing_is_shown_before_the_fit():
    for call in (lambda g: g.encode(curve(2, 33)), lambda g: g.path(2)):
        with pytest.raises(GeneratorError, match=r"p-diff is not fitted.*call fit\(zoo\) first"):
            call(make("p-diff"))
