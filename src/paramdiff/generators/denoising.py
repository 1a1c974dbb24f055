r"""Denoising: the diffusion process, the exact denoiser of a Gaussian, and how well members are denoised.

**The process** (Ho et al. 2020) has noise levels and a reverse process.
``z_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps`` with ``abar_t = prod (1 - beta_s)`` and, for T = 1,000, linear
betas 1e-4..2e-2 (the paper's). Any other T uses T of those 1,000 noise levels, evenly spaced (equation 19 of
Nichol & Dhariwal 2021) and interpolated between them, so that z_T is noise for every T. The paper's betas unchanged
would leave abar_T = 0.90 at T = 10, so z_T would not be noise, and sampling would start from the wrong distribution:
with the exact denoiser of a Gaussian with variance 1.6 the samples' mean is off by 0.9, and their variance is 50% too
large.

Few steps shrink the distribution: with T = 10 the exact denoiser loses 15% of the variance with ``dpm-solver++`` and
half of it with ``ddpm``. Sampling uses diffusers' schedulers, without clipping and with trailing time steps.

**The Gaussian** with the mean and covariance of the members' latents has an exact denoiser, which a network corrects.
For a Gaussian ``N(m, sum_i lambda_i b_i b_i^T)`` the denoiser is known. With ``z_t = a z + s eps`` and ``p_i =
b_i . (z_t - a m)``,

.. math:: E[z \mid z_t] = m + \sum_i \frac{a \lambda_i}{a^2 \lambda_i + s^2} p_i b_i, \qquad
          \mathrm{Var}_i = \frac{\lambda_i s^2}{a^2 \lambda_i + s^2}

so a network F, whose input ``p_i / sqrt(a^2 lambda_i + s^2)`` has unit variance, only has to learn the remaining part
of z, in units of this deviation:

.. math:: D(z_t) = E[z \mid z_t] + \sum_i \sqrt{\mathrm{Var}_i} \, F_i b_i

F = 0 is exact for every Gaussian at every noise level. Samples stay in the subspace spanned by the members; a network
that predicts noise has to learn this, because it must reproduce the noise of all directions outside. At low noise
F still has unit size, where a network that predicts z would have to reproduce its input to three digits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from paramdiff.devices import evenly_spaced
from paramdiff.errors import ConfigError, check_choice
from paramdiff.seeds import generator
from paramdiff.training import require_finite_steps

Denoise = Callable[[Tensor, Tensor], Tensor]
"""``(z_t [n, L], t [n]) -> prediction [n, L]``."""

STEPS, BETAS = 1000, (1e-4, 2e-2)
"""The paper's process."""

TYPES = {"eps": "epsilon", "x0": "sample"}
"""What diffusers calls predictions."""

SCHEDULERS = {"dpm-solver++": "DPMSolverMultistepScheduler", "ddim": "DDIMScheduler", "ddpm": "DDPMScheduler"}
"""Classes of diffusers."""

SAMPLERS = {"ddpm": tuple(SCHEDULERS), "flow": ("heun", "euler")}
"""Ways to sample from each process; ``auto`` takes the first."""

TARGETS = {"x0": (1, 0), "eps": (0, 1), "velocity": (-1, 1)}
"""``(c, d)`` of what is predicted, ``c z + d eps``."""

PREDICTIONS = {"ddpm": ("residual", "x0", "eps"), "flow": ("residual", "x0", "velocity")}
"""``eps`` says nothing about the latent where a flow starts, at ``a_T = 0``."""

RESIDUAL = {"ddpm": "eps", "flow": "velocity"}
"""The prediction that ``residual`` corrects."""

NEGLIGIBLE = 1e-8
"""Fraction of the largest variance below which a direction counts as rounding error."""

JUDGED, DRAWS = 256, 32
"""How many latents' denoising losses are compared at most, and how many draws of time and noise each gets."""


@dataclass(frozen=True)
class Turn:
    """A switch to another denoiser, at some level of noise.

    Attributes:
        level: the first time step, counted from noise, that uses the other denoiser.
        move: ``(z_t, t) -> z_t``, applied once at the switch.
        denoise: the other denoiser, ``(z_t, t) -> prediction``.
    """

    level: int
    move: Callable[[Tensor, Tensor], Tensor]
    denoise: Callable[[Tensor, Tensor], Tensor]


def require_fitting(
    key: str, value: str, process: str, fitting: Mapping[str, Sequence[str]], *also: str
) -> None:
    """Raise :class:`ConfigError` for a value that does not exist, or that does not go with the process."""
    known = [*also, *(name for names in fitting.values() for name in names)]
    check_choice(key, value, dict.fromkeys(known))
    if value not in fitting[process]:
        others = [other for other in fitting if value in fitting[other]]
        raise ConfigError(key, f"{value!r} does not go with process={process}",
                          expected=f"one of {', '.join([*also, *fitting[process]])}",
                          remedy=f"or set process={others[0]}")  # fmt: skip


def alpha_bar(timesteps: int) -> Float[Tensor, "T"]:
    """``abar_t`` for t = 0..T-1."""
    return _levels(timesteps)[1:].float()


def _levels(timesteps: int) -> Float64[Tensor, "levels"]:
    """``abar`` without noise, and at T noise levels."""
    kept = (1 - torch.linspace(*BETAS, STEPS, dtype=torch.float64)).cumprod(0)
    kept = torch.cat([torch.ones_like(kept[:1]), kept])
    place = torch.arange(timesteps + 1, dtype=torch.float64) * STEPS / timesteps
    below = place.long().clamp(max=STEPS - 1)
    return torch.lerp(kept[below], kept[below + 1], place - below)


def betas(timesteps: int) -> list[float]:
    """``beta_t`` for t = 0..T-1."""
    levels = _levels(timesteps)
    return (1 - levels[1:] / levels[:-1]).tolist()


def scheduler_class(name: str) -> type:
    """The class in diffusers, which takes a second or two to import."""
    import diffusers

    return getattr(diffusers, SCHEDULERS[name])


def _process(scheduler: str, prediction: str, timesteps: int, sample_steps: int) -> Any:
    """One of diffusers' schedulers, before its first step; that may be any of its steps."""
    own = {} if scheduler == "dpm-solver++" else {"clip_sample": False}  # that one never clips
    process = scheduler_class(scheduler)(
        num_train_timesteps=timesteps, trained_betas=betas(timesteps), prediction_type=TYPES[prediction],
        timestep_spacing="trailing", **own,
    )  # fmt: skip
    process.set_timesteps(min(sample_steps, timesteps))
    return process


def reverse(
    denoise: Denoise, z: Float[Tensor, "n L"], generators: list[torch.Generator], *, scheduler: str,
    prediction: str, timesteps: int, sample_steps: int, trace: list[Tensor] | None = None,
    turn: Turn | None = None,
) -> Float[Tensor, "n L"]:  # fmt: skip
    """The reverse process from noise ``z`` at t = T.

    Args:
        denoise: predicts ``eps`` or ``x0``, see ``prediction``.
        z: standard normal.
        generators: one per sample, for the noise that ``ddpm`` adds in every step.
        trace: is filled with the latents before every step and after the last one.
        turn: a switch to another denoiser at some noise level, at the last step at the latest; a multi-step scheduler
            starts anew there.

    Raises:
        NumericalError: NaN or Inf in some step, the first of which is named when all are done.
    """
    process = _process(scheduler, prediction, timesteps, sample_steps)
    if trace is not None:
        trace.append(z)
    times, finite = process.timesteps.tolist(), []
    for t in times:
        at = torch.full((len(z),), t, device=z.device)
        if turn is not None and (t <= turn.level or t == times[-1]):
            z, denoise, turn = turn.move(z, at), turn.denoise, None
            process = _process(scheduler, prediction, timesteps, sample_steps)
        predicted = denoise(z, at)
        z = process.step(predicted, t, z, generator=generators).prev_sample
        finite.append(z.isfinite().all())
        if trace is not None:
            trace.append(z)
    require_finite_steps(finite, lambda step: f"reverse diffusion, step {step + 1} (t = {times[step]})")
    return z


def scale_of(z: Float[Tensor, "K L"]) -> float:
    """The deviation of latents along the directions that carry them: ``sqrt(sum lambda^2 / sum lambda)``.

    1 for a unit covariance, and not less for latents that fill a thin subspace. 0 if all are equal.
    """
    covariance = (z - z.mean(0)).T.double() @ (z - z.mean(0)).double() / len(z)
    total = float(covariance.trace())
    return (float(covariance.square().sum()) / total) ** 0.5 if total > 0 else 0.0


class LatentGaussian:
    """A Gaussian over latents, and the denoiser that a network's output corrects.

    Attributes:
        mean: m, [L].
        basis: b, [r, L], orthonormal.
        variances: lambda, [r].
    """

    def __init__(
        self, mean: Float[Tensor, "L"], basis: Float[Tensor, "r L"], variances: Float[Tensor, "r"]
    ) -> None:
        self.mean, self.basis, self.variances = mean, basis, variances

    @classmethod
    def fit(cls, z: Float[Tensor, "K L"]) -> Self:
        """Members that are all equal have one direction, without variance."""
        mean = z.double().mean(0)
        centred = z.double() - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(z))
        kept = values > NEGLIGIBLE * values[-1]
        kept[-1] = True
        return cls(mean.float(), vectors.T[kept].float(), values[kept].clamp(min=0).float())

    def to(self, device: torch.device) -> Self:
        return type(self)(self.mean.to(device), self.basis.to(device), self.variances.to(device))

    def enter(
        self, z: Float[Tensor, "n L"], signal: Float[Tensor, "n 1"], noise: Float[Tensor, "n 1"]
    ) -> Float[Tensor, "n r"]:
        """What F is given: coordinates of ``z_t`` with unit variance."""
        return ((z - signal * self.mean) @ self.basis.T) / self._size(signal, noise)

    def expected(
        self, entered: Float[Tensor, "n r"], out: Float[Tensor, "n r"], signal: Float[Tensor, "n 1"],
        noise: Float[Tensor, "n 1"],
    ) -> Float[Tensor, "n L"]:  # fmt: skip
        """``D(z_t)``, from what F was given and its output."""
        size = self._size(signal, noise)
        left = self.variances.sqrt() * noise / size
        return self.mean + (signal * self.variances / size * entered + left * out) @ self.basis

    def _size(self, signal: Float[Tensor, "n 1"], noise: Float[Tensor, "n 1"]) -> Float[Tensor, "n r"]:
        return (signal.square() * self.variances + noise.square()).sqrt()

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "basis": self.basis, "variances": self.variances}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["mean"], state["basis"], state["variances"])


def denoising_gap(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor], z: Float[Tensor, "K L"], held: Float[Tensor, "H L"],
    timesteps: int, seed: int,
) -> dict[str, float | None]:  # fmt: skip
    """The denoising gap: the loss on held-out members divided by that on fitted ones. It is near 1 if the denoiser
    has learnt what members have in common, and large if it has memorised the fitted ones.

    Both losses use the same times and noise, and are geometric means over times. An arithmetic mean would be
    dominated by high noise, where nothing is known about a latent and the loss is its squared norm: with linear
    latents of the reference zoo that gap is 1.16, and the norms' ratio 1.15, while at low noise the held-out loss
    is twice the fitted one. A ratio of geometric means also does not depend on the scale of what is predicted.

    There is no gap where no members were held out, nor where the reconstruction check failed: the codec cannot
    represent such members, so the loss on their latents would tell about the codec. For a trajectory the gap is
    optimistic: members are held out at random, and the fitted neighbours in time of a held-out member are
    nearly the same network. (Held-out latents also decide when to stop training, which matters little beside
    that.)

    Args:
        loss: of latents, at times, with noise.
        timesteps: T.
    """
    members = _mean_loss(loss, z, timesteps, seed)
    unseen = _mean_loss(loss, held, timesteps, seed) if len(held) else None
    gap = None if unseen is None or members == 0 else unseen / members
    return {"members": members, "held_out": unseen, "gap": gap}


@torch.no_grad()
def _mean_loss(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor], z: Float[Tensor, "K L"], timesteps: int, seed: int
) -> float:
    """The loss on latents, as a geometric mean over evenly spaced times."""
    z = z[evenly_spaced(len(z), JUDGED)]
    noise = torch.randn(DRAWS, z.shape[1], generator=generator("denoising", seed))
    times = (torch.arange(DRAWS) + 0.5) * timesteps / DRAWS
    losses = [loss(z, t.expand(len(z)), eps.expand_as(z)) for t, eps in zip(times.long(), noise, strict=True)]
    return torch.stack(losses).double().log().mean().exp().item()
