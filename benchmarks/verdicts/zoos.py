"""Zoos whose distribution is known, so that one can draw from it, copy it, and average it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from benchmarks.verdicts.networks import Population, kept, trained
from paramdiff.evaluation.comparison import Scored
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo.records import Record
from paramdiff.zoo.zoo import Zoo

Random = torch.Generator


@dataclass
class Case:
    """One zoo and what is known of it.

    Attributes:
        zoo: K members.
        draw: n more networks of the same distribution.
        score: what networks do, where they are networks; else None.
        model: the network.
        distinct: members that are no copies of others.
    """

    zoo: Zoo
    draw: Callable[[int], Tensor]
    random: Random
    score: Callable[[Tensor], Scored] | None = None
    model: nn.Module | None = None

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random)

    def rows(self, n: int) -> Tensor:
        return torch.randint(self.zoo.k, (n,), generator=self.random)


Made = Callable[[Random], Case]


def plain(draw: Callable[[int], Tensor], k: int, random: Random, **about: object) -> Case:
    vectors = draw(k)
    return Case(zoo_of(vectors, **about), draw, random)


def zoo_of(vectors: Tensor, records: list[Record] | None = None, **about: object) -> Zoo:
    spec = ParameterSpec.from_state_dict({"w": torch.zeros(vectors.shape[1])})
    return Zoo(vectors, spec, {"w": vectors[0]}, records, about)


def randn(random: Random, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=random)


# Synthetic populations ---------------------------------------------------------------------------------


def gaussian(dim: int, k: int, scales: float = 0.0) -> Made:
    """Independent coordinates; ``scales``: deviation of the logarithm of theirs."""

    def make(g: Random) -> Case:
        size, mean = (scales * randn(g, dim)).exp(), randn(g, dim)
        return plain(lambda n: mean + size * randn(g, n, dim), k, g)

    return make


def correlated(dim: int, k: int) -> Made:
    """A covariance with a decaying spectrum."""

    def make(g: Random) -> Case:
        axes = torch.linalg.qr(randn(g, dim, dim))[0] * (torch.arange(1, dim + 1) ** -0.5)
        return plain(lambda n: randn(g, n, dim) @ axes.T, k, g)

    return make


def mixture(dim: int, k: int, modes: int, width: float, even: bool = True) -> Made:
    def make(g: Random) -> Case:
        centres = randn(g, modes, dim)
        weights = torch.ones(modes) if even else torch.arange(1.0, modes + 1)
        pick = lambda n: torch.multinomial(weights, n, replacement=True, generator=g)
        return plain(lambda n: centres[pick(n)] + width * randn(g, n, dim), k, g)

    return make


def low_rank(dim: int, rank: int, k: int) -> Made:
    def make(g: Random) -> Case:
        basis = randn(g, rank, dim)
        return plain(lambda n: randn(g, n, rank) @ basis, k, g)

    return make


def manifold(dim: int, inner: int, k: int, bend: float = 1.0) -> Made:
    """A curved surface of few dimensions: random waves of a few numbers."""

    def make(g: Random) -> Case:
        waves, phase = bend * randn(g, inner, dim), 6.3 * torch.rand(dim, generator=g)
        return plain(lambda n: (randn(g, n, inner) @ waves + phase).sin(), k, g)

    return make


def sphere(dim: int, inner: int, k: int) -> Made:
    def make(g: Random) -> Case:
        basis = randn(g, inner, dim)
        return plain(lambda n: nn.functional.normalize(randn(g, n, inner)) @ basis, k, g)

    return make


def heavy(dim: int, k: int, degrees: float, together: bool) -> Made:
    """Student's t: every coordinate on its own, or one radius for a member."""

    def make(g: Random) -> Case:
        gamma = torch.distributions.Gamma(degrees / 2, degrees / 2)

        def draw(n: int) -> Tensor:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**31, (1,), generator=g)))
                return randn(g, n, dim) / gamma.sample((n, 1 if together else dim)).sqrt()

        return plain(draw, k, g)

    return make


def path(steps: int, dim: int, memory: float, g: Random, smooth: bool = False) -> Tensor:
    apart = (torch.arange(steps).double()[:, None] - torch.arange(steps)).abs() / memory
    covariance = torch.exp(-apart.square() / 2 if smooth else -apart)
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt()).float() @ randn(g, steps, dim)


def trajectory(dim: int, k: int, flag: bool, smooth: bool = False, shuffled: bool = False) -> Made:
    def make(g: Random) -> Case:
        v = path(k, dim, k / 12, g, smooth)
        v = v[torch.randperm(k, generator=g)] if shuffled else v
        return Case(zoo_of(v, trajectory=flag), lambda n: randn(g, n, dim), g)

    return make


def merged(
    dim: int, runs: int, steps: int, walk: float, record: bool = False, shuffled: bool = False
) -> Made:
    """Steps of several runs one after another: each a walk around a place of its own."""

    def make(g: Random) -> Case:
        one = lambda: randn(g, 1, dim) + walk * randn(g, steps, dim).cumsum(0) / steps**0.5
        v = torch.cat([one() for _ in range(runs)])
        records = [Record(seed=i // steps, step=i % steps) for i in range(len(v))] if record else None
        v = v[torch.randperm(len(v), generator=g)] if shuffled else v
        draw = lambda n: torch.cat([one()[torch.randint(steps, (1,), generator=g)] for _ in range(n)])
        return Case(zoo_of(v, records), draw, g)

    return make


def repeated(of: Made, kind: str) -> Made:
    """A zoo some of whose members were saved more often than once."""

    def make(g: Random) -> Case:
        case = of(g)
        v = case.zoo.vectors
        k = len(v)
        if kind == "twice":
            v = v.repeat_interleave(2, 0)
        elif kind == "twenty":  # 20 of 50 are copies of others
            v = torch.cat([v, v[torch.randint(k, (2 * k // 3,), generator=g)]])
        elif kind == "one":  # one member 20 times
            v = torch.cat([v, v[:1].expand(2 * k // 3, -1)])
        elif kind == "near":
            again = v[torch.randint(k, (k // 2,), generator=g)]
            v = torch.cat([v, again + 0.02 * v.std(0) * randn(g, *again.shape)])
        case.zoo = zoo_of(v[torch.randperm(len(v), generator=g)])
        return case

    return make


# Trained networks --------------------------------------------------------------------------------------


@cache
def population(hidden: int, tanh: bool, same_start: bool) -> Population:
    return kept(trained, hidden, nn.Tanh if tanh else nn.ReLU, 260, 7, same_start=same_start)


@cache
def several_runs(hidden: int) -> Population:
    return kept(trained, hidden, nn.ReLU, 60, 11, every=10)


def networks(hidden: int, k: int, tanh: bool = False, same_start: bool = False) -> Made:
    """Networks trained on the digits; those that are not in the zoo are its true draws."""

    def make(g: Random) -> Case:
        known = population(hidden, tanh, same_start)
        order = torch.randperm(len(known.vectors), generator=g)
        own, others = known.vectors[order[:k]], known.vectors[order[k:]]
        zoo = Zoo(own, known.spec, known.spec.unflatten(own[0]))
        return Case(
            zoo, lambda n: others[torch.randperm(len(others), generator=g)[:n]], g, known.scored, known.model
        )

    return make


def runs(hidden: int, count: int) -> Made:
    """The last steps of several trainings."""

    def make(g: Random) -> Case:
        known = several_runs(hidden)
        steps = len(known.vectors) // 60
        order = torch.randperm(60, generator=g)
        every = known.vectors.unflatten(0, (60, steps))
        zoo = Zoo(every[order[:count]].flatten(0, 1), known.spec, known.spec.unflatten(every[0, 0]))
        others = every[order[count:], -1]
        return Case(
            zoo, lambda n: others[torch.randperm(len(others), generator=g)[:n]], g, known.scored, known.model
        )

    return make


TUNED: dict[str, Made] = {
    "relu": networks(16, 60), "tanh": networks(16, 60, tanh=True), "linear": networks(0, 60),
    "gaussian": gaussian(300, 60), "high": gaussian(4000, 40), "few": gaussian(500, 16), "six": gaussian(6, 200),
    "ten": gaussian(10, 300), "correlated": correlated(300, 80), "modes": mixture(300, 120, 4, 0.25),
    "low rank": low_rank(500, 6, 100), "manifold": manifold(400, 3, 120, 0.5),
    "walk": trajectory(300, 60, True), "walk, no flag": trajectory(300, 60, False),
    "merged runs": merged(300, 8, 15, 0.3), "twenty copies": repeated(gaussian(300, 30), "twenty"),
    "twice": repeated(gaussian(300, 40), "twice"), "near copies": repeated(gaussian(300, 40), "near"),
    "heavy": heavy(200, 100, 3, False), "scales": gaussian(200, 60, 1.5),
}  # fmt: skip

HELD_OUT: dict[str, Made] = {
    "one start": networks(16, 60, same_start=True), "wide": networks(32, 40), "runs": runs(16, 10),
    "curve": trajectory(1000, 80, True, smooth=True), "curve, no flag": trajectory(1000, 80, False, smooth=True),
    "recorded runs": merged(200, 6, 20, 0.6, record=True), "radius": heavy(100, 80, 4, True),
    "uneven modes": mixture(100, 150, 6, 0.4, even=False), "sphere": sphere(300, 5, 150),
    "one twenty times": repeated(gaussian(100, 30), "one"), "twelve": low_rank(1000, 12, 60), "eight": gaussian(8, 80),
}  # fmt: skip
