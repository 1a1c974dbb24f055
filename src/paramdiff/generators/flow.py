r"""Flow matching (Lipman et al. 2023; rectified flow, Liu et al. 2023): straight paths between noise and latents.

``z_tau = (1 - tau) z + tau eps`` with ``tau = t / T`` for t = 1..T. Sampling follows the velocity

.. math:: \frac{dz_\tau}{d\tau} = E[\epsilon - z \mid z_\tau] = \frac{z_\tau - E[z \mid z_\tau]}{\tau}

from noise at tau = 1 to tau = 0. The solvers are our own, because those of diffusers evaluate flows at noise levels
between the T that were trained. Euler's method shrinks the variance (with the exact velocity of a Gaussian, 20
evaluations lose 13% of it; Heun's method loses 2%), so Heun's method is the default.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paramdiff.generators.denoising import Turn
from paramdiff.training import require_finite_steps

Velocity = Callable[[Tensor, Tensor], Tensor]
"""``(z_tau [n, L], t [n]) -> velocity [n, L]``, with t = 0..T-1 for tau = 1/T..1, as in a diffusion."""


def noise_levels(timesteps: int) -> Float[Tensor, "T"]:
    """``tau`` for t = 0..T-1."""
    return torch.arange(1, timesteps + 1) / timesteps


def follow(
    velocity: Velocity, z: Float[Tensor, "n L"], *, solver: str, timesteps: int, sample_steps: int,
    trace: list[Tensor] | None = None, turn: Turn | None = None,
) -> Float[Tensor, "n L"]:  # fmt: skip
    """The latents that the velocity leads noise ``z`` to.

    Args:
        velocity: at the T noise levels.
        z: standard normal.
        solver: ``heun`` or ``euler``. Heun's method corrects every step but the last, where there is no noise.
        timesteps: T.
        sample_steps: evaluations of the velocity; the noise levels that are visited are evenly spaced.
        trace: is filled with the latents before every step and after the last one.
        turn: a switch to another velocity at some noise level, at the last step at the latest. Not at tau = 1, where
            z_tau does not depend on the latent.

    Raises:
        NumericalError: NaN or Inf in some step, the first of which is named when all are done.
    """

    def at(z: Tensor, level: int) -> Tensor:
        return velocity(z, torch.full((len(z),), level - 1, device=z.device))

    trace = [] if trace is None else trace
    trace.append(z)
    levels, finite = visited(solver, timesteps, sample_steps).tolist(), []
    for level, after in pairwise(levels):
        if turn is not None and level < timesteps and (level - 1 <= turn.level or after == 0):
            z = turn.move(z, torch.full((len(z),), level - 1, device=z.device))
            velocity, turn = turn.denoise, None
        slope, size = at(z, level), (after - level) / timesteps
        if solver == "heun" and after > 0:
            slope = (slope + at(z + size * slope, after)) / 2
        z = z + size * slope
        finite.append(z.isfinite().all())
        trace.append(z)
    require_finite_steps(finite, lambda step: f"flow, step {step + 1} (t = {levels[step]})")
    return z


def visited(solver: str, timesteps: int, sample_steps: int) -> Int[Tensor, "S"]:
    """Noise levels as multiples of 1/T, from T down to 0, that take at most ``sample_steps`` evaluations."""
    steps = min(timesteps, (sample_steps + 1) // 2 if solver == "heun" else sample_steps)
    return (torch.arange(steps, -1, -1) * timesteps / steps).round().long()
