r"""Independently trained members in one basin: their hidden units in a common order.

Trainings from different seeds agree only up to the order of hidden units, so a mixture of two members mixes
units that have nothing to do with each other. Weight matching (Git Re-Basin, Ainsworth et al. 2022,
arXiv 2209.04836) reorders the units of a member ``v`` such that it lies nearest to a reference ``r``:
``max over permutations pi of <r, pi(v)>``. The member computes the same function before and after.

For one group of units, the others held, this is a linear assignment of the P x P inner products between
units of ``r`` and of ``v``, each over every weight that touches the unit. Groups are visited in random order
until no assignment gains anything. (Where a tensor has one group on both axes the inner product is quadratic
in the order; it is linearised, and an order is taken only if it gains.)

The reference is the sum of the other members. In the first round it grows: member k is matched to the sum of
those before it. Measured on networks for the digits (test accuracy in %, means over three seeds of the order;
200 MLPs 64-50-25-10, 60 networks of two convolutions and two linear layers without and with BatchNorm):

    reference            midpoint of two members    average of all members
    not aligned          65   55   58               10   10   10
    first member         91   89   90               91   75   71
    growing sum          92   89   93               90   79   89
    and 3 more rounds    92   90   94               90   77   89

Running statistics are reordered with their units but do not count in the matching: those of BatchNorm are larger than
any weight, and with them the last average is 69. Weights count as they are: with every tensor scaled to unit size all
networks align worse, convolutional ones hardly at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paramdiff.devices import suitable_threads
from paramdiff.networks.symmetry import Group, Symmetries, TensorAxis, find_symmetries, permute
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.progress import bar
from paramdiff.seeds import generator
from paramdiff.zoo.diagnostics import Basin
from paramdiff.zoo.inspection import measure_basin
from paramdiff.zoo.zoo import Zoo

ROUNDS = 3
"""Rounds after the first. Each gains less than the one before."""

ROUNDING = 1e-6
"""Gains below this fraction of |r| |v| are rounding errors; without a bound equal units may swap for ever."""


@dataclass
class Alignment:
    """What was aligned, as kept in ``Zoo.about["aligned"]``.

    Attributes:
        groups: groups of hidden units that were put in a common order.
        of: groups that the network has; a group is left alone unless all of its tensors are generated.
        rounds: passes over the members.
        seed: of the order in which groups are visited.
        before, after: scores of members and midpoints of pairs; ``None`` if nothing was scored.
    """

    groups: int
    of: int
    rounds: int
    seed: int
    before: Basin | None = None
    after: Basin | None = None


def align(zoo: Zoo, symmetries: Symmetries, seed: int = 0, rounds: int = ROUNDS) -> tuple[Zoo, Alignment]:
    """The same members with their units in a common order, and what was done.

    Members that hold NaN or Inf stay as they are.

    Args:
        zoo: K members of D parameters.
        symmetries: of their network (:func:`paramdiff.networks.symmetry.find_symmetries`).
        seed: of the order in which groups are visited.
        rounds: passes over the members after the first; fewer if nothing moves any more.
    """
    within = symmetries.within(zoo.spec.names)
    broken = {row for row, _ in zoo.nonfinite()}
    rows = [row for row in range(zoo.k) if row not in broken]
    vectors, matcher = zoo.vectors.clone(), Matcher(zoo.spec, within.groups)
    done = match_all(vectors, rows, matcher, seed, rounds) if within.groups else 0
    facts = Alignment(len(within.groups), len(symmetries.groups), done, seed)
    return Zoo(vectors, zoo.spec, zoo.base, zoo.records, zoo.about | {"aligned": asdict(facts)}), facts


def align_zoo(
    zoo: Zoo, model: nn.Module, auto: bool = True, score: Callable[[Tensor], Tensor] | None = None,
    higher_is_better: bool = True, seed: int = 0,
) -> Zoo:  # fmt: skip
    """The zoo with its units in a common order where that can be done and helps; else as it was.

    ``about["notes"]`` says what was done or why not. With a score, members must score as before (else the
    network has operations that its graph does not show) and the barrier is kept for the report.

    Args:
        zoo: K members of D parameters.
        model: the network they belong to.
        auto: leave alone what needs no alignment (one trajectory, members in one basin), and what gets no
            better by it.
        score: scores raw vectors ``[n, D] -> [n]``.
        higher_is_better: direction of the score.
        seed: of the order in which groups are visited, and of the pairs that are scored.
    """
    if auto and zoo.trajectory:
        return zoo
    symmetries = find_symmetries(model)
    if isinstance(symmetries, str):
        return _noted(zoo, f"hidden units were not aligned: {symmetries}")
    if not symmetries.within(zoo.spec.names).groups:
        return _noted(zoo, f"hidden units were not aligned: the selection {zoo.spec.select!r} holds none of "
                      f"the {len(symmetries.groups)} groups of them with all of its tensors")  # fmt: skip
    basin = lambda zoo: score and measure_basin(zoo, score, seed=seed, higher_is_better=higher_is_better)
    before = basin(zoo)
    if auto and before and before.one_basin:
        return zoo
    with suitable_threads(zoo.dim):
        aligned, facts = align(zoo, symmetries, seed)
    facts.before, facts.after = before, basin(aligned)
    objection = _objection(facts, auto)
    if objection:
        return _noted(zoo, f"hidden units were not aligned: {objection}")
    aligned.about["aligned"] = asdict(facts)
    return _noted(aligned, f"{facts.groups} of {facts.of} groups of hidden units were put in a common order"
                  + _midpoints(facts))  # fmt: skip


def _objection(facts: Alignment, auto: bool) -> str | None:
    """Why an alignment should not be used, judged by the scores before and after; empty if it should."""
    before, after = facts.before, facts.after
    if before is None or after is None or before.tolerance is None:
        return None
    pairs = zip(before.member_scores, after.member_scores)
    if any(a is not None and (b is None or abs(a - b) > before.tolerance) for a, b in pairs):
        return "members score differently when they are reordered, so the traced graph does not tell all"
    worse = before.barrier is not None and (after.barrier is None or after.barrier >= before.barrier)
    return f"it does not help{_midpoints(facts)}" if auto and worse else None


def _midpoints(facts: Alignment) -> str:
    if facts.before is None or facts.after is None:
        return ""
    before, after = (
        "NaN" if basin.midpoints is None else f"{basin.midpoints:.4g}"
        for basin in (facts.before, facts.after)
    )
    return f" (midpoints of members score {before} before, {after} after)"


def _noted(zoo: Zoo, note: str) -> Zoo:
    about = zoo.about | {"notes": [*zoo.about.get("notes", ()), note]}
    return Zoo(zoo.vectors, zoo.spec, zoo.base, zoo.records, about)


def match_all(
    vectors: Float[Tensor, "K D"], rows: Sequence[int], matcher: "Matcher", seed: int, rounds: int,
    what: str = "aligning",
) -> int:  # fmt: skip
    """Match each member to the sum of the others that are in place, round by round; returns the rounds."""
    total = torch.zeros(vectors.shape[1], dtype=torch.float64)
    for number in range(1 + rounds):
        moved = False
        for i, row in enumerate(bar(rows, f"{what}, round {number + 1}", unit="member")):
            if number:
                total -= vectors[row]
            if number or i:
                random = generator("align", seed, number, row)
                moved |= matcher.match(vectors[row], total.to(vectors.dtype), random)
            total += vectors[row]
        if not moved:
            break
    return number + 1


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

    def views(self, v: Tensor) -> dict[str, Tensor]:
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
