r"""From raw parameters to coordinates in which the zoo's variation has unit size, and exactly back.

Coordinate j of a member ``v`` becomes ``x_j = (g_j(v_j) - mu_j) / s_j`` with ``mu_j`` and ``s_j`` the
mean and the standard deviation *over checkpoints* of ``g_j(v_j)``, where ``g`` is the logarithm for
coordinates that must stay positive and the identity elsewhere. The variation between checkpoints is
tiny beside a layer's own spread; a scale taken over a layer would hide it.

All arithmetic is in float64, so a float32 vector comes back bit for bit. (A value more than 2^25 times
smaller than its coordinate's mean or deviation has less than a float32's digits left in ``x``; it comes back
with an error below 2^-50 of these.)
"""

from collections.abc import Iterator
from typing import Self

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from paramdiff.devices import IN_DOUBLE, blocks, pieces_within

SMALLEST_POSITIVE = 2.0**-149
"""The smallest positive float32. Variances of dead channels do get that small."""


class Normaliser:
    """Per-coordinate mean and between-checkpoint deviation of a zoo.

    Attributes:
        mean: ``mu`` [D], float64.
        scale: ``s`` [D], float64; 1 where a coordinate is constant over the zoo.
        positive: bool [D], coordinates that go through the logarithm.
        constant: bool [D], coordinates without variation; they come back as their constant.
    """

    def __init__(
        self, mean: Float64[Tensor, "D"], scale: Float64[Tensor, "D"], positive: Bool[Tensor, "D"],
        constant: Bool[Tensor, "D"],
    ) -> None:  # fmt: skip
        self.mean, self.scale, self.positive, self.constant = mean, scale, positive, constant

    @classmethod
    def fit(cls, vectors: Float[Tensor, "K D"], positive: Bool[Tensor, "D"] | None = None) -> Self:
        """Statistics of a zoo, streamed over coordinates."""
        k, dim = vectors.shape
        positive = torch.zeros(dim, dtype=torch.bool) if positive is None else positive
        mean, scale = torch.empty(dim, dtype=torch.float64), torch.empty(dim, dtype=torch.float64)
        for block in _blocks(k, dim):
            g = _to_log(_double(vectors[:, block]), positive[block])
            same = (g == g[0]).all(0)
            mean[block] = torch.where(same, g[0], g.mean(0))  # a mean of equal numbers may differ from them
            scale[block] = (g - mean[block]).square_().mean(0).sqrt_()
        constant = scale == 0
        return cls(mean, torch.where(constant, 1.0, scale), positive, constant)

    def normalise(self, v: Float[Tensor, "n D"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "n D"]:
        """``v -> x``, on the CPU; ask for float64 where the round trip must be exact."""
        x = torch.empty(v.shape, dtype=dtype)
        for block in _blocks(*v.shape):
            part = self.columns(block)
            x[:, block] = _to_log(_double(v[:, block]), part.positive).sub(part.mean).div_(part.scale)
        return x

    def denormalise(
        self, x: Float[Tensor, "n D"], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n D"]:
        """``x -> v``, the inverse; constant coordinates come back as their constant whatever ``x`` is."""
        v = torch.empty(x.shape, dtype=dtype)
        for block in _blocks(*x.shape):
            part = self.columns(block)
            g = _double(x[:, block]).masked_fill(part.constant, 0.0).mul_(part.scale).add_(part.mean)
            v[:, block] = _from_log(g, part.positive, torch.finfo(dtype).max)
        return v

    def slope(self, v: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        """``dv/dx`` at ``v = denormalise(x)``: ``s``, times v where v goes through the logarithm, 0 for constants."""
        scale = self.scale.masked_fill(self.constant, 0.0).float()
        return scale * torch.where(self.positive, v, 1.0)

    def columns(self, block: slice) -> "Normaliser":
        """The same for some coordinates only, to stream over long vectors."""
        return Normaliser(self.mean[block], self.scale[block], self.positive[block], self.constant[block])

    def state_dict(self) -> dict[str, Tensor]:
        names = ("mean", "scale", "positive", "constant")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Self:
        return cls(state["mean"], state["scale"], state["positive"].bool(), state["constant"].bool())


def _blocks(n: int, dim: int) -> Iterator[slice]:
    """Blocks of columns of an ``[n, dim]`` matrix: a zoo is never converted to float64 as a whole."""
    return blocks(dim, pieces_within(IN_DOUBLE, n))


def _double(block: Tensor) -> Tensor:
    """In float64, on the CPU: some devices have no float64."""
    return block.detach().cpu().double()


def _to_log(v: Tensor, positive: Tensor) -> Tensor:
    """Logarithm of the positive coordinates; zero counts as the smallest positive float32."""
    if not bool(positive.any()):
        return v  # most blocks: the logarithm of everything would take a third of the time
    return torch.where(positive, v.clamp_min(SMALLEST_POSITIVE).log(), v)


def _from_log(g: Tensor, positive: Tensor, largest: float) -> Tensor:
    """Inverse; positive coordinates stay positive and finite however far ``g`` is out."""
    if not bool(positive.any()):
        return g
    return torch.where(positive, g.exp().clamp(SMALLEST_POSITIVE, largest), g)
