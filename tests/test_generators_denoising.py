import pytest
import torch
from torch import Tensor

from paramdiff.errors import NumericalError
from paramdiff.generators.denoising import BETAS, SCHEDULERS, Denoise, alpha_bar, betas, reverse
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
    denoise: Denoise, n: int, size: int, scheduler: str, sample_steps: int, prediction: str = "x0",
    timesteps: int = 1000,
) -> Tensor:  # fmt: skip
    return reverse(
        denoise, sample_normal(range(n), size, "z"), sample_generators(range(n), "r"), scheduler=scheduler,
        prediction=prediction, timesteps=timesteps, sample_steps=sample_steps,
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
    assert torch.allclose(torch.tensor(betas(1000)), torch.linspace(*BETAS, 1000), atol=1e-8)


@pytest.mark.parametrize("timesteps", [2, 7, 10, 100, 1000, 2000])
def test_every_number_of_steps_ends_at_noise(timesteps: int):
    """Noise levels are among, or between, those of 1,000 steps."""
    levels, all_levels = alpha_bar(timesteps), alpha_bar(1000)
    assert levels[-1] == all_levels[-1]
    assert bool((levels.diff() < 0).all()) and all(0 < beta < 1 for beta in betas(timesteps))
    assert torch.allclose((1 - torch.tensor(betas(timesteps)).double()).cumprod(0).float(), levels, rtol=1e-3)
    if 1000 % timesteps == 0:
        assert torch.equal(levels, all_levels[1000 // timesteps - 1 :: 1000 // timesteps])
    else:
        assert timesteps == 7 or torch.allclose(levels[1::2], all_levels, rtol=1e-6)


@pytest.mark.parametrize(("timesteps", "tolerance"), [(10, 0.2), (100, 0.1), (1000, 0.1), (2000, 0.1)])
def test_a_gaussian_comes_out_for_every_number_of_steps(timesteps: int, tolerance: float):
    """Ten steps lose some variance; with the paper's betas as they are they would miss the mean by 0.9."""
    z = run(gaussian_denoiser("x0", timesteps), 4000, 3, "dpm-solver++", 20, timesteps=timesteps)
    assert torch.allclose(z.mean(0), MEAN, atol=0.1)
    assert float((torch.cov(z.T) - COVARIANCE).norm() / COVARIANCE.norm()) < tolerance


def test_nothing_is_clipped():
    """Latents far outside [-1, 1] come out as they are."""
    for scheduler in SCHEDULERS:
        z = run(lambda z, t: torch.full_like(z, 7.0), 4, 2, scheduler, 10)
        assert torch.allclose(z, torch.full_like(z, 7.0), atol=0.05)


def test_nan_names_the_step_of_the_reverse_process():
    with pytest.raises(NumericalError, match=r"reverse diffusion, step 2 \(t = \d+\): NaN or Inf"):
        run(lambda z, t: z * (float("nan") if t[0] < 900 else 1), 2, 2, "ddim", 10)
