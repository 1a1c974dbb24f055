r"""How far new parameter vectors lie from the zoo they were learnt from.

All distances are taken in normalised coordinates (:mod:`paramdiff.parameters.normalise`: unit variation
between checkpoints), as the root mean square over the D coordinates that vary in the zoo: two independent
draws of the zoo's distribution are :math:`\sqrt 2` apart, and 1 from its mean.

Everything follows from inner products. With :math:`x_i` the samples, :math:`z_j` the members, both
relative to the mean of the zoo,

.. math:: G_{jk} = \langle z_j, z_k\rangle, \quad C_{ij} = \langle x_i, z_j\rangle, \quad n_i = |x_i|^2

D is streamed over once; no D x D matrix exists, and memory is that of one block of coordinates.

* distance: :math:`|x_i - z_j|^2 = n_i + G_{jj} - 2 C_{ij}`.
* residual to the affine span of the zoo, as a fraction of the deviation from the mean:
  :math:`1 - c_i^T G^+ c_i / n_i`. It is 0 for every weighted average of members.
* the same for a member left out, exactly and without refitting: with :math:`P = G^+` and W the members left
  out with k, the squared distance of :math:`z_k` to the affine span of all others is
  :math:`[(P_{WW})^{-1}]_{kk}`, because it is the minimum of :math:`w^T G w` over weights of sum 0 with
  :math:`w_k = 1` and 0 elsewhere in W.

A member of a *trajectory* is nearly its neighbour of one step earlier, which says nothing about how far
an independent network would lie. There a member is compared with those at least a tenth of the
trajectory away (:func:`neighbours`).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from paramdiff.parameters.normalise import Normaliser

ELEMENTS_AT_ONCE = 1 << 22
"""Numbers converted to float64 at once (32 MiB)."""

RANK_TOLERANCE = 1e-10
"""Directions with less than this share of the trace of G are rounding of float32 vectors."""

AT_CENTRE = 1e-2
"""Deviation from the mean, in units of a member's, below which only rounding is left of a direction."""


def neighbours(k: int, trajectory: bool = False) -> Bool[Tensor, "K K"]:
    """Pairs of members that are not compared.

    Each with itself; in a trajectory also those up to K // 10 steps away (at least one). A tenth forgets most
    of what consecutive checkpoints share and leaves four fifths of the zoo. At least one member stays.
    """
    window = max(0, min(max(1, k // 10), (k - 2) // 2)) if trajectory else 0
    step = torch.arange(k)
    return (step[:, None] - step).abs() <= window


@dataclass(frozen=True)
class Gram:
    """Inner products of N samples and K members relative to the zoo's mean, in normalised coordinates.

    Attributes:
        members: G [K, K].
        cross: C [N, K].
        squares: n [N].
        dim: number of coordinates that vary in the zoo, at least 1.
    """

    members: Float64[Tensor, "K K"]
    cross: Float64[Tensor, "N K"]
    squares: Float64[Tensor, "N"]
    dim: int

    @classmethod
    def of(
        cls, samples: Float[Tensor, "N D"], zoo: Float[Tensor, "K D"], normaliser: Normaliser,
        members: Float64[Tensor, "K K"] | None = None,
    ) -> "Gram":  # fmt: skip
        """From raw vectors; ``normaliser`` was fitted on the zoo. ``members`` saves computing G again."""
        n, k = len(samples), len(zoo)
        g = torch.zeros(k, k, dtype=torch.float64)
        cross, squares = torch.zeros(n, k, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
        columns = max(1, ELEMENTS_AT_ONCE // (n + k))
        for start in range(0, zoo.shape[1], columns):
            block = slice(start, start + columns)
            varying, part = ~normaliser.constant[block], normaliser.columns(block)
            z = part.normalise(zoo[:, block], torch.float64)[:, varying]
            x = part.normalise(samples[:, block], torch.float64)[:, varying]
            if members is None:
                g += z @ z.T
            cross += x @ z.T
            squares += x.square().sum(1)
        return cls(
            g if members is None else members, cross, squares, max(1, int((~normaliser.constant).sum()))
        )

    @property
    def distances(self) -> Float64[Tensor, "N K"]:
        """RMS distance of every sample to every member."""
        squared = self.squares[:, None] + self.members.diagonal() - 2 * self.cross
        return (squared.clamp_min(0) / self.dim).sqrt()

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
        outside = self.squares - ((self.cross @ self._inverse) * self.cross).sum(1)
        least = AT_CENTRE**2 * self.members.diagonal().mean()
        return (outside / self.squares.maximum(least)).nan_to_num(0.0).clamp(0, 1)

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


@dataclass(frozen=True)
class Distances:
    """Where N networks lie relative to a zoo.

    Attributes:
        nearest: [N], RMS distance to the nearest member.
        ratio: [N], that distance over the distance to the second nearest: near 0 for a copy; NaN where
            there is no second member to compare with.
        centre: [N], RMS distance to the zoo's mean.
        residual: [N], share of the squared deviation from the mean that lies outside the zoo's span.
    """

    nearest: Float64[Tensor, "N"]
    ratio: Float64[Tensor, "N"]
    centre: Float64[Tensor, "N"]
    residual: Float64[Tensor, "N"]

    @classmethod
    def of(cls, gram: Gram) -> "Distances":
        """The samples of a Gram matrix."""
        centre = (gram.squares / gram.dim).sqrt()
        return cls(*_nearest_two(gram.distances), centre, gram.residuals)

    @classmethod
    def of_members(cls, gram: Gram, leave_out: Bool[Tensor, "K K"]) -> "Distances":
        """Each member relative to the others, as if it had been left out of the zoo.

        Temporal neighbours are left out of the nearest and of the span; the mean is that of all others.
        """
        k = len(gram.members)
        centre = (gram.members.diagonal() / gram.dim).sqrt() * k / (k - 1)
        apart = gram.member_distances.masked_fill(leave_out, torch.inf)
        return cls(*_nearest_two(apart), centre, gram.left_out_residuals(leave_out))


def _nearest_two(distances: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest, and its distance over that of the second nearest."""
    if distances.shape[1] < 2:
        return distances[:, 0], torch.full_like(distances[:, 0], torch.nan)
    first, second = distances.sort(1).values[:, :2].unbind(1)
    ratio = torch.where(second > 0, first / second, 1.0)
    return first, ratio.masked_fill(second.isinf(), torch.nan)
