r"""Weight matching: the order of hidden units in which a network lies nearest to another.

Git Re-Basin (Ainsworth et al. 2022, arXiv 2209.04836, section 3.2) reorders the units of a network ``v`` such that
its weights lie nearest to those of a reference ``r``: :math:`\max_\pi \langle r, \pi(v) \rangle`. For one group of
units, the others held, this is a linear assignment of the P x P inner products between units of ``r`` and of ``v``,
each over every weight that touches the unit. Groups are visited in random order until no assignment gains anything.
(Where a tensor has one group on both axes the inner product is quadratic in the order; it is linearised, and an order
is taken only if it gains.)

Running statistics are reordered with their units but do not count in the matching: those of BatchNorm are larger than
any weight. Weights count as they are: with every tensor scaled to unit size all networks align worse, convolutional
ones hardly at all.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paramdiff.networks.symmetry import Group, Symmetries, TensorAxis, permute
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.progress import bar
from paramdiff.seeds import generator

ROUNDING = 1e-6
"""Gains below this fraction of |r| |v| are rounding errors; without a bound equal units may swap for ever."""


def match_in_turn(
    vectors: Float[Tensor, "K D"], rows: Sequence[int], matcher: "Matcher", seed: int, what: str = "aligning"
) -> None:
    """Match each of these rows, in place, to the sum of those before it."""
    total = torch.zeros(vectors.shape[1], dtype=torch.float64)
    for i, row in enumerate(bar(rows, what, unit="member")):
        if i:
            matcher.match(vectors[row], total.to(vectors.dtype), generator("align", seed, 0, row))
        total += vectors[row]


class Matcher:
    """Reorders the units of one member."""

    def __init__(self, spec: ParameterSpec, groups: Sequence[Group], signs: bool = False) -> None:
        self.groups, self._signs = groups, signs
        self._places = [(tensor.name, spec.slices[tensor.name], tensor.shape) for tensor in spec.tensors]
        self._neighbours = [_neighbours(group, groups) for group in groups]

    def match(self, v: Float[Tensor, "D"], reference: Float[Tensor, "D"], random: torch.Generator) -> bool:
        """Bring ``v`` as near to the reference as can be, in place; returns whether anything moved."""
        own, wanted = self.views(v), self.views(reference)
        stale, anything = set(range(len(self.groups))), False
        while stale:
            for index in torch.randperm(len(self.groups), generator=random).tolist():
                if index in stale:
                    stale.remove(index)
                    if _improve(self.groups[index], own, wanted, self._signs):
                        stale |= self._neighbours[index]
                        anything = True
        return anything

    def reorder(self, v: Float[Tensor, "D"], orders: Sequence[Int[Tensor, "_"]]) -> None:
        """Bring the units of every group into a given order, in place."""
        own = self.views(v)
        for key, tensor in permute(own, Symmetries(tuple(self.groups)), orders).items():
            own[key].copy_(tensor)

    def views(self, v: Tensor) -> dict[str, Tensor]:
        """The tensors of a vector, as views of it."""
        return {name: v[part].view(shape) for name, part, shape in self._places}


def _neighbours(group: Group, groups: Sequence[Group]) -> set[int]:
    """The groups whose best order may change with this one's; itself if it has a tensor on both axes."""
    twice = len(group.places) > len(group.keys)
    return {
        i
        for i, other in enumerate(groups)
        if set(group.keys) & set(other.keys) and (other is not group or twice)
    }


def _improve(group: Group, own: dict[str, Tensor], wanted: dict[str, Tensor], signs: bool = False) -> bool:
    """Reorder one group for the largest inner product, in place, if that gains anything.

    With ``signs`` units also change theirs, where the network lets them.
    """
    from scipy.optimize import linear_sum_assignment

    learnt = [place for place in group.places if place.learnt]
    products = torch.zeros(group.size, group.size, dtype=next(iter(own.values())).dtype)
    for p in learnt:
        products += units_of(wanted[p.key], p) @ units_of(own[p.key], p).T
    flip = signs and group.odd
    order = torch.from_numpy(linear_sum_assignment(products.abs() if flip else products, maximize=True)[1])
    sign = torch.where(products[torch.arange(group.size), order] < 0, -1.0, 1.0) if flip else None
    if torch.equal(order, torch.arange(group.size)) and (sign is None or bool((sign > 0).all())):
        return False
    moved = permute({key: own[key] for key in group.keys}, Symmetries((group,)), [order])
    if sign is not None:
        multiply(moved, group, sign, sign)
    gain = size = 0.0
    for key in dict.fromkeys(place.key for place in learnt):
        gain += float((wanted[key] * (moved[key] - own[key])).sum())
        size += float(wanted[key].norm() * own[key].norm())
    if gain <= ROUNDING * size:
        return False
    for key in group.keys:
        own[key].copy_(moved[key])
    return True


def multiply(
    state: dict[str, Tensor], group: Group, makes: Float[Tensor, "P"], reads: Float[Tensor, "P"]
) -> None:
    """Multiply each unit by a number where it is made and by another where it is read, in place."""
    for place in group.places:
        factor = (makes if place.role == "makes" else reads).repeat_interleave(place.block)
        shape = [-1 if axis == place.axis else 1 for axis in range(state[place.key].ndim)]
        state[place.key].mul_(factor.to(state[place.key].dtype).view(shape))


def units_of(tensor: Tensor, place: TensorAxis) -> Float[Tensor, "P n"]:
    """All weights of each unit."""
    entries = tensor.movedim(place.axis, 0)
    return entries.reshape(len(entries) // place.block, -1)
