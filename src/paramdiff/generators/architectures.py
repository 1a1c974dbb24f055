r"""The neural networks of generators: an autoencoder of parameter vectors, and denoisers of latents.

The autoencoder is 1-D convolutional: four encoder and four decoder layers, each two convolutions, a normalisation and
an activation, with a linear bottleneck. Two choices make it learn in hundreds of steps where the paper takes 30,000:

* the second convolution of a layer is residual, ``h + act(norm(conv(h)))``, so that from the first step on
  the whole is close to a linear autoencoder, and the amplitude of a vector passes the normalisations;
* the first convolution is strided but overcomplete (16 channels for 8 coordinates) and later ones keep their
  length: neighbouring coordinates of a network have little in common, so what matters is how many features
  reach the bottleneck, the only place where each position has weights of its own.

A denoiser ``F(z, t)`` looks at a noisy latent and its time step. The default is a residual MLP: after the
autoencoder's bottleneck neighbouring latents have nothing in common. The 1-D convolutional encoder-decoder is the
paper's. The output layer starts at zero.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from paramdiff.devices import made_if_fits
from paramdiff.errors import GeneratorError

NORMS = ("none", "batch", "group", "instance")
DENOISERS = ("mlp", "conv")
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


def make_denoiser(kind: str, latent: int, width: int, depth: int) -> nn.Module:
    """A denoiser for latents of length L.

    Args:
        kind: one of :data:`DENOISERS`.
        latent: L.
        width: features of the MLP, or channels of the innermost convolution.
        depth: residual blocks of the MLP, or layers of the convolutional encoder and decoder each.

    Raises:
        ConfigError: it would not fit into memory.
    """
    network = ResidualMlp if kind == "mlp" else ConvDenoiser
    return made_if_fits("width", lambda: network(latent, width, depth))


class TimeEmbedding(nn.Module):
    """Sines and cosines of the time step, then one layer."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        half = (width + 1) // 2
        self.register_buffer("frequencies", torch.exp(-math.log(10_000) * torch.arange(half) / half))
        self.layer = nn.Linear(2 * half, width)

    def forward(self, t: Int[Tensor, "n"]) -> Float[Tensor, "n W"]:
        angle = t[:, None].float() * self.frequencies
        return silu(self.layer(torch.cat([angle.sin(), angle.cos()], 1)))


class ResidualMlp(nn.Module):
    """``h <- h + B silu(A norm(h) + T e(t))``, ``depth`` times."""

    def __init__(self, latent: int, width: int, depth: int) -> None:
        super().__init__()
        self.time = TimeEmbedding(width)
        self.enter = nn.Linear(latent, width)
        self.blocks = nn.ModuleList(MlpBlock(width) for _ in range(depth))
        self.leave = nn.Sequential(nn.LayerNorm(width), zero(nn.Linear(width, latent)))

    def forward(self, z: Float[Tensor, "n L"], t: Int[Tensor, "n"]) -> Float[Tensor, "n L"]:
        h, e = self.enter(z), self.time(t)
        for block in self.blocks:
            h = block(h, e)
        return self.leave(h)


class MlpBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second, self.time = (nn.Linear(width, width) for _ in range(3))

    def forward(self, h: Float[Tensor, "n W"], e: Float[Tensor, "n W"]) -> Float[Tensor, "n W"]:
        return h + self.second(silu(self.first(self.norm(h)) + self.time(e)))


class ConvDenoiser(nn.Module):
    """Latents as a sequence: ``depth`` halvings with twice the channels each, and back, with skips."""

    def __init__(self, latent: int, width: int, depth: int) -> None:
        super().__init__()
        self.padding = -latent % 2**depth
        channels = [max(4, width >> (depth - level)) for level in range(depth + 1)]
        pairs = list(pairwise(channels))
        self.time = TimeEmbedding(width)
        self.enter = nn.Conv1d(1, channels[0], 3, padding=1)
        self.down = nn.ModuleList(ConvBlock(nn.Conv1d(a, b, 4, 2, 1), b, width) for a, b in pairs)
        self.up = nn.ModuleList(
            ConvBlock(nn.ConvTranspose1d(b, a, 4, 2, 1), a, width) for a, b in reversed(pairs)
        )
        self.leave = zero(nn.Conv1d(channels[0], 1, 3, padding=1))

    def forward(self, z: Float[Tensor, "n L"], t: Int[Tensor, "n"]) -> Float[Tensor, "n L"]:
        e = self.time(t)
        levels = [self.enter(pad(z, (0, self.padding)).unsqueeze(1))]
        for block in self.down:
            levels.append(block(levels[-1], e))
        h = levels.pop()
        for block in self.up:
            h = levels.pop() + block(h, e)
        return self.leave(h).squeeze(1)[:, : z.shape[1]]


class ConvBlock(nn.Module):
    """Change the length, add the time, normalise, convolve."""

    def __init__(self, resample: nn.Module, channels: int, width: int) -> None:
        super().__init__()
        self.resample, self.time = resample, nn.Linear(width, channels)
        self.norm = make_norm("group", channels)
        self.conv = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, h: Float[Tensor, "n C M"], e: Float[Tensor, "n W"]) -> Float[Tensor, "n c m"]:
        h = self.resample(h) + self.time(e).unsqueeze(2)
        return h + self.conv(silu(self.norm(h)))


def zero(layer: nn.Linear | nn.Conv1d) -> nn.Linear | nn.Conv1d:
    """The layer with weights and bias set to zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def require_shapes(build: Callable[[], nn.Module], state: Mapping[str, Tensor]) -> None:
    """Raise unless ``state`` is one of the network that ``build`` makes, before memory is taken for it.

    Settings and states come from files: a stranger's may ask for a network of terabytes.
    """
    with torch.device("meta"):
        own = build().state_dict()
    wrong = [
        name
        for name in sorted({*own, *state})
        if name not in own or name not in state or own[name].shape != state[name].shape
    ]
    if wrong:
        raise GeneratorError(
            f"a saved network that is not of its settings ({wrong[0]})", remedy="fit it again"
        )
