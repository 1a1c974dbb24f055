"""Distributions that are known, for asking how well a prior has learnt one from K draws of it.

A :class:`World` draws, says of every point how far it is from what the draws lie around (the nearest mode, the ring),
and to which mode it belongs. *In* a mode is whatever is no farther than all but a thousandth of true draws are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from paramdiff.seeds import generator

TRUTH = 20_000
"""Draws that stand for a world itself."""

INSIDE = 0.999

PROJECTIONS = 64


@dataclass(frozen=True)
class Mixture:
    """Modes of different weight and width; ``tails`` are the degrees of freedom of a Student t, 0 for a Gaussian.

    Attributes:
        centres: [M, d].
        widths: deviation of each mode.
        weights: of each mode; they add up to 1.
    """

    centres: Tensor
    widths: Tensor
    weights: Tensor
    tails: int = 0

    def draw(self, n: int, draw: torch.Generator) -> Tensor:
        which = torch.multinomial(self.weights, n, replacement=True, generator=draw)
        noise = torch.randn(n, self.centres.shape[1], generator=draw)
        if self.tails:
            power = torch.randn(n, self.tails, generator=draw).square().mean(1, keepdim=True)
            noise = noise / power.sqrt()
        return self.centres[which] + self.widths[which, None] * noise

    def distances(self, x: Tensor) -> Tensor:
        """[n, M], in widths of each mode."""
        return torch.cdist(x, self.centres) / self.widths


@dataclass(frozen=True)
class Ring:
    """A circle of radius 1 in a random plane, with noise in all directions."""

    plane: Tensor
    width: float

    def draw(self, n: int, draw: torch.Generator) -> Tensor:
        angle = 2 * math.pi * torch.rand(n, generator=draw)
        noise = self.width * torch.randn(n, self.plane.shape[1], generator=draw)
        return torch.stack([angle.cos(), angle.sin()], 1) @ self.plane + noise

    def distances(self, x: Tensor) -> Tensor:
        flat = x @ self.plane.T
        away = (x - flat @ self.plane).square().sum(1) + (flat.norm(dim=1) - 1).square()
        return (away.sqrt() / self.width)[:, None]


@dataclass(frozen=True)
class Linear:
    """A Gaussian with the covariance of ``factor``, [r, d]."""

    factor: Tensor

    def draw(self, n: int, draw: torch.Generator) -> Tensor:
        return torch.randn(n, len(self.factor), generator=draw) @ self.factor

    def distances(self, x: Tensor) -> None:
        return None


@dataclass(frozen=True)
class World:
    """A known distribution by name."""

    name: str
    shape: Mixture | Ring | Linear

    def draw(self, n: int, seed: int = 0) -> Tensor:
        return self.shape.draw(n, generator("world", self.name, seed))

    @cached_property
    def truth(self) -> Tensor:
        return self.draw(TRUTH, -1)

    @cached_property
    def _radius(self) -> Tensor:
        distances = self.shape.distances(self.truth)
        assert distances is not None
        return distances.min(1).values.quantile(INSIDE)

    def inside(self, x: Tensor) -> float | None:
        """Share of points in a mode, 0.999 of true draws; None for a world without modes."""
        distances = self.shape.distances(x)
        return None if distances is None else float((distances.min(1).values <= self._radius).double().mean())

    def weights(self, x: Tensor) -> Tensor | None:
        """Share of points nearest to each mode; None for a world with fewer than two."""
        distances = self.shape.distances(x)
        if distances is None or distances.shape[1] < 2:
            return None
        return torch.bincount(distances.argmin(1), minlength=distances.shape[1]) / len(x)

    def within(self, x: Tensor) -> float:
        """Median squared distance to the mode a point is nearest to, or total variance where there are no modes, over
        that of true draws."""
        return self._spread(x) / self._spread(self.truth)

    def _spread(self, x: Tensor) -> float:
        if not isinstance(self.shape, Mixture):
            return float(x.var(0).sum())
        nearest = self.shape.distances(x).argmin(1)
        return float((x - self.shape.centres[nearest]).square().sum(1).median())

    @cached_property
    def _directions(self) -> Tensor:
        directions = torch.randn(
            PROJECTIONS, self.truth.shape[1], generator=generator("directions", self.name)
        )
        return (directions / directions.norm(dim=1, keepdim=True)).T

    @cached_property
    def _sorted(self) -> Tensor:
        return (self.truth @ self._directions).sort(0).values

    def distance(self, x: Tensor) -> float:
        """Sliced Wasserstein distance (Rabin et al. 2012) to the world."""
        own = (x @ self._directions).sort(0).values
        place = (torch.arange(len(x)) + 0.5) * TRUTH / len(x)
        return float((own - self._sorted[place.long()]).abs().mean())

    def noise(self, n: int, times: int = 10) -> float:
        """The distance that n true draws have, in the mean."""
        return sum(self.distance(self.draw(n, 1000 + i)) for i in range(times)) / times


def _centres(name: str, modes: int, dim: int) -> Tensor:
    return torch.randn(modes, dim, generator=generator("centres", name))


def _basis(name: str, rows: int, dim: int) -> Tensor:
    return torch.linalg.qr(torch.randn(dim, rows, generator=generator("basis", name)))[0].T


def _low_rank(name: str, deviations: Sequence[float], dim: int) -> Tensor:
    return torch.tensor(deviations)[:, None] * _basis(name, len(deviations), dim)


def _modes() -> Mixture:
    return Mixture(_centres("modes", 4, 6), torch.full((4,), 0.15), torch.full((4,), 0.25))


def _skewed() -> Mixture:
    weights = torch.tensor([0.6, 0.3, 0.1])
    return Mixture(_centres("skewed", 3, 6), torch.tensor([0.1, 0.2, 0.3]), weights, tails=6)


WORLDS: dict[str, Callable[[], Mixture | Ring | Linear]] = {
    "modes": _modes,
    "skewed": _skewed,
    "ring": lambda: Ring(_basis("ring", 2, 8), 0.05),
    "gaussian": lambda: Linear(torch.eye(8)),
    "low rank": lambda: Linear(_low_rank("low rank", (1.0, 0.7, 0.5, 0.35, 0.25), 32)),
}


def world(name: str) -> World:
    return World(name, WORLDS[name]())
