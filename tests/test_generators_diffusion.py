from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from paramdiff.errors import ConfigError
from paramdiff.generators.diffusion import Diffusion, LatentDiffusion

QUICK = Diffusion(steps=300, width=64)


def fitted(z: Tensor, **settings: object) -> LatentDiffusion:
    prior = LatentDiffusion(replace(QUICK, **settings), device="cpu")  # type: ignore[arg-type]
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
        {"prediction": "x0"},
        {"process": "flow"},
        {"process": "flow", "prediction": "velocity", "scheduler": "euler", "sample_steps": 50},
        {"denoiser": "conv", "width": 32},
        {"scheduler": "ddpm", "sample_steps": 50},
    ],
)
def test_it_learns_two_clusters(settings: dict[str, object]):
    samples = fitted(two_clusters(), **settings).sample(range(100), seed=0)
    side = samples.mean(1).sign()
    assert 25 < int((side > 0).sum()) < 75
    assert float((samples.abs() - 1).abs().median()) < 0.2


@pytest.mark.parametrize("process", ["ddpm", "flow"])
@pytest.mark.parametrize("timesteps", [10, 100, 1000, 2000])
def test_any_number_of_time_steps_gives_the_two_clusters(timesteps: int, process: str):
    prior = fitted(two_clusters(), timesteps=timesteps, process=process, steps=200)
    samples = prior.sample(range(100), seed=0)
    assert abs(float(samples.mean())) < 0.4
    assert float((samples.abs() - 1).abs().median()) < 0.35


class Ones(nn.Module):
    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.ones_like(z)


@pytest.mark.parametrize(("process", "prediction"), [("ddpm", "eps"), ("flow", "velocity")])
def test_an_untrained_network_predicts_what_is_right_for_a_standard_normal(process: str, prediction: str):
    """Regression of ``eps`` or ``eps - z`` on ``z_t``, over many draws; what is left has unit size."""
    prior = LatentDiffusion(
        replace(QUICK, process=process, prediction=prediction, timesteps=10), device="cpu"
    )
    prior.latent = 1
    net = prior._build()
    z, eps = torch.randn(2, 20_000, 1, generator=torch.Generator().manual_seed(0)).unbind()
    target = eps if prediction == "eps" else eps - z
    for step in range(10):
        t = torch.full((20_000,), step)
        noisy = prior.signal[step] * z + prior.noise[step] * eps
        slope = (noisy * target).mean() / noisy.square().mean()
        assert torch.allclose(prior.predict(net, noisy, t), slope * noisy, atol=0.1)
        left = (target - slope * noisy).square().mean().sqrt()
        gain = prior.predict(Ones(), torch.zeros(1, 1), t[:1])
        assert float(gain) == pytest.approx(float(left), abs=0.03)


def spread(n: int, size: int, seed: int) -> Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("settings", [{}, {"prediction": "eps"}, {"process": "flow"}])
def test_a_denoiser_that_knows_its_members_by_heart_has_a_gap(settings: dict[str, object]):
    few, many = spread(4, 6, seed=0), spread(400, 6, seed=1)
    gaps = {}
    for members in (few, many):
        prior = fitted(members, steps=250, early_stop=False, ema=0.9, **settings)
        seen = prior.findings(members, spread(30, 6, seed=2))["denoising"]
        assert seen["gap"] == pytest.approx(seen["held_out"] / seen["members"])
        assert prior.findings(members, members)["denoising"]["gap"] == 1
        gaps[len(members)] = seen["gap"]
    assert gaps[4] > 2
    assert 0.8 < gaps[400] < 1.3


def test_without_held_out_members_there_is_no_gap():
    z = two_clusters()
    found = fitted(z, steps=5).findings(z, z[:0])["denoising"]
    assert found["held_out"] is None and found["gap"] is None and found["members"] > 0
    assert all(value is None or type(value) is float for value in found.values())


def test_the_noise_of_a_sample_is_its_own():
    prior = fitted(two_clusters(), steps=5, scheduler="ddpm", sample_steps=10)
    assert torch.allclose(prior.sample(range(20), 3)[7:9], prior.sample([7, 8], 3), atol=1e-5)


def test_held_out_latents_end_the_training():
    z = two_clusters()
    prior = LatentDiffusion(replace(QUICK, steps=5000), device="cpu")
    prior.fit(z, torch.randn(8, 3, generator=torch.Generator().manual_seed(1)))
    assert 300 < len(prior.losses) < 5000 and len(prior.losses) % 100 == 0


def test_settings_are_checked():
    for wrong, text in [
        ({"scheduler": "euler2"}, "scheduler: 'euler2' is not known; expected one of auto, dpm-solver"),
        ({"prediction": "v"}, "prediction: 'v' is not known; expected one of residual, x0, eps, velocity"),
        ({"process": "sde"}, "process: 'sde' is not known; expected one of ddpm, flow"),
        ({"denoiser": "unet"}, "denoiser: 'unet' is not known; expected one of mlp, conv"),
        ({"timesteps": 1}, "timesteps: 1 is out of range; expected at least 2"),
        ({"ema": 1.0}, "ema: 1.0 is out of range"),
    ]:
        with pytest.raises(ConfigError, match=text):
            replace(QUICK, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"process": "flow", "prediction": "eps"},
            "prediction: 'eps' does not go with process=flow; "
            "expected one of residual, x0, velocity; or set process=ddpm",
        ),
        (
            {"prediction": "velocity"},
            "prediction: 'velocity' does not go with process=ddpm; "
            "expected one of residual, x0, eps; or set process=flow",
        ),
        (
            {"process": "flow", "scheduler": "ddim"},
            "scheduler: 'ddim' does not go with process=flow; expected one of auto, heun, euler; or set process=ddpm",
        ),
        (
            {"scheduler": "heun"},
            "scheduler: 'heun' does not go with process=ddpm; "
            "expected one of auto, dpm-solver++, ddim, ddpm; or set process=flow",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, str], text: str):
    with pytest.raises(ConfigError) as caught:
        replace(QUICK, **settings)  # type: ignore[arg-type]
    assert str(caught.value) == text


def test_auto_is_the_best_scheduler_of_a_process():
    samplers = [replace(QUICK, process=process).sampler for process in ("ddpm", "flow")]
    assert samplers == ["dpm-solver++", "heun"]
    assert replace(QUICK, scheduler="ddim").sampler == "ddim"
