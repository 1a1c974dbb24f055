r"""Sets of mistakes and their overlap.

With :math:`P^{wrong}` the set of items a network gets wrong, the similarity of two networks is

.. math:: \mathrm{IoU} = |P_1^{wrong} \cap P_2^{wrong}| \,/\, |P_1^{wrong} \cup P_2^{wrong}|

(p-diff, eq. 7): 1 for the same mistakes, 0 for none in common. Two networks without any mistake have
similarity 1. It is a similarity of *good* networks: two that are wrong nearly everywhere have a
similarity near 1 however they differ, so compare only networks of similar accuracy.
"""

import torch
from jaxtyping import Bool, Float64, Shaped
from torch import Tensor

ITEMS_AT_ONCE = 1 << 16
"""Items per matrix product: counts below 2**24 are exact in float32, and memory stays bounded."""


def error_iou(wrong_a: Bool[Tensor, "N items"], wrong_b: Bool[Tensor, "M items"]) -> Float64[Tensor, "N M"]:
    """Similarity of every pair (eq. 7), all intersections as one matrix product per block of items."""
    both = _in_common(wrong_a, wrong_b)
    everything = torch.ones(1, wrong_a.shape[1], dtype=torch.bool, device=wrong_a.device)
    either = _in_common(wrong_a, everything) + _in_common(everything, wrong_b) - both
    return torch.where(either > 0, both / either.clamp_min(1), 1.0)


def _in_common(wrong_a: Bool[Tensor, "N items"], wrong_b: Bool[Tensor, "M items"]) -> Float64[Tensor, "N M"]:
    """Sizes of all intersections."""
    both = torch.zeros(len(wrong_a), len(wrong_b), dtype=torch.float64, device=wrong_a.device)
    for a, b in zip(wrong_a.split(ITEMS_AT_ONCE, 1), wrong_b.split(ITEMS_AT_ONCE, 1), strict=True):
        both += _product(a, b)
    return both


def _product(a: Bool[Tensor, "N items"], b: Bool[Tensor, "M items"]) -> Shaped[Tensor, "N M"]:
    """``a b^T``, exact: eight-bit factors where the processor's library takes them, which are several times as
    fast as float32."""
    if a.device.type == "cpu" and torch.backends.mkldnn.is_available() and a.numel() > 0:
        return torch._int_mm(a.to(torch.int8), b.to(torch.int8).T)
    return a.float() @ b.float().T
