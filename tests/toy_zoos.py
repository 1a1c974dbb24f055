"""Small zoos made by hand, and settings with which every generator fits them in a moment."""

import math
from typing import Any

import torch
from torch import Tensor

from paramdiff.generators import Generator, make
from paramdiff.generators.context import FitContext
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.seeds import generator
from paramdiff.zoo.zoo import Zoo

SMALL = {"latent": 8, "channels": [8, 8], "strides": [4, 1], "steps": 20}
SHORT = {"steps": 20, "width": 16}
QUICK: dict[str, dict[str, Any]] = {
    "average-of-k": {"k": 3},
    "p-diff": {"autoencoder": SMALL, "diffusion": SHORT},
    "vae": {"autoencoder": SMALL},
    "autoencoder-kde": {"autoencoder": SMALL},
    "latent-noise": {"autoencoder": SMALL},
    "p-diff-linear": {"autoencoder": {"components": 6}, "diffusion": SHORT},
}


def quick(name: str, **settings: Any) -> Generator:
    """A generator with few steps and small parts.

    Args:
        settings: others than by default; those of a part by its name, ``autoencoder={"latent": 4}``.
    """
    small = QUICK.get(name, {})
    parts = {
        key: {**small.get(key, {}), **value} for key, value in settings.items() if isinstance(value, dict)
    }
    return make(name, **{**small, **settings, **parts})


def toy_zoo(vectors: Tensor, positive: int = 0) -> Zoo:
    """A zoo of these vectors; the last ``positive`` coordinates are a ``running_var``."""
    base = {
        "w": vectors[0, : vectors.shape[1] - positive],
        "running_var": vectors[0, vectors.shape[1] - positive :],
    }
    base = {name: tensor for name, tensor in base.items() if tensor.numel()}
    return Zoo(vectors, ParameterSpec.from_state_dict(base, "all"), base)


def curve(k: int, dim: int) -> Tensor:
    """A smooth closed curve through D dimensions: what a trajectory looks like."""
    angle = torch.linspace(0, 2 * math.pi, k + 1)[:k, None]
    phase = 6.28 * torch.rand(3, dim, generator=generator("phase"))
    size = torch.tensor([1.0, 0.5, 0.25])
    return 0.1 * sum(size[i] * torch.sin((i + 1) * angle + phase[i]) for i in range(3)) + 1.0


def scattered(k: int, dim: int) -> Tensor:
    """Members without anything in common: what seeds that are not aligned look like."""
    return torch.randn(k, dim, generator=generator("scattered"))


class ToyFeedback:
    """Random linear items of which the zoo's average has each right: ``error = a . (v - average)``.

    An item is wrong where the error is large; the training loss is its mean square over a batch.

    Attributes:
        asked: numbers of the batches whose gradients were asked for.
        scored: networks whose mistakes were asked for.
    """

    def __init__(self, vectors: Tensor, items: int = 400) -> None:
        self.average = vectors.mean(0)
        self.inputs = torch.randn(items, vectors.shape[1], generator=generator("inputs"))
        self.large = self._errors(vectors).abs().quantile(0.8)
        self.asked: list[int] = []
        self.scored = 0

    def _errors(self, vectors: Tensor) -> Tensor:
        return (vectors - self.average) @ self.inputs.T

    def __call__(self, vectors: Tensor) -> Tensor:
        return -self._errors(vectors).square().mean(1)

    def mistakes(self, vectors: Tensor) -> Tensor:
        self.scored += len(vectors)
        return self._errors(vectors).abs() > self.large

    def gradients(self, vectors: Tensor, batch: int) -> Tensor:
        self.asked.append(batch)
        rows = torch.randperm(len(self.inputs), generator=generator(batch))[:16]
        return 2 * self._errors(vectors)[:, rows] @ self.inputs[rows] / len(rows)


def fitted_to(made: Generator, zoo: Zoo) -> Generator:
    """Fitted, with what it needs beside the zoo."""
    if made.matches:
        return made.fit(zoo, FitContext(ToyFeedback(zoo.vectors), reference=curve(5, zoo.dim)))
    return made.fit(zoo)


def drawn_from(fitted: Generator, n: int, seed: int = 0) -> Tensor:
    """Samples, with the feedback of a task where it asks for it."""
    assert fitted.normaliser is not None
    feedback = ToyFeedback(fitted.normaliser.mean.float()[None] + curve(3, len(fitted.normaliser.mean)))
    return fitted.sample(n, seed, context=FitContext(feedback if fitted.asks else None))
