r"""How alike networks behave: the overlap of their mistakes.

The similarity of two networks is the error-IoU of :mod:`paramdiff.mistakes` (p-diff, eq. 7). Here are the
numbers that a comparison takes from its matrices: among a set, to a zoo, to the nearest member.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float16, Float64
from torch import Tensor

from paramdiff.mistakes import error_iou
from paramdiff.thinning import evenly

KEPT = 200
"""Networks whose similarities are kept pair by pair: 80 kB per matrix, and 20,000 pairs for a distribution."""


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


def kept_pairs(iou: Float64[Tensor, "N K"], most: int = KEPT) -> Float16[Tensor, "n k"]:
    """Rows and columns evenly spread over the matrix, at most ``most`` of each; a figure shows no more."""
    rows, columns = (evenly(size, most) for size in iou.shape)
    return iou[rows][:, columns].half()


@dataclass(frozen=True)
class Behaviour:
    """Similarities of N networks to each other and to the K members of a zoo.

    Attributes:
        within: mean similarity of different networks of the set; None for N = 1.
        mean: [N], mean similarity of each to the zoo.
        max: [N], similarity of each to the member it resembles most.
        pairs: of some of the networks, to be drawn: ``iou_within`` to each other, ``iou_between`` to members
            (:func:`kept_pairs`); without the latter for the zoo itself.
    """

    within: float | None
    mean: Float64[Tensor, "N"]
    max: Float64[Tensor, "N"]
    pairs: dict[str, Float16[Tensor, "_ _"]] = field(default_factory=dict)

    @classmethod
    def of(cls, wrong: Bool[Tensor, "N items"], wrong_zoo: Bool[Tensor, "K items"]) -> "Behaviour":
        """New networks against a zoo."""
        among, between = error_iou(wrong, wrong), error_iou(wrong, wrong_zoo)
        pairs = {"iou_within": kept_pairs(among), "iou_between": kept_pairs(between)}
        return cls(within(among), *mean_and_max(between), pairs)

    @classmethod
    def of_members(cls, wrong: Bool[Tensor, "K items"], neighbours: Bool[Tensor, "K K"]) -> "Behaviour":
        """The zoo against itself: each member's mean leaves out the member itself, its maximum also its
        temporal neighbours (:func:`paramdiff.study.novelty.neighbours`)."""
        iou = error_iou(wrong, wrong)
        mean, _ = mean_and_max(iou, itself(len(iou)))
        _, most = mean_and_max(iou, neighbours)
        return cls(within(iou), mean, most, {"iou_within": kept_pairs(iou)})
