"""A few of many: rows evenly spread, so that a trajectory is seen from end to end."""

import torch
from jaxtyping import Int
from torch import Tensor


def evenly(n: int, most: int) -> Int[Tensor, "m"]:
    """Indices of at most ``most`` of n rows, the first and the last among them."""
    return torch.linspace(0, n - 1, min(n, most)).round().long()
