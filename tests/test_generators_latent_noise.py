from typing import Any

import pytest
import torch

from paramdiff.errors import ConfigError
from paramdiff.generators import make
from paramdiff.generators.context import FitContext
from paramdiff.generators.latent_noise import LatentNoise
from toy_zoos import curve, quick, toy_zoo


def fitted(**settings: Any) -> LatentNoise:
    made = quick("latent-noise", **settings).fit(toy_zoo(curve(14, 33)))
    assert isinstance(made, LatentNoise)
    return made


def test_without_noise_samples_are_reconstructed_members():
    generator = fitted(amplitude=0.0, reconstruction_check={"held_out": 0.0})
    assert generator.normaliser is not None
    x = generator.normaliser.normalise(curve(14, 33))
    rebuilt = generator.codec.decode(generator.codec.encode(x))
    apart = torch.cdist(generator._sample(range(40), 0, FitContext()), rebuilt)
    assert float(apart.min(1).values.max()) < 1e-2
    assert len(apart.argmin(1).unique()) > 8, "random members"


@pytest.mark.parametrize("amplitude", [0.1, 1.0])
def test_noise_is_measured_in_deviations_of_the_latents(amplitude: float):
    generator = fitted(reconstruction_check={"held_out": 0.0})
    generator.amplitude = amplitude  # when sampling
    z = generator.prior.sample(range(3000), 0)
    assert torch.allclose(z.var(0), torch.full((8,), 1 + amplitude**2), rtol=0.1)
    generator.amplitude = 0.0
    noise = z - generator.prior.sample(range(3000), 0)
    assert torch.allclose(noise.std(0), torch.full((8,), amplitude), rtol=0.1)


def test_the_label_and_the_checks_name_the_amplitude():
    assert fitted().label == "latent-noise-0.1" and fitted().contraction == 1
    with pytest.raises(ConfigError, match="amplitude: -1 is out of range; expected at least 0"):
        make("latent-noise", amplitude=-1)
