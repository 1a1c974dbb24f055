r"""A 1-D convolutional autoencoder for parameter vectors.

Four encoder and four decoder layers, each two convolutions, a normalisation and an activation, with a
linear bottleneck. Two choices make it learn in hundreds of steps where the paper takes 30,000:

* the second convolution of a layer is residual, ``h + act(norm(conv(h)))``, so that from the first step on
  the whole is close to a linear autoencoder, and the amplitude of a vector passes the normalisations;
* the first convolution is strided but overcomplete (16 channels for 8 coordinates) and later ones keep their
  length: neighbouring coordinates of a network have little in common, so what matters is how many features
  reach the bottleneck, the only place where each position has weights of its own.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

NORMS = ("none", "batch", "group", "instance")
SHORTEST = 4
"""Positions that strides leave at least; an instance norm over one position would return nothing."""


def fitting_strides(strides: Sequence[int], dim: int) -> list[int]:
    """Strides for vectors of length ``dim``: halved until :data:`SHORTEST` positions are left."""
    fitting, length = [], dim
    for wanted in strides:
        stride = wanted
        while stride > 1 and length < SHORTEST * stride:
            stride //= 2
        fitting.append(stride)
        length = math.ceil(length / stride)
    return fitting


class Network(nn.Module, ABC):
    """Vectors of length D to latents of length L and back.

    Attributes:
        dim: D.
        to_latent: the encoder's last layer, to E numbers.
        from_latent: the decoder's first.
    """

    dim: int
    to_latent: nn.Linear
    from_latent: nn.Linear

    @abstractmethod
    def encode(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n E"]: ...

    @abstractmethod
    def decode(self, z: Float[Tensor, "n L"]) -> Float[Tensor, "n D"]: ...


class ConvAutoencoder(Network):
    """1-D convolutions along the vector, and a linear bottleneck.

    Args:
        dim: D; any length, padded with zeros to a multiple of the total stride.
        latent: L.
        channels: channels of each encoder layer; the decoder mirrors them.
        strides: stride of each layer; made smaller where a vector is too short for them.
        norm: one of :data:`NORMS`.
        code: E, length of what :meth:`encode` returns; L by default.
    """

    def __init__(
        self, dim: int, latent: int, channels: Sequence[int], strides: Sequence[int], norm: str,
        code: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        strides = fitting_strides(strides, dim)
        total = math.prod(strides)
        self.dim, self.padding = dim, -dim % total
        features = channels[-1] * ((dim + self.padding) // total)
        widths = [1, *channels[:-1]]
        down = list(zip(widths, channels, strides, strict=True))
        self.encoder = nn.Sequential(*(_encoder_layer(a, b, stride, norm) for a, b, stride in down))
        self.to_latent = nn.Linear(features, code or latent)
        self.from_latent = nn.Linear(latent, features)
        self.unflatten = nn.Unflatten(1, (channels[-1], -1))
        self.decoder = nn.Sequential(*(_decoder_layer(b, a, stride, norm) for a, b, stride in reversed(down)))

    def encode(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n E"]:
        return self.to_latent(self.encoder(pad(x, (0, self.padding)).unsqueeze(1)).flatten(1))

    def decode(self, z: Float[Tensor, "n L"]) -> Float[Tensor, "n D"]:
        return self.decoder(self.unflatten(self.from_latent(z))).squeeze(1)[:, : self.dim]


class Residual(nn.Module):
    """``h + act(norm(layer(h)))``."""

    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(layer, norm, nn.SiLU())

    def forward(self, h: Float[Tensor, "n C *M"]) -> Float[Tensor, "n C *M"]:
        return h + self.body(h)


def _encoder_layer(came: int, goes: int, stride: int, norm: str) -> nn.Module:
    return nn.Sequential(nn.Conv1d(came, goes, *_resample(stride)), _residual(goes, norm))


def _decoder_layer(came: int, goes: int, stride: int, norm: str) -> nn.Module:
    return nn.Sequential(_residual(came, norm), nn.ConvTranspose1d(came, goes, *_resample(stride)))


def _residual(channels: int, norm: str) -> Residual:
    return Residual(nn.Conv1d(channels, channels, 3, padding=1), make_norm(norm, channels))


def _resample(stride: int) -> tuple[int, int, int]:
    """Kernel, stride and padding: patches side by side, or a kernel of 3 where the length is kept."""
    return (stride, stride, 0) if stride > 1 else (3, 1, 1)


def make_norm(norm: str, channels: int) -> nn.Module:
    """The normalisation between convolution and activation."""
    if norm == "batch":
        return nn.BatchNorm1d(channels)
    if norm == "group":
        return nn.GroupNorm(math.gcd(4, channels), channels)
    return nn.InstanceNorm1d(channels, affine=True) if norm == "instance" else nn.Identity()
