r"""Convolutions and attention in bfloat16, everything else in float32.

Scoring spends its time in products of large matrices, and there many processors and all recent accelerators
are two to four times as fast in bfloat16. Only the factors are rounded, to 8 bits; sums, normalisation and
everything between are float32. What is applied once per item, such as the layer that gives the logits, costs
little and stays exact: rounded logits would tie. ``torch.autocast`` rounds those too, and on a CPU with
AVX-512 it gained 9% more.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from paramdiff.errors import check_choice

PRECISIONS = ("auto", "float32", "bfloat16")

LARGE = 1_000_000
"""Parameters from which ``auto`` rounds; in smaller networks there is little to gain."""

_PRODUCTS = {
    torch.conv1d, torch.conv2d, torch.conv3d, functional.linear, torch.matmul, torch.bmm, Tensor.matmul,
    Tensor.__matmul__, Tensor.bmm, functional.scaled_dot_product_attention,
}  # fmt: skip


class RoundedProducts(TorchFunctionMode):
    """Inside, products at many positions of an item take bfloat16 factors and give float32."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function not in _PRODUCTS or not _at_many_positions(args):
            return function(*args, **kwargs)
        rounded = {key: _round(value) for key, value in kwargs.items()}
        return function(*map(_round, args), **rounded).float()


def _at_many_positions(args: Iterable[Any]) -> bool:
    first = next(iter(args), None)
    return isinstance(first, Tensor) and first.dtype == torch.float32 and first.ndim > 2


def _round(value: Any) -> Any:
    return value.bfloat16() if isinstance(value, Tensor) and value.dtype == torch.float32 else value


def products(precision: str, parameters: int, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which a network runs.

    Args:
        precision: ``float32``, ``bfloat16``, or ``auto``: the latter where the device is fast at it and the
            network has a million ``parameters``.

    Raises:
        ConfigError: another word.
    """
    check_choice("precision", precision, PRECISIONS)
    rounds = precision == "bfloat16" or (precision == "auto" and parameters >= LARGE and is_fast(device))
    return RoundedProducts() if rounds else nullcontext()


def is_fast(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        known = (torch.cpu._is_avx512_bf16_supported, torch.cpu._is_amx_tile_supported)
        return any(ask() for ask in known)
    return False
