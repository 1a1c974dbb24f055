from dataclasses import replace

import pytest
import torch
from torch import Tensor

from paramdiff.errors import ConfigError, NumericalError
from paramdiff.generators.diffusion import Denoise, DiffusionSettings, LatentDiffusion, alpha_bar, reverse
from paramdiff.seeds import sample_generators, sample_normal

MEAN = torch.tensor([0.5, -1.0, 0.2])
MIX = torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.6, 0.2], [0.1, 0.0, 0.3]])
COVARIANCE = MIX @ MIX.T


def gaussian_denoiser(prediction: str, timesteps: int):
    """For a Gaussian ``E[z | z_t] = m + sqrt(abar) S (abar S + (1 - abar) I)^-1 (z_t - sqrt(abar) m)``."""
    signals = alpha_bar(timesteps).double()

    def denoise(z: Tensor, t: Tensor) -> Tensor:
        signal = signals[t[0]]
        total = signal * COVARIANCE.double() + (1 - signal) * torch.eye(3)
        centred = z.double() - signal.sqrt() * MEAN
        if prediction == "x0":
            return (
                MEAN + signal.sqrt() * torch.linalg.solve(total, centred.T).T @ COVARIANCE.double()
            ).float()
        return ((1 - signal).sqrt() * torch.linalg.solve(total, centred.T).T).float()

    return denoise


def run(
    denoise: Denoise, n: int, size: int, scheduler: str, sample_steps: int, prediction: str = "x0"
) -> Tensor:
    return reverse(
        denoise, sample_normal(range(n), size, "z"), sample_generators(range(n), "r"), scheduler=scheduler,
        prediction=prediction, timesteps=1000, sample_steps=sample_steps,
    )  # fmt: skip


@pytest.mark.parametrize("prediction", ["eps", "x0"])
@pytest.mark.parametrize(("scheduler", "sample_steps"), [("ddpm", 200), ("ddim", 100), ("dpm-solver++", 20)])
def test_sampling_a_gaussian_with_its_analytic_denoiser(scheduler: str, sample_steps: int, prediction: str):
    z = run(gaussian_denoiser(prediction, 1000), 1500, 3, scheduler, sample_steps, prediction)
    assert torch.allclose(z.mean(0), MEAN, atol=0.1)
    assert float((torch.cov(z.T) - COVARIANCE).norm() / COVARIANCE.norm()) < 0.1


def test_alpha_bar_is_that_of_the_schedulers():
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=2e-2).alphas_cumprod
    assert torch.allclose(alpha_bar(1000), theirs, rtol=1e-4)
    assert float(alpha_bar(1000)[-1]) == pytest.approx(4.0e-5, rel=0.02)


def test_nothing_is_clipped():
    """Latents far outside [-1, 1] come out as they are."""
    for scheduler in ("ddpm", "ddim", "dpm-solver++"):
        z = run(lambda z, t: torch.full_like(z, 7.0), 4, 2, scheduler, 10)
        assert torch.allclose(z, torch.full_like(z, 7.0), atol=0.05)


def test_nan_names_the_step_of_the_reverse_process():
    with pytest.raises(NumericalError, match=r"reverse diffusion, step 2 \(t = \d+\): NaN or Inf"):
        run(lambda z, t: z * (float("nan") if t[0] < 900 else 1), 2, 2, "ddim", 10)


QUICK = DiffusionSettings(steps=600, width=64, device="cpu")


def fitted(z: Tensor, **settings: object) -> LatentDiffusion:
    prior = LatentDiffusion(replace(QUICK, **settings))  # type: ignore[arg-type]
    prior.fit(z, z[:0])
    return prior


def two_clusters() -> Tensor:
    z = 0.05 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    z[::2] += 1
    z[1::2] -= 1
    return z


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prediction": "eps"},
        {"denoiser": "conv", "width": 32},
        {"scheduler": "ddpm", "sample_steps": 50},
    ],
)
def test_it_learns_two_clusters(settings: dict[str, object]):
    samples = fitted(two_clusters(), **settings).sample(range(100), seed=0)
    side = samples.mean(1).sign()
    assert 25 < int((side > 0).sum()) < 75
    assert float((samples.abs() - 1).abs().median()) < 0.2


def test_few_time_steps_work():
    assert (
        fitted(two_clusters(), timesteps=10, steps=20, sample_steps=20).sample(range(5), 0).isfinite().all()
    )


def test_the_noise_of_a_sample_is_its_own():
    prior = fitted(two_clusters(), steps=5, scheduler="ddpm", sample_steps=10)
    assert torch.allclose(prior.sample(range(20), 3)[7:9], prior.sample([7, 8], 3), atol=1e-5)


def test_held_out_latents_end_the_training():
    z = two_clusters()
    prior = LatentDiffusion(replace(QUICK, steps=5000))
    prior.fit(z, torch.randn(8, 3, generator=torch.Generator().manual_seed(1)))
    assert 300 < len(prior.losses) < 5000 and len(prior.losses) % 100 == 0


def test_settings_are_checked():
    for wrong, text in [
        ({"scheduler": "euler"}, "scheduler: 'euler' is not known; expected one of ddpm, ddim, dpm-solver"),
        ({"prediction": "v"}, "prediction: 'v' is not known; expected one of eps, x0"),
        ({"denoiser": "unet"}, "denoiser: 'unet' is not known; expected one of mlp, conv"),
        ({"timesteps": 1}, "timesteps: 1 is out of range; expected at least 2"),
        ({"ema": 1.0}, "ema: 1.0 is out of range"),
        ({"seed": -1}, "seed: -1 is out of range"),
    ]:
        with pytest.raises(ConfigError, match=text):
            replace(QUICK, **wrong)  # type: ignore[arg-type]
