r"""Noise around members in latent space: ``z = z_k + amplitude * sigma * N(0, I)`` for a random member k, decoded.

The baseline of the paper's figure 3c, which asks whether diffusion does more than add noise to its training latents.
sigma is the deviation of each latent between members, so an amplitude means the same for every autoencoder;
the paper's is 0.1. Members are those that the autoencoder was fitted on. With equal settings the autoencoder has the
same bits as p-diff's, so both generators draw from one latent space.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from paramdiff.generators.autoencoder import Autoencoder, DenoisingCodec
from paramdiff.generators.autoencoder_kde import Kernels
from paramdiff.generators.generator import register
from paramdiff.generators.latent import Codec, LatentGenerator, Prior
from paramdiff.settings import FACTOR, Ranges


@register("latent-noise", "a random original's latent plus Gaussian noise, decoded")
@dataclass
class LatentNoise(LatentGenerator):
    """An encoded member with Gaussian noise.

    Attributes:
        autoencoder: architecture and training; its ``latent_noise`` is that of training.
        amplitude: deviation of the noise, in deviations of a latent between members.
    """

    sampling: ClassVar[tuple[str, ...]] = (*LatentGenerator.sampling, "amplitude")
    knob: ClassVar[str | None] = "amplitude"
    autoencoder: Autoencoder = field(default_factory=Autoencoder)
    amplitude: float = 0.1

    RANGES: ClassVar[Ranges] = {"amplitude": FACTOR}

    @property
    def label(self) -> str:
        return f"{self.name}-{self.amplitude:g}"

    def _codec(self) -> Codec:
        return DenoisingCodec(self.autoencoder, self.seed, self.device)

    def _prior(self) -> Prior:
        return Kernels(lambda k: self.amplitude, joint=True)
