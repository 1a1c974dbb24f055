r"""From raw parameters to coordinates in which the zoo's variation has unit size, and exactly back.

Coordinate j of a member ``v`` becomes ``x_j = (g_j(v_j) - mu_j) / s_j`` with ``mu_j`` and ``s_j`` the
mean and the standard deviation *over checkpoints* of ``g_j(v_j)``, where ``g`` is the logarithm for
coordinates that must stay positive and the identity elsewhere. The variation between checkpoints is
tiny beside a layer's own spread; a scale taken over a layer would hide it.

All arithmetic is in float64, so a float32 vector comes back bit for bit.
"""

from typing import Self

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

ROWS_AT_ONCE = 1 << 24
"""Elements that are converted to float64 at once, so that long vectors are never doubled whole."""

SMALLEST_POSITIVE = torch.finfo(torch.float32).tiny


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
        columns = max(1, ROWS_AT_ONCE // k)
        for start in range(0, dim, columns):
            block = slice(start, start + columns)
            g = _to_log(vectors[:, block].double(), positive[block])
            mean[block] = g.mean(0)
            scale[block] = (g - mean[block]).square().mean(0).sqrt()
        constant = scale <= 1e-12 * mean.abs()
        return cls(mean, torch.where(constant, 1.0, scale), positive, constant)

    def normalise(
        self, v: Float[Tensor, "n D"], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n D"]:
        """``v -> x``; ask for float64 where the round trip must be exact."""
        x = torch.empty(v.shape, dtype=dtype)
        for rows in self._blocks(len(v)):
            x[rows] = ((_to_log(v[rows].double(), self.positive) - self.mean) / self.scale).to(dtype)
        return x

    def denormalise(
        self, x: Float[Tensor, "n D"], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n D"]:
        """``x -> v``, the inverse; constant coordinates come back as their constant whatever ``x`` says."""
        v = torch.empty(x.shape, dtype=dtype)
        for rows in self._blocks(len(x)):
            moved = torch.where(self.constant, 0.0, x[rows].double())
            g = moved * self.scale + self.mean
            v[rows] = torch.where(self.positive, g.exp(), g).to(dtype)
        return v

    def _blocks(self, n: int) -> list[slice]:
        rows = max(1, ROWS_AT_ONCE // max(1, len(self.mean)))
        return [slice(start, start + rows) for start in range(0, n, rows)]

    def state_dict(self) -> dict[str, Tensor]:
        names = ("mean", "scale", "positive", "constant")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Self:
        return cls(state["mean"], state["scale"], state["positive"].bool(), state["constant"].bool())


def _to_log(v: Tensor, positive: Tensor) -> Tensor:
    """Logarithm of the positive coordinates; zero counts as the smallest normal float32."""
    return torch.where(positive, v.clamp_min(SMALLEST_POSITIVE).log(), v)
