r"""Which members of a zoo are distinct: the yardstick of a verdict leaves out what is not.

How far an independent network lies from a zoo is read off members that are left out of it. That says nothing where
what stays in is nearly the same network: a duplicate, a near-copy, a step of the same training a moment earlier. Pairs
of members that are *alike* in this sense are never compared (:func:`alike`), by whatever shows it:

* the record: members of one run, where the zoo holds several (three at least, or too little would be left);
* the flag: steps of one trajectory up to a tenth of it apart;
* the order: consecutive members are clearly nearer than members :data:`APART` places apart, and these than any two,
  as in a trajectory without its flag, or in several that were merged;
* the distance: members that lie together, far from all others (:func:`clumps`).

Modes are not runs: a mixture's members come in dense places too, but within one they are independent, so the order
says nothing and the clump is large.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from paramdiff.zoo.records import Record

COINCIDE = 0.05
"""Distance, over that typical of two members, below which two members are one network with rounding or jitter."""

ISOLATED = 1 / 3
"""Diameter of a clump over its distance to the nearest other member, below which it lies apart."""

FEW = 5
"""Members from which a clump is a mode of a mixture: independent networks that lie close together."""

ORDERED = 0.8
"""Distance of consecutive members over that of members farther apart in the zoo, below which the order counts."""

APART = 4
"""Places between members that are compared with consecutive ones."""

RUNS = 3
"""Runs from which a member is compared with other runs only."""


def neighbours(k: int, trajectory: bool = False) -> Bool[Tensor, "K K"]:
    """Pairs of members that are not compared, as the flag says it.

    Each with itself; in a trajectory also those up to K // 10 steps away (at least one). A tenth forgets most
    of what consecutive checkpoints share and leaves four fifths of the zoo. At least one member stays.
    """
    window = max(0, min(max(1, k // 10), (k - 2) // 2)) if trajectory else 0
    return _within(k, window)


def alike(
    distances: Float64[Tensor, "K K"], trajectory: bool = False, records: Sequence[Record] = ()
) -> Bool[Tensor, "K K"]:
    """Pairs of members that are not compared: symmetric, with each member itself.

    Args:
        distances: between members.
        trajectory: they are consecutive steps of one training.
        records: where they came from.
    """
    k = len(distances)
    found = neighbours(k, trajectory) | same_run(records, k) | clumps(distances)
    return found if trajectory else found | in_order(distances)


def same_run(records: Sequence[Record], k: int) -> Bool[Tensor, "K K"]:
    """Members of the same training, by their seeds and the folders they came from, if there are several trainings."""
    runs = [(record.seed, (record.source or "").rpartition("/")[0]) for record in records]
    sizes = Counter(runs)
    if len(runs) != k or len(sizes) < RUNS or max(sizes.values()) == 1:
        return torch.eye(k, dtype=torch.bool)
    number = {run: i for i, run in enumerate(sizes)}
    of = torch.tensor([number[run] for run in runs])
    return of[:, None] == of


def in_order(distances: Float64[Tensor, "K K"]) -> Bool[Tensor, "K K"]:
    """Members near in the zoo's order, if their distances grow with the places between them.

    Members up to a tenth of the zoo away, and those in the same stretch without a leap: a run that was merged with
    others ends where the next member is as far as any.
    """
    k = len(distances)
    if k < 3 * APART:
        return torch.eye(k, dtype=torch.bool)
    next_one, farther = _at(distances, 1), _at(distances, APART)
    if not _median(next_one) < ORDERED * min(_median(farther), typical(distances)):
        return torch.eye(k, dtype=torch.bool)
    leaps = next_one > typical(distances) * ORDERED
    run = torch.cat([torch.zeros(1, dtype=torch.long), leaps.long().cumsum(0)])
    together = run[:, None] == run
    runs = int(run[-1]) + 1
    return together if runs >= RUNS else together & neighbours(k, True)


def clumps(distances: Float64[Tensor, "K K"]) -> Bool[Tensor, "K K"]:
    """Members that are one network: duplicates, and few that lie together and far from all others.

    Clumps are those of single linkage, at every scale: one counts if its diameter is below ISOLATED of the
    distance to the nearest member outside, and it has fewer than FEW members or a diameter below COINCIDE.
    """
    k = len(distances)
    found = torch.eye(k, dtype=torch.bool)
    if k < 3:
        return found
    small, far = COINCIDE * typical(distances), distances.max()
    for members in _linked(distances, small):
        inside = distances[members][:, members].max()
        outside = distances[members].index_fill(1, members, torch.inf).min()
        isolated = inside <= ISOLATED * outside and inside < far * ISOLATED
        if isolated and (len(members) < FEW or inside <= small):
            found[members[:, None], members] = True
    return found


def representatives(distances: Float64[Tensor, "K K"]) -> Int[Tensor, "R"]:
    """One member of every clump, so that a network counts once however often it was saved."""
    same = clumps(distances)
    return torch.tensor([i for i, row in enumerate(same) if not bool(row[:i].any())])


def count(alike: Bool[Tensor, "K K"]) -> int:
    """Members no two of which are alike, taken greedily."""
    taken, free = 0, torch.ones(len(alike), dtype=torch.bool)
    for i, row in enumerate(alike):
        if free[i]:
            taken += 1
            free &= ~row
    return taken


def typical(distances: Float64[Tensor, "K K"]) -> float:
    """Median distance of two members."""
    k = len(distances)
    rows, columns = torch.triu_indices(k, k, 1)
    return _median(distances[rows, columns]) if k > 1 else 0.0


def _linked(distances: Tensor, small: float) -> list[Tensor]:
    """The members of the clusters of the single-linkage tree that are small in number or in width; never all."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    k = len(distances)
    tree = linkage(squareform(distances.numpy(), checks=False), "single")
    parts: list[list[int]] = [[i] for i in range(k)]
    for left, right in tree[:, :2].astype(int).tolist():
        parts.append(parts[left] + parts[right])
    joined = zip(parts[k:-1], tree[:-1, 2].tolist(), strict=True)
    return [torch.tensor(part) for part, height in joined if len(part) < FEW or height <= small]


def _at(distances: Tensor, lag: int) -> Tensor:
    return distances.diagonal(lag)


def _within(k: int, window: int) -> Tensor:
    place = torch.arange(k)
    return (place[:, None] - place).abs() <= window


def _median(values: Tensor) -> float:
    return float(values.quantile(0.5)) if len(values) else 0.0
