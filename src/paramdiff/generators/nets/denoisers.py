r"""Networks ``F(z, t)`` that look at a noisy latent and its time step.

The default is a residual MLP: after the autoencoder's bottleneck neighbouring latents have nothing in
common. The 1-D convolutional encoder-decoder is the paper's. The output layer starts at zero.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from paramdiff.devices import made_if_fits
from paramdiff.generators.nets.conv import make_norm

DENOISERS = ("mlp", "conv")


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
