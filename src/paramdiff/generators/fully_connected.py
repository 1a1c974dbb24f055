r"""A fully connected autoencoder for parameter vectors: the paper's Table 14, beside 1-D convolutions.

One linear layer from D to W features, residual layers ``h + silu(norm(A h + b))`` as in
:mod:`paramdiff.generators.architectures`, one linear layer to the latent, and the same back. With W of the order
of L its size grows with D L, as that of the convolutional one does, and not with D^2.
"""

import math

from jaxtyping import Float
from torch import Tensor, nn

from paramdiff.generators.architectures import Network, Residual, make_norm


def matching_width(parameters: int, dim: int, latents: int, depth: int) -> int:
    """The width W with which ``2 depth W^2 + (2 D + latents) W`` comes nearest to a number of parameters.

    It is a multiple of 4, so that a group norm has its four groups.

    Args:
        parameters: of the network to match.
        dim: D.
        latents: numbers that the encoder returns plus numbers that the decoder takes.
        depth: residual layers of the encoder, and of the decoder.
    """
    a, b = 2 * depth, 2 * dim + latents
    return 4 * max(1, round((math.sqrt(b**2 + 4 * a * parameters) - b) / (8 * a)))


class DenseAutoencoder(Network):
    """Residual layers of W features, and a linear bottleneck.

    Args:
        dim: D.
        latent: L.
        width: W, features of every layer.
        depth: residual layers of the encoder, and of the decoder.
        norm: ``none``, ``batch``, ``group`` or ``instance``; without channels, an instance is all features of
            one vector, as in layer normalisation.
        code: E, length of what :meth:`encode` returns; L by default.
    """

    def __init__(
        self, dim: int, latent: int, width: int, depth: int, norm: str, code: int | None = None
    ) -> None:
        super().__init__()
        self.dim = dim
        self.encoder = nn.Sequential(nn.Linear(dim, width), *(_residual(width, norm) for _ in range(depth)))
        self.to_latent = nn.Linear(width, code or latent)
        self.from_latent = nn.Linear(latent, width)
        self.decoder = nn.Sequential(*(_residual(width, norm) for _ in range(depth)), nn.Linear(width, dim))

    def encode(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n E"]:
        return self.to_latent(self.encoder(x))

    def decode(self, z: Float[Tensor, "n L"]) -> Float[Tensor, "n D"]:
        return self.decoder(self.from_latent(z))


def _residual(width: int, norm: str) -> Residual:
    layer = nn.LayerNorm(width) if norm == "instance" else make_norm(norm, width)
    return Residual(nn.Linear(width, width), layer)
