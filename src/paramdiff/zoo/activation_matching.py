r"""Matching by activations: the order in which units do the same on the same inputs.

Li et al. 2015 (arXiv 1511.07543) and Jordan et al. 2022 (arXiv 2211.08403) match unit ``i`` of one network with the
unit ``j`` of another whose activation is most correlated with it. With activations standardised over the inputs,
:math:`Z` of the reference and :math:`Z'` of the network, [n, P] each, the order of a group is the linear assignment

.. math:: \max_\pi \sum_{\text{values}} \operatorname{tr}\bigl(Z^\top \pi(Z')\bigr) / n

over all values in which its units are read (one for a hidden layer, one per block for a residual stream). No group
depends on the order of another, so one assignment each is exact. The reference is the sum of the standardised
activations of the members before, as that of weights is (:mod:`paramdiff.zoo.alignment`).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paramdiff.networks.unit_activations import UnitActivations
from paramdiff.progress import bar
from paramdiff.zoo.weight_matching import Matcher
from paramdiff.zoo.zoo import Zoo

Standardised = list[list[Float[Tensor, "_ _"]]]
"""Of every value of every group."""


def match_activations_in_turn(
    vectors: Float[Tensor, "K D"], rows: Sequence[int], matcher: Matcher, zoo: Zoo, read: UnitActivations
) -> None:
    """Match each of these rows, in place, to the activations of those before it."""
    total: Standardised | None = None
    for row in bar(rows, "aligning", unit="member"):
        own = [[standardised(x) for x in values] for values in read(zoo.state_dict(vectors[row]))]
        if total is None:
            total = own
            continue
        orders = [
            best_order(wanted, found) if found else torch.arange(group.size)  # units that no layer reads
            for wanted, found, group in zip(total, own, matcher.groups, strict=True)
        ]
        matcher.reorder(vectors[row], orders)
        for wanted, found, order in zip(total, own, orders, strict=True):
            for x, y in zip(wanted, found, strict=True):
                x += y[:, order]


def standardised(x: Float[Tensor, "n P"]) -> Float[Tensor, "n P"]:
    """Mean 0 and sum of squares 1 for each unit; all zero for one that is constant, or not finite."""
    centred = x - x.mean(0)
    norms = centred.norm(dim=0)
    alive = norms.isfinite() & (norms > torch.finfo(x.dtype).eps * x.abs().amax(0) * len(x) ** 0.5)
    return torch.where(alive, centred / norms, 0.0)


def best_order(
    wanted: Sequence[Float[Tensor, "_ P"]], found: Sequence[Float[Tensor, "_ P"]]
) -> Int[Tensor, "P"]:
    """The order of the found units in which they correlate most with the wanted ones."""
    from scipy.optimize import linear_sum_assignment

    products = torch.stack([x.T @ y for x, y in zip(wanted, found, strict=True)]).sum(0)
    return torch.from_numpy(linear_sum_assignment(products, maximize=True)[1])
