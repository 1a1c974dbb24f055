r"""Inspection of a zoo before anything is learnt from it.

Members are compared in the normalised coordinates of :mod:`paramdiff.parameters.normaliser`, in which
every coordinate has mean 0 and variance 1 over the zoo. With ``X [K, D]`` the normalised members, the
Gram matrix ``G = X X^T [K, K]`` holds all that is needed: its eigenvalues ``lambda_i`` are the spectrum
of the between-checkpoint variation, ``(sum lambda)^2 / sum lambda^2`` is the number of directions in
which members effectively vary (the participation ratio), ``sqrt(G_ii)`` is a member's distance from
the mean and ``G_ij / sqrt(G_ii G_jj)`` the cosine between two members' deviations. It is summed over
blocks of coordinates, so memory is K x block.

Whether members lie in one basin of the loss shows at the midpoint of two of them: within a basin it
scores like its ends, between basins it falls (linear mode connectivity, Frankle et al. 2020,
arXiv 1912.05671). Mixtures of members of several basins do not work.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from paramdiff.devices import IN_CACHE, blocks, pieces_within
from paramdiff.parameters.normaliser import Normaliser
from paramdiff.seeds import generator
from paramdiff.zoo.diagnostics import Basin, Inspection, ScoreDiagnostics, Spectrum, TensorDiagnostics
from paramdiff.zoo.recommendations import recommend
from paramdiff.zoo.zoo import Zoo

FAR_AWAY = 5.0
"""A member this many times further from the mean than the median member dominates mean and scale."""

NEARLY_A_COPY = 0.1
"""Of the median distance between members: one that is nearer than that to another tells nothing new. A copy with
noise of a tenth of each coordinate's deviation has 0.07; consecutive steps of a random walk of 200 have 0.12."""

BARRIER_TOLERANCE = 0.02
"""Fall of the score at midpoints that still counts as one basin, relative to the members' scores: Frankle
et al. call two networks linearly connected below 2 % of error."""

OUTLYING_SCORE = 5.0
"""Scores this many robust standard deviations from the median are those of failed trainings; normally
distributed scores stay within 5 in zoos of any practical size."""

SCORE_RESOLUTION = 0.01
"""The least robust standard deviation, relative to the median: scores that hardly differ have no outliers."""

MAD_TO_STD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


def inspect(
    zoo: Zoo, midpoint: Callable[[Tensor], Tensor] | None = None, pairs: int = 10, seed: int = 0,
    higher_is_better: bool = True,
) -> Inspection:  # fmt: skip
    """Numbers about a zoo and recommendations; a broken zoo (K = 1, NaN, no variation) is reported, never raised.

    Args:
        zoo: K members of D parameters.
        midpoint: scores raw vectors ``[n, D] -> [n]``; without it, basins are not looked at.
        pairs: how many random pairs of members are scored, with their midpoints.
        seed: for the choice of the pairs.
        higher_is_better: direction of the score.
    """
    nonfinite = zoo.nonfinite()
    broken = {member for member, _ in nonfinite}
    rows = [row for row in range(zoo.k) if row not in broken]
    tensors, constant, gram = _stream(zoo, rows)
    duplicates = _duplicates(zoo.vectors, rows)
    facts = Inspection(
        k=zoo.k, dim=zoo.dim, select=zoo.spec.select, trajectory=zoo.trajectory, tensors=tensors,
        duplicates=duplicates, near_duplicates=_near(gram, rows, duplicates), nonfinite=nonfinite, constant=constant,
        spectrum=_spectrum(gram, rows, zoo.trajectory), scores=_scores(zoo),
        basin=measure_basin(zoo, midpoint, pairs, seed, higher_is_better) if midpoint else None,
        notes=list(zoo.about.get("notes", ())), aligned=zoo.about.get("aligned"),
        near_chance=str(zoo.about.get("near_chance") or ""),
    )  # fmt: skip
    facts.recommendations = recommend(facts)
    return facts


def _stream(zoo: Zoo, rows: Sequence[int]) -> tuple[list[TensorDiagnostics], float, Float64[Tensor, "n n"]]:
    """One pass over the coordinates of some members: tensors, share of constant coordinates, Gram matrix."""
    gram, tensors, constant = torch.zeros(len(rows), len(rows), dtype=torch.float64), [], 0
    for spec, part in zip(zoo.spec.tensors, zoo.spec.slices.values()):
        std = squares = 0.0
        for block in _blocks(part, len(rows)):
            v = zoo.vectors[:, block][rows].double()
            normaliser = Normaliser.fit(v, zoo.spec.positive[block])
            x = torch.where(normaliser.constant, 0.0, normaliser.normalise(v))
            gram += (x @ x.T).double()
            constant += int(normaliser.constant.sum())
            std += float(v.std(0, correction=0).sum())
            squares += float(v.square().sum())
        rms = math.sqrt(squares / max(1, spec.numel * len(rows)))
        relative = std / spec.numel / rms if rms > 0 else 0.0
        tensors.append(TensorDiagnostics(spec.name, list(spec.shape), spec.dtype, relative))
    return tensors, constant / max(1, zoo.dim), gram


def _blocks(part: slice, k: int) -> Iterator[slice]:
    """A tensor's coordinates in blocks; none if there are no members."""
    return blocks(part.stop - part.start if k else 0, pieces_within(IN_CACHE, k), part.start)


def _duplicates(vectors: Float[Tensor, "K D"], rows: Sequence[int]) -> list[int]:
    """Those of some rows that have the same bits as an earlier one."""
    seen: dict[bytes, int] = {}
    for row in rows:
        bits = vectors[row].contiguous().view(torch.uint8).numpy().data
        seen.setdefault(hashlib.blake2b(bits).digest(), row)
    return sorted(set(rows) - set(seen.values()))


def _near(gram: Float64[Tensor, "n n"], rows: Sequence[int], copies: Sequence[int]) -> list[int]:
    """Those of some rows, none of them an exact copy, that lie near an earlier one that does not itself."""
    exact = set(copies)
    own = [i for i, row in enumerate(rows) if row not in exact]
    if len(own) < 2:
        return []
    distinct = gram[own][:, own]
    sizes = distinct.diagonal()
    distances = (sizes[:, None] + sizes - 2 * distinct).clamp_min(0).sqrt()
    limit = NEARLY_A_COPY * float(distances[torch.ones_like(distances).triu(1).bool()].median())
    near, kept = [], torch.zeros(len(own), dtype=torch.bool)
    for i, row in enumerate(distances):
        if bool((row[kept] < limit).any()):
            near.append(rows[own[i]])
        else:
            kept[i] = True
    return near


def _spectrum(gram: Float64[Tensor, "n n"], rows: Sequence[int], trajectory: bool) -> Spectrum | None:
    """Everything that follows from the Gram matrix; ``None`` without variation."""
    if len(gram) < 2 or float(gram.trace()) <= 0:
        return None
    shares = torch.linalg.eigvalsh(gram).flip(0)[:-1].clamp_min(0)  # deviations from a mean: rank K - 1
    shares = shares / shares.sum()
    distances = gram.diagonal().clamp_min(0).sqrt()
    far = (distances > FAR_AWAY * distances.median()).nonzero().flatten().tolist()
    spectrum = Spectrum(
        fractions=shares.tolist(), participation_ratio=1 / float(shares.square().sum()),
        components_90=_components(shares, 0.90), components_99=_components(shares, 0.99),
        far_members=[rows[i] for i in far],
    )  # fmt: skip
    if trajectory and len(gram) > 2:
        cosines = gram / (distances[:, None] * distances).clamp_min(torch.finfo(torch.float64).tiny)
        spectrum.successive_cosine = float(cosines.diagonal(1).mean())
        spectrum.other_cosine = float(cosines[torch.ones_like(gram).triu(2).bool()].mean())
    return spectrum


def _components(shares: Float64[Tensor, "m"], most: float) -> int:
    """Number of leading components that hold at least ``most`` of the variance."""
    return min(len(shares), int((shares.cumsum(0) < most).sum()) + 1)


def _scores(zoo: Zoo) -> dict[str, ScoreDiagnostics]:
    names = dict.fromkeys(name for record in zoo.records for name in record.scores)
    known = {
        name: {
            i: r.scores[name]
            for i, r in enumerate(zoo.records)
            if math.isfinite(r.scores.get(name, math.nan))
        }
        for name in names
    }
    return {name: _score_facts(values) for name, values in known.items() if values}


def _score_facts(values: dict[int, float]) -> ScoreDiagnostics:
    """Of the scores by member."""
    x = torch.tensor(list(values.values()), dtype=torch.float64)
    median = float(x.quantile(0.5))
    spread = max(MAD_TO_STD * float((x - median).abs().quantile(0.5)), SCORE_RESOLUTION * abs(median))
    low, high = median - OUTLYING_SCORE * spread, median + OUTLYING_SCORE * spread
    return ScoreDiagnostics(
        known=len(x), mean=float(x.mean()), std=float(x.std(correction=0)), median=median,
        least=float(x.min()), most=float(x.max()), usual=[low, high],
        outliers=[member for member, value in values.items() if not low <= value <= high],
    )  # fmt: skip


def measure_basin(
    zoo: Zoo, score: Callable[[Tensor], Tensor], pairs: int = 10, seed: int = 0, higher_is_better: bool = True
) -> Basin | None:
    """Score random pairs of finite members and their midpoints; ``None`` if there is no pair.

    Args:
        zoo: K members of D parameters.
        score: scores raw vectors ``[n, D] -> [n]``.
        pairs: how many.
        seed: for their choice; zoos of the same members get the same pairs.
        higher_is_better: direction of the score.
    """
    broken = {member for member, _ in zoo.nonfinite()}
    chosen = _pairs([row for row in range(zoo.k) if row not in broken], pairs, seed)
    if not chosen:
        return None
    members = sorted({member for pair in chosen for member in pair})
    middles = torch.stack([zoo.vectors[pair].double().mean(0) for pair in chosen]).to(zoo.vectors.dtype)
    scores = score(torch.cat([zoo.vectors[members], middles])).detach().double().cpu()
    by_member = dict(zip(members, scores.tolist()))
    ends = torch.tensor([[by_member[i], by_member[j]] for i, j in chosen], dtype=torch.float64)
    return _judge(chosen, ends, scores[len(members) :], higher_is_better)


def _judge(
    pairs: list[list[int]], ends: Float64[Tensor, "n 2"], middles: Float64[Tensor, "n"], higher: bool
) -> Basin:
    """One basin if midpoints are not worse than members by more than the tolerance; NaN is worse."""
    members, midpoints, sign = float(ends.mean()), float(middles.mean()), 1 if higher else -1
    barrier = sign * (members - midpoints)
    # Scores may lie around 0, as log-likelihood ratios do; then their spread is their size.
    tolerance = BARRIER_TOLERANCE * max(abs(members), float(ends.std(correction=0)))
    return Basin(
        pairs=pairs, member_scores=[_finite(x) for x in ends.mean(1).tolist()],
        midpoint_scores=[_finite(x) for x in middles.tolist()],
        members=_finite(members), midpoints=_finite(midpoints), barrier=_finite(barrier),
        tolerance=_finite(tolerance), one_basin=barrier <= tolerance if math.isfinite(members) else None,
    )  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _pairs(members: Sequence[int], count: int, seed: int) -> list[list[int]]:
    """``count`` different random pairs of members, or all if there are fewer; disjoint while that lasts."""
    k, random = len(members), generator("inspect", seed)
    found: dict[tuple[int, int], None] = {}  # a set that keeps its order
    while len(found) < min(count, k * (k - 1) // 2):
        order = [members[i] for i in torch.randperm(k, generator=random).tolist()]
        found |= dict.fromkeys((min(pair), max(pair)) for pair in zip(order[::2], order[1::2]))
    return [list(pair) for pair in found][: max(0, count)]
