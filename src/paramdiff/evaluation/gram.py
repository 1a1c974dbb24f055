"""Inner products of samples and members: all that distances, lines and spans need of them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from paramdiff.devices import IN_DOUBLE, blocks, pieces_within
from paramdiff.parameters.normaliser import Normaliser

RANK_TOLERANCE = 1e-10
"""Directions with less than this share of the trace of G are rounding of float32 vectors."""

AT_CENTRE = 1e-2
"""Deviation from the mean, in units of a member's, below which only rounding is left of a direction."""

PRINCIPAL = 0.95
"""Share of the zoo's variance that its principal directions hold."""

FEW_DIRECTIONS = 0.25
"""Principal directions over members, up to which they are few: a member then hardly bends them towards itself."""


@dataclass(frozen=True)
class Gram:
    """Inner products of N samples and K members relative to the zoo's mean, in normalised coordinates.

    Attributes:
        members: G [K, K].
        cross: C [N, K].
        squares: n [N].
        dim: number of coordinates that vary in the zoo, at least 1.
        among: inner products of the samples [N, N]; None if they were not asked for.
        rounding: squared rounding of a coordinate, relative to its variation in the zoo.
    """

    members: Float64[Tensor, "K K"]
    cross: Float64[Tensor, "N K"]
    squares: Float64[Tensor, "N"]
    dim: int
    among: Float64[Tensor, "N N"] | None = None
    rounding: float = 0.0

    @classmethod
    def of(
        cls, samples: Float[Tensor, "N D"], zoo: Float[Tensor, "K D"], normaliser: Normaliser,
        members: Float64[Tensor, "K K"] | None = None,
    ) -> "Gram":  # fmt: skip
        """From raw vectors; ``normaliser`` was fitted on the zoo. ``members`` saves computing G again."""
        n, k = len(samples), len(zoo)
        g = torch.zeros(k, k, dtype=torch.float64)
        cross, among = torch.zeros(n, k, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
        for block in blocks(zoo.shape[1], pieces_within(IN_DOUBLE, n + k)):
            varying, part = ~normaliser.constant[block], normaliser.columns(block)
            z = part.normalise(zoo[:, block], torch.float64)[:, varying]
            x = part.normalise(samples[:, block], torch.float64)[:, varying]
            if members is None:
                g += z @ z.T
            cross += x @ z.T
            among += x @ x.T
        dim = max(1, int((~normaliser.constant).sum()))
        squares, known = among.diagonal().clone(), g if members is None else members
        return cls(known, cross, squares, dim, among, _rounding(zoo, normaliser))

    @property
    def distances(self) -> Float64[Tensor, "N K"]:
        """RMS distance of every sample to every member."""
        squared = self.squares[:, None] + self.members.diagonal() - 2 * self.cross
        return (squared.clamp_min(0) / self.dim).sqrt()

    @property
    def sample_distances(self) -> Float64[Tensor, "N N"]:
        """RMS distance between samples."""
        assert self.among is not None
        squared = self.squares[:, None] + self.squares - 2 * self.among
        return (squared.clamp_min(0) / self.dim).sqrt().fill_diagonal_(0)

    @property
    def member_distances(self) -> Float64[Tensor, "K K"]:
        """RMS distance between members."""
        norms = self.members.diagonal()
        return ((norms[:, None] + norms - 2 * self.members).clamp_min(0) / self.dim).sqrt()

    @cached_property
    def _inverse(self) -> Tensor:
        """Pseudo-inverse of G on weights of sum 0, eigenvalues floored instead of dropped.

        With the floor a member that lies in the span of the others gets a distance near 0 from the
        formula for left-out members, where dropping would make it infinite. The direction of equal weights,
        whose eigenvalue is 0, is lifted before inverting: the floor would give it huge entries.
        """
        k = len(self.members)
        centre = torch.eye(k, dtype=torch.float64) - 1 / k
        lifted = centre @ self.members @ centre + self.members.trace() / k
        values, vectors = torch.linalg.eigh(lifted)
        inverse = (vectors / values.clamp_min(RANK_TOLERANCE * values[-1])) @ vectors.T
        return centre @ inverse @ centre

    @property
    def residuals(self) -> Float64[Tensor, "N"]:
        """Share of each sample's squared deviation from the mean that lies outside the zoo's span.

        A sample within AT_CENTRE of the mean has no direction, only rounding, and counts as inside.
        """
        return self._share(self._outside, self.squares)

    @cached_property
    def _outside(self) -> Tensor:
        return self.squares - ((self.cross @ self._inverse) * self.cross).sum(1)

    def _share(self, outside: Tensor, deviation: Tensor) -> Tensor:
        least = AT_CENTRE**2 * self.members.diagonal().mean()
        return (outside / deviation.maximum(least)).nan_to_num(0.0).clamp(0, 1)

    def residuals_without(self, without: Bool[Tensor, "N K"]) -> Float64[Tensor, "N"]:
        """The same of each sample for the mean and the span of a zoo that lacks these members."""
        inverse, remaining = self._inverse, (~without).double()
        weights = remaining / remaining.sum(1, keepdim=True)
        deviation = self.squares + ((weights @ self.members - 2 * self.cross) * weights).sum(1)
        alpha = self.cross @ inverse + 1 / len(self.members)
        more = [a[w] @ torch.linalg.solve(inverse[w][:, w], a[w]) for a, w in zip(alpha, without)]
        return self._share(self._outside + torch.stack(more), deviation)

    def left_out_residuals(self, leave_out: Bool[Tensor, "K K"]) -> Float64[Tensor, "K"]:
        """The same of each member for the span of those that are not left out with it."""
        return torch.stack([self._left_out_residual(*pair) for pair in enumerate(leave_out)])

    def _left_out_residual(self, member: int, without: Tensor) -> Tensor:
        outside = torch.linalg.inv(self._inverse[without][:, without])
        place = int(without[:member].sum())
        weights = -(~without).double() / (~without).sum()  # member minus the mean of the others
        weights[member] += 1
        deviation = weights @ self.members @ weights
        return (outside[place, place] / deviation).nan_to_num(0.0).clamp(0, 1)

    def principal(self, distinct: int) -> "Gram | None":
        """The same in the few directions in which the zoo varies; None where these are not few.

        Noise in all coordinates hides what a sample was made of only as far as it lies in these. With nearly as many
        directions as distinct members each of these has one to itself, and new networks have none.
        """
        values, vectors = torch.linalg.eigh(self.members)
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        share = values.cumsum(0) / values.sum().clamp_min(torch.finfo(torch.float64).tiny)
        rank = int((share < PRINCIPAL).sum()) + 1
        if rank > distinct * FEW_DIRECTIONS or 2 * rank > self.dim or not float(values.sum()) > 0:
            return None
        axes = vectors[:, :rank] / values[:rank].sqrt()
        z, x = self.members @ axes, self.cross @ axes
        return Gram(z @ z.T, x @ z.T, x.square().sum(1), self.dim, x @ x.T, self.rounding)


def _rounding(zoo: Tensor, normaliser: Normaliser) -> float:
    """Mean squared rounding of a coordinate in units of its variation; weights are of the zoo's number type."""
    if not zoo.dtype.is_floating_point or len(zoo) == 0:
        return 0.0
    size = (normaliser.mean / normaliser.scale)[~normaliser.constant]
    return float((size.square() + 1).mean()) * torch.finfo(zoo.dtype).eps ** 2 if len(size) else 0.0
