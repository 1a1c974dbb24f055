r"""How alike networks behave: the overlap of their mistakes.

With :math:`P^{wrong}` the set of items a network gets wrong, the similarity of two networks is

.. math:: \mathrm{IoU} = |P_1^{wrong} \cap P_2^{wrong}| \,/\, |P_1^{wrong} \cup P_2^{wrong}|

(p-diff, eq. 7): 1 for the same mistakes, 0 for none in common. Two networks without any mistake have
similarity 1. It is a similarity of *good* networks: two that are wrong nearly everywhere have a
similarity near 1 however they differ, so compare only networks of similar accuracy.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

ITEMS_AT_ONCE = 1 << 16
"""Items per matrix product: counts below 2**24 are exact in float32, and memory stays bounded."""


def error_iou(wrong_a: Bool[Tensor, "N items"], wrong_b: Bool[Tensor, "M items"]) -> Float64[Tensor, "N M"]:
    """Similarity of every pair (eq. 7), all intersections as one matrix product per block of items."""
    both = torch.zeros(len(wrong_a), len(wrong_b), dtype=torch.float64)
    for start in range(0, wrong_a.shape[1], ITEMS_AT_ONCE):
        block = slice(start, start + ITEMS_AT_ONCE)
        both += (wrong_a[:, block].float() @ wrong_b[:, block].float().T).double()
    either = wrong_a.sum(1).double()[:, None] + wrong_b.sum(1).double() - both
    return torch.where(either > 0, both / either.clamp_min(1), 1.0)


def within(iou: Float64[Tensor, "N N"]) -> float | None:
    """Mean similarity of different networks of one set; None for a single network."""
    n = len(iou)
    return float((iou.sum() - iou.trace()) / (n * (n - 1))) if n > 1 else None


def itself(k: int) -> Bool[Tensor, "K K"]:
    """Pairs to leave out where a set is compared with itself."""
    return torch.eye(k, dtype=torch.bool)


def mean_and_max(
    iou: Float64[Tensor, "N K"], leave_out: Bool[Tensor, "N K"] | None = None
) -> tuple[Float64[Tensor, "N"], Float64[Tensor, "N"]]:
    """Mean and largest similarity of each network to the members of a zoo, without the pairs left out."""
    if leave_out is None:
        return iou.mean(1), iou.max(1).values
    counted = (~leave_out).sum(1)
    mean = iou.masked_fill(leave_out, 0).sum(1) / counted
    return mean, iou.masked_fill(leave_out, -torch.inf).max(1).values


@dataclass(frozen=True)
class Behaviour:
    """Similarities of N networks to each other and to the K members of a zoo.

    Attributes:
        within: mean similarity of different networks of the set; None for N = 1.
        mean: [N], mean similarity of each to the zoo.
        max: [N], similarity of each to the member it resembles most.
    """

    within: float | None
    mean: Float64[Tensor, "N"]
    max: Float64[Tensor, "N"]

    @classmethod
    def of(cls, wrong: Bool[Tensor, "N items"], wrong_zoo: Bool[Tensor, "K items"]) -> "Behaviour":
        """New networks against a zoo."""
        return cls(within(error_iou(wrong, wrong)), *mean_and_max(error_iou(wrong, wrong_zoo)))

    @classmethod
    def of_members(cls, wrong: Bool[Tensor, "K items"], neighbours: Bool[Tensor, "K K"]) -> "Behaviour":
        """The zoo against itself: each member's mean leaves out the member itself, its maximum also its
        temporal neighbours (:func:`paramdiff.study.novelty.neighbours`)."""
        iou = error_iou(wrong, wrong)
        mean, _ = mean_and_max(iou, itself(len(iou)))
        _, most = mean_and_max(iou, neighbours)
        return cls(within(iou), mean, most)
