"""Small zoos made by hand, and settings with which every generator fits them in a moment."""

import math
from typing import Any

import torch
from torch import Tensor

from paramdiff.parameters.spec import ParameterSpec
from paramdiff.seeds import generator
from paramdiff.zoo.zoo import Zoo

QUICK: dict[str, dict[str, Any]] = {
    "average-of-k": {"k": 3},
    "p-diff": {
        "latent": 8, "channels": [8, 8], "strides": [4, 1], "autoencoder_steps": 20, "steps": 20, "width": 16
    },
    "p-diff-linear": {"components": 6, "steps": 20, "width": 16},
}  # fmt: skip


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
