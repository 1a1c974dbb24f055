import pytest
import torch
from torch import Tensor

from paramdiff.errors import NumericalError
from paramdiff.generators.flow import follow, noise_levels, visited
from paramdiff.seeds import sample_normal

MEAN = torch.tensor([0.5, -1.0, 0.2])
MIX = torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.6, 0.2], [0.1, 0.0, 0.3]])
COVARIANCE = MIX @ MIX.T


def gaussian_velocity(timesteps: int):
    """For a Gaussian ``E[z | z_tau] = m + a S (a^2 S + tau^2 I)^-1 (z_tau - a m)`` with ``a = 1 - tau``."""
    levels = noise_levels(timesteps)

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        noise = levels[t[0]]
        signal = 1 - noise
        total = signal**2 * COVARIANCE + noise**2 * torch.eye(3)
        expected = MEAN + signal * torch.linalg.solve(total, (z - signal * MEAN).T).T @ COVARIANCE
        return (z - expected) / noise

    return velocity


def run(solver: str, timesteps: int, sample_steps: int) -> Tensor:
    noise = sample_normal(range(4000), 3, "z")
    return follow(
        gaussian_velocity(timesteps), noise, solver=solver, timesteps=timesteps, sample_steps=sample_steps
    )


@pytest.mark.parametrize("timesteps", [10, 100, 1000, 2000])
@pytest.mark.parametrize(("solver", "sample_steps"), [("heun", 20), ("euler", 100)])
def test_the_velocity_of_a_gaussian_leads_to_it(solver: str, sample_steps: int, timesteps: int):
    z = run(solver, timesteps, sample_steps)
    off = float((torch.cov(z.T) - COVARIANCE).norm() / COVARIANCE.norm())
    assert torch.allclose(z.mean(0), MEAN, atol=0.1)
    assert off < (0.3 if solver == "euler" and timesteps == 10 else 0.08)


def test_heun_is_better_than_euler_for_the_same_work():
    variances = [run(solver, 1000, 20).var(0).sum() / COVARIANCE.trace() for solver in ("heun", "euler")]
    assert float(variances[0]) == pytest.approx(0.98, abs=0.03)
    assert float(variances[1]) == pytest.approx(0.87, abs=0.03)


@pytest.mark.parametrize("solver", ["heun", "euler"])
@pytest.mark.parametrize(("timesteps", "sample_steps"), [(10, 3), (10, 50), (1000, 20), (7, 1), (2, 1)])
def test_noise_levels_are_learnt_ones_from_all_to_none(solver: str, timesteps: int, sample_steps: int):
    levels, asked = visited(solver, timesteps, sample_steps), []

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        asked.append(int(t[0]))
        return z

    trace: list[Tensor] = []
    z = follow(
        velocity, torch.ones(2, 3), solver=solver, timesteps=timesteps, sample_steps=sample_steps, trace=trace
    )
    assert levels[0] == timesteps and levels[-1] == 0 and bool((levels.diff() < 0).all())
    assert len(asked) <= sample_steps and set(asked) == {level - 1 for level in levels[:-1].tolist()}
    assert len(trace) == len(levels) and torch.equal(trace[-1], z) and torch.equal(trace[0], torch.ones(2, 3))


def test_a_constant_velocity_is_followed_to_the_end():
    for solver in ("heun", "euler"):
        z = follow(
            lambda z, t: torch.full_like(z, 3.0),
            torch.zeros(1, 1),
            solver=solver,
            timesteps=8,
            sample_steps=5,
        )
        assert float(z) == pytest.approx(-3)


def test_nan_names_the_step():
    def velocity(z: Tensor, t: Tensor) -> Tensor:
        return z * (float("nan") if t[0] < 8 else 1)

    with pytest.raises(NumericalError, match=r"flow, step 3 \(t = 8\): NaN or Inf"):
        follow(velocity, torch.ones(1, 1), solver="euler", timesteps=10, sample_steps=10)
