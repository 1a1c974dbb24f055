"""Small zoos made by hand, and feedback without a task: what contract tests fit generators to."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from paramdiff.parameters.spec import ParameterSpec
from paramdiff.seeds import generator
from paramdiff.zoo.zoo import Zoo


def toy_zoo(vectors: Float[Tensor, "K D"], positive: int = 0) -> Zoo:
    """A zoo of these vectors; the last ``positive`` coordinates are a ``running_var``."""
    base = {
        "w": vectors[0, : vectors.shape[1] - positive],
        "running_var": vectors[0, vectors.shape[1] - positive :],
    }
    base = {name: tensor for name, tensor in base.items() if tensor.numel()}
    return Zoo(vectors, ParameterSpec.from_state_dict(base, "all"), base)


def curve(k: int, dim: int) -> Float[Tensor, "K D"]:
    """A smooth closed curve through D dimensions: what a trajectory looks like."""
    angle = torch.linspace(0, 2 * math.pi, k + 1)[:k, None]
    phase = 6.28 * torch.rand(3, dim, generator=generator("phase"))
    size = torch.tensor([1.0, 0.5, 0.25])
    first, second, third = (size[i] * torch.sin((i + 1) * angle + phase[i]) for i in range(3))
    return 0.1 * (first + second + third) + 1.0


def scattered(k: int, dim: int) -> Float[Tensor, "K D"]:
    """Members without anything in common: what independent seeds look like before they are aligned."""
    return torch.randn(k, dim, generator=generator("scattered"))


class ToyFeedback:
    """Random linear items that the average of the zoo gets right: ``error = a . (v - average)``.

    An item is wrong where the error is large; the training loss is the mean square error of a batch.

    Attributes:
        asked: numbers of the batches whose gradients were computed.
        scored: networks whose mistakes were computed.
    """

    def __init__(self, vectors: Float[Tensor, "K D"], items: int = 400) -> None:
        self.average = vectors.mean(0)
        self.inputs = torch.randn(items, vectors.shape[1], generator=generator("inputs"))
        self.large = self._errors(vectors).abs().quantile(0.8)
        self.asked: list[int] = []
        self.scored = 0

    def _errors(self, vectors: Float[Tensor, "n D"]) -> Float[Tensor, "n items"]:
        return (vectors - self.average) @ self.inputs.T

    def __call__(self, vectors: Float[Tensor, "n D"]) -> Float[Tensor, "n"]:
        return -self._errors(vectors).square().mean(1)

    def mistakes(self, vectors: Float[Tensor, "n D"]) -> Bool[Tensor, "n items"]:
        self.scored += len(vectors)
        return self._errors(vectors).abs() > self.large

    def gradients(self, vectors: Float[Tensor, "n D"], batch: int) -> Float[Tensor, "n D"]:
        self.asked.append(batch)
        rows = torch.randperm(len(self.inputs), generator=generator(batch))[:16]
        return 2 * self._errors(vectors)[:, rows] @ self.inputs[rows] / len(rows)

    def training_loss(
        self, vectors: Float[Tensor, "n D"], step: int, items: int, group: int = 1, repulsion: float = 0.0
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        """Of a batch that all networks share; repulsion has no effect."""
        rows = torch.randperm(len(self.inputs), generator=generator("step", step))[:items]
        errors = self._errors(vectors)[:, rows]
        return errors.square().mean(1), 2 * errors @ self.inputs[rows] / len(rows)

    def imitation(
        self, vectors: Float[Tensor, "n D"], members: Float[Tensor, "n D"], step: int, items: int
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        """The squared difference of their errors, on a batch that all networks share."""
        rows = torch.randperm(len(self.inputs), generator=generator("step", step))[:items]
        errors = (vectors - members) @ self.inputs[rows].T
        return errors.square().mean(1), 2 * errors @ self.inputs[rows] / len(rows)

    def initial(self, seed: int) -> Float[Tensor, "D"]:
        return torch.randn(len(self.average), generator=generator("initial", seed))
