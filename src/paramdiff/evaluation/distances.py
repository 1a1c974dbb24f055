r"""How far new parameter vectors lie from the zoo they were learnt from.

All distances are taken in normalised coordinates (:mod:`paramdiff.parameters.normaliser`: unit variation
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
* a sample's distance to the span of a zoo that lacks members W: its squared distance to the whole span plus
  :math:`\alpha_W^T (P_{WW})^{-1} \alpha_W` with the weights :math:`\alpha = P c_i + 1/K` of its projection. Where
  W is a fifth of a trajectory, only this compares with the residual of members left out: with nearly as many
  members as parameters, all of them span what four fifths do not.

A member of a *trajectory* is nearly its neighbour of one step earlier, which says nothing about how far
an independent network would lie. There a member is compared with those at least a tenth of the
trajectory away (:mod:`paramdiff.evaluation.distinct_members`), and the second neighbour of a network is the nearest
member that is as far in time from its first one.

Being near a member is not yet being a copy of it. With z the nearest member, a copy with whatever
independent noise keeps all of its deviation from the mean, :math:`\langle x, z\rangle / |z|^2 = 1`, where a
mixture :math:`w z + (1 - w)\bar z` with the others keeps w. And a copy sits *at* a step of a trajectory, where a
point of the path lies anywhere between two: it is :math:`\langle x - z, z' - z\rangle / |z' - z|^2` steps
away from z towards its neighbour in time, z'. Both are projections, so noise in other directions, however
large, does not move them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from paramdiff.evaluation.distinct_members import count, neighbours
from paramdiff.evaluation.gram import AT_CENTRE, Gram

__all__ = ["Distances", "Gram", "neighbours"]

ANCHORS = 48
"""Nearest members from which lines to all others are tried."""


@dataclass(frozen=True)
class Distances:
    """Where N networks lie relative to a zoo.

    Attributes:
        nearest: [N], RMS distance to the nearest member.
        ratio: [N], that distance over the distance to the second nearest that is not alike to
            the first: near 0 for a copy; NaN where there is no second member to compare with.
        centre: [N], RMS distance to the zoo's mean.
        residual: [N], share of the squared deviation from the mean that lies outside the zoo's span.
        outside: [N], the same for a zoo that lacks as many members as are left out with a member, so that
            1 to 1 is what independent networks would have; differs from ``residual`` where members are alike.
        kept: [N], share of the nearest member's deviation from the mean that the network has in that
            direction: 1 for a copy with whatever noise, w for a mixture of w of it with the mean.
        offset: [N], distance along the trajectory to the nearest member, in steps: near 0 for a copy, 0.25 in
            the median for points anywhere on the path; NaN if the zoo is no trajectory.
        line: [N], RMS distance to the nearest line through two members that are not alike; NaN without two.
        among: [N], RMS distance to the nearest other network of the set, for members that of their zoo; NaN for one.
        spread: [N], mean RMS distance to all others of the set, for members those that are not alike; NaN for one.
        pairs: [pairs], RMS distances of any two of the set in the order of ``triu_indices``; for members of those
            that are not alike.
        principal: the same in the few directions in which the zoo varies, if these are few.
        unmatched: the same for vectors as they are, where ``self`` is of networks matched by their symmetries.
        rounding: share of a deviation that may be rounding.
        distinct: members no two of which are alike.
    """

    nearest: Float64[Tensor, "N"]
    ratio: Float64[Tensor, "N"]
    centre: Float64[Tensor, "N"]
    residual: Float64[Tensor, "N"]
    outside: Float64[Tensor, "N"]
    kept: Float64[Tensor, "N"]
    offset: Float64[Tensor, "N"]
    line: Float64[Tensor, "N"] | None = None
    among: Float64[Tensor, "N"] | None = None
    spread: Float64[Tensor, "N"] | None = None
    pairs: Float64[Tensor, "pairs"] | None = None
    principal: "Distances | None" = None
    unmatched: "Distances | None" = None
    rounding: float = 0.0
    distinct: int | None = None

    @classmethod
    def of(cls, gram: Gram, leave_out: Bool[Tensor, "K K"] | None = None, inside: bool = True) -> "Distances":
        """The samples of a Gram matrix; ``leave_out`` says which members are alike.

        ``inside``: with their place in the principal directions.
        """
        k = len(gram.members)
        alike = torch.eye(k, dtype=torch.bool) if leave_out is None else leave_out
        centre = (gram.squares / gram.dim).sqrt()
        apart = gram.distances
        nearest, ratio, first = _nearest_two(apart, alike)
        # any other part of the zoo than the nearest: what a sample is made of may be there or not
        elsewhere = (
            gram.residuals_without(alike[(first + k // 2) % k]) if _trajectory(alike) else gram.residuals
        )
        kept, offset = _kept(gram.cross, gram.members, first), _offset(gram, first, alike)
        among, spread, pairs = _of_the_set(gram)
        directions = gram.principal(count(alike)) if inside else None
        principal = None if directions is None else cls.of(directions, alike, inside=False)
        line = _line(gram, gram.cross, apart, alike)
        return cls(
            nearest, ratio, centre, gram.residuals, elsewhere, kept, offset, line, among, spread,
            pairs, principal, rounding=gram.rounding,
        )  # fmt: skip

    @classmethod
    def of_members(
        cls, gram: Gram, leave_out: Bool[Tensor, "K K"], rows: Tensor | None = None, again: Gram | None = None,
        inside: bool = True,
    ) -> "Distances":  # fmt: skip
        """Each member relative to the others, as if it had been left out of the zoo.

        Members alike to it are left out with it, of the mean too. They have no offset: the nearest is another part
        of the trajectory. ``rows``: of these members only, and ``again`` they as samples, where samples are matched
        to members in a way in which members are not.
        """
        rows = torch.arange(len(gram.members)) if rows is None else rows
        without = leave_out[rows]
        apart = (gram.member_distances[rows] if again is None else again.distances).masked_fill(
            without, torch.inf
        )
        cross = gram.members[rows] if again is None else again.cross
        nearest, ratio, first = _nearest_two(apart, leave_out)
        residuals = gram.left_out_residuals(leave_out)[rows]
        directions = gram.principal(count(leave_out)) if inside else None
        others = (~without).double()
        return cls(
            nearest, ratio, centre=_from_mean(gram, rows, others / others.sum(1, keepdim=True)),
            residual=residuals, outside=residuals, kept=_kept(cross, gram.members, first),
            offset=torch.full_like(nearest, torch.nan), line=_line(gram, cross, apart, leave_out), among=nearest,
            spread=(gram.member_distances[rows] * others).sum(1) / others.sum(1),
            pairs=gram.member_distances[torch.triu(~leave_out, 1)],
            principal=None if directions is None else cls.of_members(directions, leave_out, rows, inside=False),
            rounding=gram.rounding, distinct=count(leave_out),
        )  # fmt: skip


def _from_mean(gram: Gram, rows: Tensor, weights: Tensor) -> Tensor:
    """Distance of members to a mean of some of them."""
    g = gram.members
    squared = g.diagonal()[rows] + ((weights @ g - 2 * g[rows]) * weights).sum(1)
    return (squared.clamp_min(0) / gram.dim).sqrt()


def _of_the_set(gram: Gram) -> tuple[Tensor, Tensor, Tensor]:
    """Of every sample: the nearest other one, the mean distance to the others; and of every pair."""
    n = len(gram.squares)
    if gram.among is None or n < 2:
        none = gram.squares.new_full((n,), torch.nan)
        return none, none, none[:0]
    own = gram.sample_distances
    nearest = own.nan_to_num(torch.inf).masked_fill(torch.eye(n, dtype=torch.bool), torch.inf).min(1).values
    counted = own.isfinite()  # a network of NaN or Inf is as far from itself as from any
    spread = own.nan_to_num(0.0, 0.0, 0.0).sum(1) / (counted.sum(1) - 1).clamp_min(1)
    return nearest, spread, own[tuple(torch.triu_indices(n, n, 1))]


def _trajectory(alike: Tensor) -> bool:
    """Whether members are left out with others."""
    return int(alike.sum()) > len(alike)


def _nearest_two(distances: Tensor, alike: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest, its distance over that of the second nearest that is not like it, and which one it is."""
    nearest, first = distances.min(1)
    second = distances.masked_fill(alike[first], torch.inf).min(1).values
    ratio = torch.where(second > 0, nearest / second, 1.0)
    return nearest, ratio.masked_fill(second.isinf(), torch.nan), first


def _line(gram: Gram, cross: Tensor, apart: Tensor, alike: Tensor) -> Tensor:
    """Distance to the nearest line through two members; the first is one of the nearest ANCHORS.

    With u = x - a and v = b - a it is |u|^2 - <u, v>^2 / |v|^2. Members at infinite distance are left out.
    """
    g, usable = gram.members, apart.isfinite()
    norms = g.diagonal()
    way = norms[:, None] + norms - 2 * g
    way = way.masked_fill(alike | (way <= 0), torch.inf)
    found = []
    for near, c, ok in zip(apart, cross, usable):
        anchors = near.argsort()[:ANCHORS]
        anchors = anchors[ok[anchors]]
        along = c - c[anchors, None] - g[anchors] + norms[anchors, None]
        gain = (along.square() / way[anchors]).masked_fill(~ok, 0.0)
        squared = (near[anchors, None].square() - gain / gram.dim).clamp_min(0)
        found.append(squared.min().sqrt() if gain.any() else near.new_tensor(torch.nan))
    return torch.stack(found) if found else apart.new_zeros(0)


def _kept(cross: Tensor, members: Tensor, first: Tensor) -> Tensor:
    """Projection onto the nearest member's deviation; a member at the mean has none to keep."""
    inner, squared = cross.gather(1, first[:, None])[:, 0], members.diagonal()[first]
    return (inner / squared).where(squared > AT_CENTRE**2 * members.diagonal().mean(), 1.0)


def _offset(gram: Gram, first: Tensor, alike: Tensor) -> Tensor:
    """Steps from the nearest member towards the member before or after it, whichever is more.

    Only where these are alike to it: in a trajectory.
    """
    k = len(gram.members)
    if not bool(alike.diagonal(1).any()):
        return torch.full(first.shape, torch.nan, dtype=torch.float64)
    sides = []
    for by in (-1, 1):
        other = (first + by).clamp(0, k - 1)
        sides.append(_steps(gram, first, other).where(alike[first, other], 0.0))
    return torch.maximum(*sides)


def _steps(gram: Gram, first: Tensor, other: Tensor) -> Tensor:
    """Projection of each sample onto the way from one member to another; 0 where these coincide."""
    g, rows = gram.members, torch.arange(len(first))
    along = gram.cross[rows, other] - gram.cross[rows, first] - g[first, other] + g[first, first]
    way = g[first, first] + g[other, other] - 2 * g[first, other]
    return (along / way).nan_to_num(0.0, 0.0, 0.0).abs()
