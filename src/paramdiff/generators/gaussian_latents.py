r"""A Gaussian on linear latents: p-diff on linear latents without the diffusion.

``x = o + scale z R`` with ``z ~ N(0, I)``. As fitted it is the low-rank Gaussian of the zoo (Zeng et al., arXiv
2506.07998, use that one as a baseline), whose samples do not work where the members are independent trainings: much of
the accuracy is lost between them, aligned or not. Trained through the loss of its samples
(:mod:`paramdiff.generators.behaviour`) they do. What p-diff on linear latents has beyond that is due to the diffusion;
and begun at one member, or at an untrained network (``behaviour.start``), it shows what the zoo is worth.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from paramdiff.generators.generator import register
from paramdiff.generators.latent import Codec, LatentGenerator, Prior
from paramdiff.generators.linear_autoencoder import LinearAutoencoder, LinearCodec
from paramdiff.generators.vae import ScaledNormal
from paramdiff.settings import FACTOR, Ranges


@register(
    "gaussian-latents", "a normal distribution on linear latents, which can be trained through its samples"
)
@dataclass
class GaussianLatents(LatentGenerator):
    """A Gaussian on linear latents.

    Attributes:
        autoencoder: how many directions there are.
        scale: multiplies the deviation, while it is trained and in sampling. Less than 1 gives better networks that
            are closer to each other.
    """

    autoencoder: LinearAutoencoder = field(default_factory=lambda: LinearAutoencoder(components=128))
    scale: float = 1.0

    RANGES: ClassVar[Ranges] = {"scale": FACTOR}

    @property
    def label(self) -> str:
        own = self.behaviour
        return self.name if own.start == "zoo" or not own.steps else f"{self.name}-from-{own.start}"

    def _codec(self) -> Codec:
        return LinearCodec(self.autoencoder)

    def _prior(self) -> Prior:
        return ScaledNormal(lambda: len(self.latent_mean), lambda: self.scale)
