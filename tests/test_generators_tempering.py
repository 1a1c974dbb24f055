"""Temperature and the Gaussian that a denoiser starts from, against denoisers that are known."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from paramdiff.generators.denoising import LatentGaussian, scale_of
from paramdiff.generators.diffusion import Diffusion, LatentDiffusion
from paramdiff.generators.tempering import Tempering, krylov

OWN = Diffusion(sample_steps=50)

VARIANCES = torch.tensor([20.0, 4.0, 1.0, 0.3, 0.1])
CENTRES = torch.tensor([[1.0, 0.0, 0.5], [-1.2, 0.4, 0.0], [0.2, -1.0, -1.0]])
WEIGHTS = torch.tensor([0.6, 0.3, 0.1])
WIDTH = 0.15


class Known(LatentDiffusion):
    """A prior whose denoiser is the true one."""

    def __init__(
        self, expected: Callable[[Tensor, Tensor, Tensor], Tensor], z: Tensor, **settings: object
    ) -> None:
        super().__init__(replace(OWN, **{"prediction": "x0", **settings}), device="cpu")  # type: ignore[arg-type]
        self.expected, self.latent, self.scale = expected, z.shape[1], scale_of(z)
        self.net = torch.nn.Identity()

    def predict(self, net: torch.nn.Module, z: Tensor, t: Tensor) -> Tensor:
        a, s = self.signal[t].unsqueeze(1), self.noise[t].unsqueeze(1)
        d = self.expected(z, a, s)
        return {"x0": d, "eps": (z - a * d) / s, "velocity": (z - d) / s}[self.settings.target]


def gaussian(z: Tensor, a: Tensor, s: Tensor) -> Tensor:
    return 0.3 + a * VARIANCES / (a**2 * VARIANCES + s**2) * (z - 0.3 * a)


def mixture(z: Tensor, a: Tensor, s: Tensor) -> Tensor:
    power = (a * WIDTH) ** 2 + s**2
    away = z[:, None] - a[:, None] * CENTRES
    chosen = (WEIGHTS.log() - away.square().sum(2) / (2 * power)).softmax(1)
    return (chosen[..., None] * (CENTRES + (a * WIDTH**2 / power)[..., None] * away)).sum(1)


def draws(n: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    which = torch.multinomial(WEIGHTS, n, replacement=True, generator=draw)
    near = CENTRES[which] + WIDTH * torch.randn(n, 3, generator=draw)
    return 0.3 + VARIANCES.sqrt() * torch.randn(n, 5, generator=draw), near


ALL, NEAR = draws(2000)


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"scheduler": "ddim"}, {"scheduler": "ddpm"}, {"prediction": "eps"},
        {"process": "flow", "prediction": "velocity"}, {"process": "flow", "scheduler": "euler"},
        {"temperature": 1.3},
    ],
    ids=str,
)  # fmt: skip
def test_a_gaussian_has_the_square_of_the_temperature_as_much_variance(settings):
    """Of any covariance, with any solver and prediction: exactly, beside what the solver itself loses."""
    prior = Known(gaussian, ALL, **{"temperature": 0.4, **settings})
    temperature = prior.settings.temperature
    changed = prior.sample(range(150), 0)
    prior.settings.temperature = 1.0
    as_learnt = prior.sample(range(150), 0)
    ratio = changed.var(0) / as_learnt.var(0)
    assert torch.allclose(ratio[:3], torch.full((3,), temperature**2), rtol=0.3)
    assert torch.allclose(changed.mean(0), torch.tensor(0.3), atol=0.35 * float(VARIANCES.max()) ** 0.5)


@pytest.mark.parametrize("settings", [{}, {"process": "flow"}], ids=str)
def test_few_steps_have_a_temperature_too(settings):
    prior = Known(gaussian, ALL, temperature=0.4, sample_steps=4, **settings)
    cold = prior.sample(range(100), 0)
    prior.settings.temperature = 1.0
    assert bool((cold.var(0) < 0.6 * prior.sample(range(100), 0).var(0))[:3].all())


@pytest.mark.parametrize("settings", [{}, {"process": "flow"}], ids=str)
def test_one_step_is_enough_for_finite_samples(settings):
    assert (
        Known(gaussian, ALL, temperature=0.4, sample_steps=1, **settings).sample(range(3), 0).isfinite().all()
    )


def modes(z: Tensor) -> tuple[Tensor, Tensor]:
    """The mode each sample is in, and its distance from the centre in widths."""
    nearest, which = torch.cdist(z, CENTRES).min(1)
    return which, nearest / WIDTH


@pytest.mark.parametrize(
    "settings", [{}, {"scheduler": "ddim", "prediction": "eps"}, {"process": "flow"}], ids=str
)
def test_modes_are_kept_and_get_narrower(settings):
    prior = Known(mixture, NEAR, **settings)
    before, far = modes(prior.sample(range(200), 0))
    prior.settings.temperature = 0.4
    after, near = modes(prior.sample(range(200), 0))
    assert float((before == after).double().mean()) > 0.97, "nearly every sample stays in its mode"
    assert float((near < 3.5).double().mean()) >= float((far < 3.5).double().mean()) > 0.98
    assert 0.1 < float(near.median() / far.median()) < 0.5


def test_temperature_one_changes_no_bit_and_zero_draws_centres():
    prior = Known(mixture, NEAR)
    whole = prior.sample(range(50), 0)
    prior.settings.temperature = 0.0
    assert float(modes(prior.sample(range(50), 0))[1].median()) < 0.05
    prior.settings.temperature = 1.0
    assert torch.equal(prior.sample(range(50), 0), whole)


def test_samples_of_a_temperature_are_their_own():
    prior = Known(gaussian, ALL, temperature=0.5, sample_steps=10)
    assert torch.allclose(prior.sample(range(20), 3)[7:9], prior.sample([7, 8], 3), atol=1e-4)
    assert torch.equal(prior.path([0, 1], 3)[-1], prior.sample([0, 1], 3))


def test_functions_of_a_symmetric_matrix_are_exact_in_its_krylov_space():
    matrix = torch.diag(torch.tensor([0.9, 0.9, 0.5, 0.1, 0.0])).double()
    start = torch.ones(1, 5).double() / math.sqrt(5)
    rows, within = krylov(lambda v: v @ matrix, start)
    values, vectors = torch.linalg.eigh(within)
    weights = vectors @ torch.diag_embed(values.exp()) @ vectors.mT
    assert torch.allclose(weights[:, :, 0] @ rows[0], start @ matrix.matrix_exp(), atol=1e-6)
    assert int((rows[0].norm(dim=1) > 0.5).sum()) == 4, "four different eigenvalues"


def test_between_modes_where_the_jacobian_exceeds_one_nothing_is_thrown_far():
    middle = CENTRES[:2].mean(0, keepdim=True)
    one = torch.ones(1, 1)
    cold = Tempering(lambda z, t: mixture(z, one, 0.3 * one), 0.4)
    at = torch.zeros(1, dtype=torch.long)
    for point in (cold.moved(middle, at), cold.expected(middle, at)):
        assert float((point - middle).norm()) < 3


# The Gaussian beside which a denoiser learns ----------------------------------------------------------


@pytest.mark.parametrize("process", ["ddpm", "flow"])
def test_an_untrained_denoiser_is_right_for_any_gaussian(process):
    """Also one that fills a subspace: its samples have the members' covariance, and stay in it."""
    draw = torch.Generator().manual_seed(1)
    z = torch.randn(400, 3, generator=draw) @ torch.randn(3, 12, generator=draw) + 1.0
    prior = LatentDiffusion(replace(OWN, process=process, steps=1, lr=1e-9))
    prior.fit(z, z[:0])
    samples = prior.sample(range(600), 0)
    expected = torch.cov(z.T)
    assert torch.allclose(torch.cov(samples.T), expected, atol=0.15 * float(expected.diagonal().max()))
    inside = LatentGaussian.fit(z).basis
    away = samples - samples.mean(0)
    assert float((away - away @ inside.T @ inside).norm() / away.norm()) < 1e-3


def test_what_is_left_of_members_that_are_all_equal():
    start = LatentGaussian.fit(torch.ones(4, 3))
    assert start.variances.tolist() == [0.0] and scale_of(torch.ones(4, 3)) == 0
    prior = LatentDiffusion(replace(OWN, steps=2, temperature=0.5))
    prior.fit(torch.ones(4, 3), torch.ones(0, 3))
    assert torch.allclose(prior.sample(range(3), 0), torch.ones(3, 3), atol=1e-4)


def test_a_saved_prior_goes_on_with_its_gaussian():
    z = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    prior, again = (LatentDiffusion(replace(OWN, steps=5, width=16, temperature=0.7)) for _ in range(2))
    prior.fit(z, z[:0])
    again.load_state_dict(prior.state_dict())
    assert torch.equal(again.sample(range(3), 0), prior.sample(range(3), 0))
