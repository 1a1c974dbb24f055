"""Zoos whose distribution is known: linear classifiers drawn from the posterior of a Bayesian regression.

For weights with a standard normal prior and one-hot targets with Gaussian noise the posterior is a Gaussian with
known mean and covariance, independent per class. Its draws are classifiers with mistakes of their own, so
both sides of a verdict, weights and behaviour, are real, and so is the truth about every way of sampling.
"""

import torch
from torch.nn.functional import one_hot

from paramdiff.evaluation.comparison import Originals, Scored
from paramdiff.evaluation.evidence import Evidence
from paramdiff.evaluation.verdict import verdict
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo.zoo import Zoo

SHAPES = {10: (5, 2), 300: (30, 10), 3000: (300, 10)}
"""Features and classes by D."""

ITEMS = 800
TRAJECTORIES = ("walk", "curve")


class World:
    """K members and as many other networks of the same distribution as one likes.

    Args:
        dim: D, one of SHAPES.
        k: K.
        kind: ``gaussian`` posterior; ``mixture`` of three posteriors from different data; trajectories that
            forget within K / 12 steps, as a ``walk`` (Ornstein-Uhlenbeck) or a smooth ``curve``.
        rank: of the deviations; None for all D.
    """

    def __init__(self, dim, k, kind="gaussian", seed=0, n=40, rank=None):
        self.g = torch.Generator().manual_seed(10**6 * seed + dim + k)
        self.n, self.kind = n, kind
        self.features, self.classes = SHAPES[dim]
        self.teacher = self.randn(self.features, self.classes)
        self.x, self.y = self.data(ITEMS)
        modes = 3 if kind == "mixture" else 1
        self.posteriors = [self.posterior(*self.data(6 * self.features), modes) for _ in range(modes)]
        self.basis = None if rank is None else self.randn(rank, dim) / rank**0.5
        trajectory = kind in TRAJECTORIES
        path = self.path(3 * k) if trajectory else self.draw(k)
        vectors, self.later = path[:k], path[k + k // 5 :]
        spec = ParameterSpec.from_state_dict({"w": torch.zeros(dim)})
        self.zoo = Zoo(vectors, spec, {"w": vectors[0]}, about={"trajectory": trajectory})
        self.originals = Originals(self.zoo, self.scored(vectors))

    def randn(self, *shape):
        return torch.randn(*shape, generator=self.g)

    def data(self, n):
        x = self.randn(n, self.features)
        noise = 0.3 * self.features**0.5 * self.randn(n, self.classes)
        return x, (x @ self.teacher + noise).argmax(1)

    def posterior(self, x, y, modes):
        """Mean, and a factor of the covariance; narrower where there are several, so that they are apart."""
        targets = one_hot(y, self.classes).float() - 1 / self.classes
        precision = x.T @ x + torch.eye(self.features)
        mean = torch.linalg.solve(precision, x.T @ targets)
        spread = (targets - x @ mean).square().mean().sqrt() / modes
        return mean, spread * torch.linalg.cholesky(torch.linalg.inv(precision.double())).float()

    def around(self, noise):
        """Networks at these standard normal deviations [n, D] from the mean of a random posterior."""
        chosen = torch.randint(len(self.posteriors), (len(noise),), generator=self.g).tolist()
        parts = [self.posteriors[mode] for mode in chosen]
        deviations = noise.reshape(-1, self.features, self.classes)
        return torch.stack([(mean + factor @ d).flatten() for (mean, factor), d in zip(parts, deviations)])

    def noise(self, n):
        dim = self.features * self.classes
        return self.randn(n, dim) if self.basis is None else self.randn(n, len(self.basis)) @ self.basis

    def draw(self, n=None):
        """From the true distribution."""
        return self.around(self.noise(self.n if n is None else n))

    def path(self, steps):
        memory = max(2.0, steps / 36)
        apart = (torch.arange(steps).double()[:, None] - torch.arange(steps)).abs() / memory
        covariance = torch.exp(-apart if self.kind == "walk" else -apart.square() / 2)
        values, vectors = torch.linalg.eigh(covariance)
        return self.around((vectors * values.clamp_min(0).sqrt()).float() @ self.noise(steps))

    def rows(self):
        return torch.randint(self.zoo.k, (self.n,), generator=self.g)

    def replay(self, amplitude=0.02):
        """Members with noise, in units of their deviation."""
        v = self.zoo.vectors
        return v[self.rows()] + amplitude * v.std(0) * self.randn(self.n, v.shape[1])

    def averages(self, m):
        v = self.zoo.vectors
        return torch.stack([v[torch.randperm(len(v), generator=self.g)[:m]].mean(0) for _ in range(self.n)])

    def shrunk(self, vectors, temperature):
        mean = self.zoo.vectors.mean(0)
        return mean + temperature * (vectors - mean)

    def between_steps(self):
        """Points anywhere between two consecutive members."""
        v, rows = self.zoo.vectors, self.rows().clamp_max(self.zoo.k - 2)
        t = torch.rand(self.n, 1, generator=self.g)
        return (1 - t) * v[rows] + t * v[rows + 1]

    def combined(self):
        """A Gaussian with the covariance of the members: the low-rank baseline."""
        v = self.zoo.vectors
        return v.mean(0) + self.randn(self.n, len(v)) / len(v) ** 0.5 @ (v - v.mean(0))

    def scored(self, vectors):
        logits = torch.einsum("if,nfc->nic", self.x, vectors.reshape(-1, self.features, self.classes))
        correct = logits.argmax(-1) == self.y
        accuracy = correct.double().mean(1)
        return Scored(accuracy, accuracy, None, ~correct)

    def evidence(self, vectors, gap=None, **averages):
        compared = {what: self.originals.compare(v, self.scored(v)) for what, v in averages.items()}
        comparison = self.originals.compare(vectors, self.scored(vectors))
        return Evidence.of(comparison, self.originals, compared, "accuracy", 1 / self.classes, gap)

    def judge(self, vectors, gap=None):
        return verdict(self.evidence(vectors, gap))
