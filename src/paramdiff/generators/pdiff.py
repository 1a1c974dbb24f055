r"""p-diff: an autoencoder of parameter vectors, and diffusion over its latents.

The generator of "Neural Network Parameter Diffusion" (arXiv 2402.13144): equations 4 and 5 for the codec
(:mod:`paramdiff.generators.codec_neural`), equation 6 for the prior (:mod:`paramdiff.generators.diffusion`).
"""

from dataclasses import dataclass
from typing import ClassVar

from paramdiff.generators.codec_neural import NoisyCodec, NoisySettings
from paramdiff.generators.diffusion import DiffusionSettings, LatentDiffusion
from paramdiff.generators.latent import Codec, LatentGenerator, Prior


@dataclass
class ParameterDiffusion(LatentGenerator, NoisySettings, DiffusionSettings):
    """p-diff. Fields are those of :class:`LatentGenerator` (gate), :class:`NoisySettings` (autoencoder) and
    :class:`DiffusionSettings` (denoiser and sampling).

    Samples come from the distribution as it was learnt. On one trajectory, saved densely, that means points of
    its path: on the digits (mean accuracy of 100 samples, one seed) they have 97.99% where the originals have
    97.92%. Pulled towards the average of all members they are better, 98.13% with ``contraction=0.7``, as
    ``experiment=digits`` sets it, and more alike (error similarity 0.72 in place of 0.63; originals 0.59).

    Example::

        samples = ParameterDiffusion(latent_noise=0.1).fit(zoo).sample(100, seed=0)   # [100, D]
    """

    sampling: ClassVar[tuple[str, ...]] = (
        *LatentGenerator.sampling,
        "temperature",
        "scheduler",
        "sample_steps",
    )
    name: ClassVar[str] = "p-diff"

    def _codec(self) -> Codec:
        return NoisyCodec(self)

    def _prior(self) -> Prior:
        return LatentDiffusion(self)
