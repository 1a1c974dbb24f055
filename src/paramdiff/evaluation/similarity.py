r"""How alike networks behave: the overlap of their mistakes.

The similarity of two networks is the error-IoU of :mod:`paramdiff.error_iou` (p-diff, eq. 7). Here are the
numbers that a comparison takes from its matrices: among a set, to a zoo, to the nearest member.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float16, Float64
from torch import Tensor

from paramdiff.devices import evenly_spaced
from paramdiff.error_iou import error_iou

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
    rows, columns = (evenly_spaced(size, most) for size in iou.shape)
    return iou[rows][:, columns].half()


@dataclass(frozen=True)
class Behaviour:
    """Similarities of N networks to each other and to the K members of a zoo.

    Attributes:
        within: mean similarity of different networks of the set; None for N = 1.
        mean: [N], mean similarity of each to the zoo.
        max: [N], similarity of each to the member it resembles most.
        differing: median number of items on which one of the two is wrong, for a network and the member it
            resembles most.
        among, others: for members, ``within`` and ``mean`` over those that are not alike.
        pairs: of some of the networks, to be drawn: ``iou_within`` to each other, ``iou_between`` to members
            (:func:`kept_pairs`); without the latter for the zoo itself.
    """

    within: float | None
    mean: Float64[Tensor, "N"]
    max: Float64[Tensor, "N"]
    pairs: dict[str, Float16[Tensor, "_ _"]] = field(default_factory=dict)
    differing: float = math.inf
    among: float | None = None
    others: Float64[Tensor, "N"] | None = None

    @classmethod
    def of(cls, wrong: Bool[Tensor, "N items"], wrong_zoo: Bool[Tensor, "K items"]) -> "Behaviour":
        """New networks against a zoo."""
        among, between = error_iou(wrong, wrong), error_iou(wrong, wrong_zoo)
        pairs = {"iou_within": kept_pairs(among), "iou_between": kept_pairs(between)}
        differing = _differing(wrong, wrong_zoo[between.argmax(1)])
        return cls(within(among), *mean_and_max(between), pairs, differing)

    @classmethod
    def of_members(cls, wrong: Bool[Tensor, "K items"], neighbours: Bool[Tensor, "K K"]) -> "Behaviour":
        """The zoo against itself: each member is compared with those not alike to it
        (:mod:`paramdiff.evaluation.distinct_members`)."""
        iou = error_iou(wrong, wrong)
        mean, _ = mean_and_max(iou, itself(len(iou)))
        others, most = mean_and_max(iou, neighbours)
        closest = iou.masked_fill(neighbours, -torch.inf).argmax(1)
        pairs = {"iou_within": kept_pairs(iou)}
        differing = _differing(wrong, wrong[closest])
        return cls(within(iou), mean, most, pairs, differing, _among(iou, neighbours), others)

    @property
    def apart(self) -> tuple[float | None, Float64[Tensor, "N"]]:
        """``within`` and ``mean`` over pairs that are not alike."""
        return (self.within, self.mean) if self.others is None else (self.among, self.others)


def _among(iou: Tensor, alike: Tensor) -> float | None:
    """Mean similarity of members that are not alike."""
    pairs = iou[torch.triu(~alike, 1)]
    return float(pairs.mean()) if len(pairs) else None


def _differing(wrong: Tensor, closest: Tensor) -> float:
    return float((wrong != closest).sum(1).double().quantile(0.5)) if len(wrong) else 0.0
