r"""p-diff on linear latents: the same diffusion, over coordinates along the zoo's principal components.

For any D it needs one K x K Gram matrix (:mod:`paramdiff.generators.principal_components`) where p-diff needs a
trained autoencoder.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from paramdiff.generators.diffusion import SAMPLING, Diffusion, LatentDiffusion
from paramdiff.generators.generator import register
from paramdiff.generators.latent import Codec, LatentGenerator, Prior
from paramdiff.generators.linear_autoencoder import LinearAutoencoder, LinearCodec


@register("p-diff-linear", "diffusion on linear latents, without an autoencoder")
@dataclass
class LinearParameterDiffusion(LatentGenerator):
    """p-diff with a linear autoencoder: diffusion over principal components.

    Attributes:
        autoencoder: how many components there are.
        diffusion: denoiser, its training, and sampling.
    """

    sampling: ClassVar[tuple[str, ...]] = (*LatentGenerator.sampling, *SAMPLING)

    autoencoder: LinearAutoencoder = field(default_factory=LinearAutoencoder)
    diffusion: Diffusion = field(default_factory=Diffusion)

    def _codec(self) -> Codec:
        return LinearCodec(self.autoencoder)

    def _prior(self) -> Prior:
        return LatentDiffusion(self.diffusion, self.seed, self.device)
