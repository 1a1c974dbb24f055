r"""p-diff on linear latents: the same diffusion, over coordinates along the zoo's principal components.

For any D it needs one K x K Gram matrix (:mod:`paramdiff.generators.principal_components`) where p-diff needs an
autoencoder.
"""

from dataclasses import dataclass
from typing import ClassVar

from paramdiff.generators.codec_linear import LinearCodec, LinearSettings
from paramdiff.generators.diffusion import DiffusionSettings, LatentDiffusion
from paramdiff.generators.latent import Codec, LatentGenerator, Prior


@dataclass
class LinearParameterDiffusion(LatentGenerator, LinearSettings, DiffusionSettings):
    """p-diff with principal components for a codec. Fields are those of :class:`LatentGenerator` (gate),
    :class:`LinearSettings` (components) and :class:`DiffusionSettings` (denoiser and sampling).
    """

    sampling: ClassVar[tuple[str, ...]] = (
        *LatentGenerator.sampling,
        "temperature",
        "scheduler",
        "sample_steps",
    )
    name: ClassVar[str] = "p-diff-linear"

    def _codec(self) -> Codec:
        return LinearCodec(self)

    def _prior(self) -> Prior:
        return LatentDiffusion(self)
