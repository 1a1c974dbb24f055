r"""Autoencoder and kernel density estimate of its latents: the baseline of hyper-representations.

Schuerholt et al. (NeurIPS 2022, arXiv 2209.14733) take the dimensions of a latent as independent and estimate
the density of each over the members; the paper's Tables 11 and 12 do so with p-diff's autoencoder. A draw from
a Gaussian kernel density is a member plus noise, with a member of its own in each dimension:

.. math:: z_l = z_{k_l, l} + h \sigma_l \epsilon_l, \quad k_l \sim U\{1..K\}, \quad \epsilon_l \sim N(0, 1)

with sigma_l the members' deviation. Scott's rule is ``h = K^(-1/(d+4))``, d = 1. Independence costs what members
have in common across dimensions: their latents fill a thin subspace, the draws do not.

``joint`` estimates one density over all dimensions instead: one member for all of them (d = L in Scott's rule,
which is then wide: h is near 1 for the usual L and K). This is closer to what the authors' released code does than
what their text says: it restarts the random numbers in each dimension, and so draws the same member in all, with
h = 0.002 for latents between -1 and 1. Its samples are copies of members.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.generators.codec_neural import NoisyCodec, NoisySettings
from paramdiff.generators.latent import Codec, LatentGenerator, Prior
from paramdiff.ranges import FACTOR, Ranges
from paramdiff.seeds import sample_generators


@dataclass(frozen=True)
class Kernel:
    """What is put around each member.

    Attributes:
        bandwidth: h, in deviations of the members.
        joint: whether all dimensions of a draw come from one member.
    """

    bandwidth: float
    joint: bool


class Kernels(Prior):
    """Kernels around the members' latents.

    Args:
        kernel: of (K, L); asked for when sampling, so that it may change after the fit.
    """

    def __init__(self, kernel: Callable[[int, int], Kernel]) -> None:
        self.kernel, self.losses = kernel, []

    def fit(self, z: Float[Tensor, "K L"], held: Float[Tensor, "H L"], folder: Path | None) -> None:
        self.latents = z

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "n L"]:
        k, size = self.latents.shape
        kernel, deviation = self.kernel(k, size), self.latents.std(0, correction=0)
        members = 1 if kernel.joint else size
        draws = []
        for draw in sample_generators(indices, "kernel", seed):
            rows = torch.randint(k, (members,), generator=draw).expand(size)
            noise = torch.randn(size, generator=draw)
            draws.append(self.latents[rows, torch.arange(size)] + kernel.bandwidth * deviation * noise)
        return torch.stack(draws)

    def state_dict(self) -> dict[str, Any]:
        return {"latents": self.latents}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.latents = state["latents"]


def scott(k: int, dimensions: int) -> float:
    """Scott's rule: a bandwidth in deviations of the data."""
    return k ** (-1 / (dimensions + 4))


@dataclass
class AutoencoderKde(LatentGenerator, NoisySettings):
    """Kernel density of an autoencoder's latents. Fields are those of :class:`LatentGenerator` (gate) and
    :class:`NoisySettings` (autoencoder).

    Attributes:
        bandwidth: h, in deviations of a latent between members; by default Scott's rule. It is what a temperature
            would be: draws are around members, and this is how far.
        joint: one density over all dimensions of a latent, in place of one for each.
    """

    sampling: ClassVar[tuple[str, ...]] = (*LatentGenerator.sampling, "bandwidth", "joint")
    name: ClassVar[str] = "autoencoder-kde"
    bandwidth: float | None = None
    joint: bool = False

    RANGES: ClassVar[Ranges] = {"bandwidth": FACTOR}

    def _codec(self) -> Codec:
        return NoisyCodec(self)

    def _prior(self) -> Prior:
        return Kernels(self._kernel)

    def _kernel(self, k: int, size: int) -> Kernel:
        automatic = scott(k, size if self.joint else 1)
        return Kernel(automatic if self.bandwidth is None else self.bandwidth, self.joint)
