"""Tied weights: several keys of a state dict that hold one and the same tensor."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy


def tied_keys(state: Mapping[str, Tensor]) -> list[list[str]]:
    """Keys grouped by the memory they stand for, in state-dict order.

    Take the state dict with ``keep_vars=True`` where the model may live on the ``meta`` device: there,
    only the parameter object itself tells that it is shared.
    """
    groups: dict[Any, list[str]] = {}
    for name, tensor in state.items():
        if isinstance(tensor, Tensor):
            groups.setdefault(_identity(tensor), []).append(name)
    return list(groups.values())


def _identity(tensor: Tensor) -> Any:
    """Equal for tensors that are the same object or cover the same memory in the same way."""
    if is_lazy(tensor) or tensor.is_meta or tensor.numel() == 0:
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype
