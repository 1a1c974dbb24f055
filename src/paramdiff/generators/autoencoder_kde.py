r"""Autoencoder and kernel density estimate of its latents: the baseline of hyper-representations.

Schuerholt et al. (NeurIPS 2022, arXiv 2209.14733) take the dimensions of a latent as independent and estimate
the density of each over the members; the paper's Tables 11 and 12 do so with p-diff's autoencoder. A draw from
a Gaussian kernel density is a member plus noise, with a member of its own in each dimension:

.. math:: z_l = z_{k_l, l} + h \sigma_l \epsilon_l, \quad k_l \sim U\{1..K\}, \quad \epsilon_l \sim N(0, 1)

with sigma_l the members' deviation. Scott's rule is ``h = K^(-1/5)``. Independence loses what members have in common
across dimensions: their latents fill a thin subspace, the draws do not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import GeneratorError
from paramdiff.generators.autoencoder import Autoencoder, DenoisingCodec
from paramdiff.generators.generator import register
from paramdiff.generators.latent import Codec, LatentGenerator, Prior
from paramdiff.seeds import sample_generators
from paramdiff.settings import FACTOR, Ranges


class Kernels(Prior):
    """A Gaussian kernel around each member's latent.

    Args:
        bandwidth: h in deviations of the members, of K; called when sampling, so that it may change after the fit.
        joint: whether all dimensions of a draw come from one member, or each from a member of its own.
    """

    def __init__(self, bandwidth: Callable[[int], float], joint: bool) -> None:
        self.bandwidth, self.joint, self.losses = bandwidth, joint, []

    def fit(self, z: Float[Tensor, "K L"], held: Float[Tensor, "H L"], folder: Path | None) -> None:
        self.latents = z

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "n L"]:
        k, size = self.latents.shape
        bandwidth, deviation = self.bandwidth(k), self.latents.std(0, correction=0)
        draws = []
        for draw in sample_generators(indices, "kernel", seed):
            rows = torch.randint(k, (1 if self.joint else size,), generator=draw).expand(size)
            noise = torch.randn(size, generator=draw)
            draws.append(self.latents[rows, torch.arange(size)] + bandwidth * deviation * noise)
        return torch.stack(draws)

    def state_dict(self) -> dict[str, Any]:
        return {"latents": self.latents}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.latents = state["latents"]


def scott(k: int) -> float:
    """Scott's rule for K points in one dimension: a bandwidth in deviations of the data."""
    return k ** (-1 / 5)


@register("autoencoder-kde", "an autoencoder, and a kernel density of its latents in place of diffusion")
@dataclass
class AutoencoderKde(LatentGenerator):
    """Kernel density of an autoencoder's latents, each dimension by itself.

    Attributes:
        autoencoder: architecture and training of the autoencoder.
        bandwidth: h, in deviations of a latent between members; by default Scott's rule. It does what a temperature
            would: draws are around members, and this is how far.
    """

    sampling: ClassVar[tuple[str, ...]] = (*LatentGenerator.sampling, "bandwidth")
    RANGES: ClassVar[Ranges] = {"bandwidth": FACTOR}

    autoencoder: Autoencoder = field(default_factory=Autoencoder)
    bandwidth: float | None = None

    @classmethod
    def upgraded(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Until it was removed, ``joint`` estimated one density over all dimensions."""
        if settings.get("joint"):
            raise GeneratorError(
                "a joint kernel density, which this version does not have: its samples were copies of members",
                remedy="fit latent-noise in its place",
            )
        return super().upgraded({key: value for key, value in settings.items() if key != "joint"})

    def _codec(self) -> Codec:
        return DenoisingCodec(self.autoencoder, self.seed, self.device)

    def _prior(self) -> Prior:
        return Kernels(lambda k: scott(k) if self.bandwidth is None else self.bandwidth, joint=False)
