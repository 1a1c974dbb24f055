from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import toy_zoos
from paramdiff.errors import ConfigError
from paramdiff.generators import make
from paramdiff.generators.context import FitContext
from paramdiff.generators.vae import ScaledNormal, VariationalAutoencoder, twice_divergence
from toy_zoos import curve, toy_zoo


def quick(**settings: Any) -> VariationalAutoencoder:
    made = toy_zoos.quick("vae", **settings)
    assert isinstance(made, VariationalAutoencoder)
    return made


def gaussian(k: int, dim: int, directions: int) -> Tensor:
    """Members of a Gaussian with that many directions."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(k, directions, generator=draw) @ torch.randn(directions, dim, generator=draw)


def test_the_divergence_is_that_of_two_gaussians():
    mean, log_variance = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).unbind()
    theirs = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(twice_divergence(mean, log_variance), 2 * theirs, atol=1e-5)
    assert twice_divergence(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


def test_the_prior_is_a_standard_normal_whatever_the_latents_are():
    prior = ScaledNormal(lambda: 8, lambda: 1.0)
    prior.fit(7 * torch.ones(3, 8), torch.ones(0, 8), None)
    z = prior.sample(range(2000), 0)
    assert torch.allclose(z.mean(0), torch.zeros(8), atol=0.1)
    assert torch.allclose(torch.cov(z.T), torch.eye(8), atol=0.15)
    fitted = quick().fit(toy_zoo(curve(14, 33)))
    assert torch.equal(fitted._decode(z[:3]), fitted.codec.decode(z[:3])), "not standardised"


LINEAR: dict[str, Any] = {
    "architecture": "fc", "latent": 3, "norm": "none", "lr": 0.01, "steps": 1000, "batch": 100, "early_stop": False,
}  # fmt: skip
ALL_FITTED = {"held_out": 0.0}


@pytest.mark.parametrize("beta", [0.1, 2.0, 4.0])
def test_it_draws_what_theory_says_from_a_gaussian_zoo(beta: float):
    """Variance lambda - beta along each principal component, or none, in normalised coordinates."""
    vectors = gaussian(200, 8, directions=2)
    generator = quick(beta=beta, autoencoder=LINEAR, reconstruction_check=ALL_FITTED).fit(toy_zoo(vectors))
    assert generator.normaliser is not None
    x = generator.normaliser.normalise(vectors)
    expected = (torch.linalg.eigvalsh(torch.cov(x.T)).flip(0) - beta).clamp(min=0)[:2]
    seen = torch.linalg.eigvalsh(torch.cov(generator._sample(range(2000), 0, FitContext()).T)).flip(0)
    assert torch.allclose(seen[:2], expected, atol=0.35)
    assert float(seen[2:].sum()) < 0.05


def test_a_large_beta_gives_the_average():
    vectors = gaussian(100, 12, directions=2)
    short = {**LINEAR, "steps": 200}
    samples = (
        quick(beta=50.0, autoencoder=short, reconstruction_check=ALL_FITTED).fit(toy_zoo(vectors)).sample(20)
    )
    assert float(samples.var(0).sum()) < 0.02 * float(vectors.var(0).sum())


def test_latents_are_means_and_encoding_them_adds_no_noise():
    generator = quick().fit(toy_zoo(curve(14, 33)))
    z = generator.encode(curve(14, 33))
    assert z.shape == (14, 8) and torch.equal(z, generator.encode(curve(14, 33)))
    assert generator.notes["reconstruction_check"]["held_out"] == 2 and "denoising" not in generator.notes


def test_temperature_scales_the_drawn_latents():
    generator = quick().fit(toy_zoo(curve(14, 33)))
    assert generator.temperature == 1
    generator.temperature = 0.25
    z = generator.prior.sample(range(3), 5)
    assert torch.allclose(z, ScaledNormal(lambda: 8, lambda: 0.25).sample(range(3), 5))
    assert generator.normaliser is not None
    decoded = generator.normaliser.denormalise(generator.codec.decode(z))
    assert torch.allclose(generator.sample(3, 5), decoded, atol=1e-6)


def test_large_codes_do_not_overflow():
    generator = quick(autoencoder={"lr": 0.1, "steps": 60}).fit(toy_zoo(curve(20, 33)))
    assert generator.sample(2).isfinite().all()


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="beta: -1 is out of range; expected at least 0"):
        make("vae", beta=-1)
    with pytest.raises(ConfigError, match="autoencoder.latent_noise: PlainAutoencoder has no such setting"):
        make("vae", autoencoder={"latent_noise": 0.1})
