r"""Latents and the reverse process, brought down to points that can be drawn.

*A map of latents* (the paper's Figure 3c): originals, samples and noised originals, embedded together by t-SNE.
Noised originals are ``z + a * eps``; the latents are standardised, so the paper's amplitude ``a = 0.1`` is a
tenth of the variation between originals. Neighbours on the map are neighbours in truth; distances are not.

*Paths of parameters* (its Figure 4a): networks decoded on the way from noise to a sample, where the originals
vary most. The paper shows them by t-SNE too, in which a mean and a deviation have no meaning; here they are
projected onto the first two principal components of the originals. With the Gram matrix
:math:`G = U S U^T` of the members and :math:`c_i` the inner products of a network with them
(:class:`paramdiff.evaluation.distances.Gram`), coordinate j of a network is :math:`c_i u_j / \sqrt{s_j}`. All
lengths are root mean squares over coordinates, in units of the variation between originals.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from paramdiff.evaluation.distances import Gram
from paramdiff.parameters.normaliser import Normaliser
from paramdiff.seeds import sample_normal

AMPLITUDE = 0.1
MOST = 200
"""Members on a map: more would hide one another."""

PERPLEXITY = 30.0


def noised(z: Float[Tensor, "n L"], amplitude: float = AMPLITUDE, seed: int = 0) -> Float[Tensor, "n L"]:
    """Latents with noise of this deviation; row i's depends only on i and the seed."""
    return z + amplitude * sample_normal(range(len(z)), z.shape[1], "noised latents", seed)


def latent_map(groups: Mapping[str, Float[Tensor, "_ L"]]) -> dict[str, Float32[Tensor, "_ 2"]]:
    """All groups on one t-SNE map, which starts from their principal components; nothing in it is random.

    The perplexity is 30, or a third of the points where they are few.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    sizes, points = [len(z) for z in groups.values()], torch.cat([z.float() for z in groups.values()])
    if points.shape[1] == 1:
        points = torch.cat([points, torch.zeros_like(points)], 1)  # it starts from two components
    perplexity = min(PERPLEXITY, max(1.0, (len(points) - 1) / 3))
    kind = TSNE(2, perplexity=perplexity, init="pca", random_state=0)
    with threadpool_limits(1), warnings.catch_warnings():  # sums of several threads differ in their last bits
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # of equal points, when they are scaled by their spread
        placed = torch.from_numpy(kind.fit_transform(points.numpy())).float()
    return dict(zip(groups, placed.nan_to_num(0.0).split(sizes), strict=True))


@dataclass(frozen=True)
class Paths:
    """Networks on the way from noise to P samples, in S points, seen from the originals.

    Attributes:
        originals: [K, 2], members along their first two principal components.
        deviation: [2], deviation of the members along them.
        share: [2], share of the members' variance along them.
        plane: [S, P, 2], the networks in the same coordinates.
        nearest, centre: [S, P], distance to the nearest member, and to the members' mean.
        spread: [K], distance of every member to their mean.
    """

    originals: Float32[Tensor, "K 2"]
    deviation: Float32[Tensor, "2"]
    share: Float32[Tensor, "2"]
    plane: Float32[Tensor, "S P 2"]
    nearest: Float32[Tensor, "S P"]
    centre: Float32[Tensor, "S P"]
    spread: Float32[Tensor, "K"]

    @classmethod
    def of(
        cls, networks: Float[Tensor, "S P D"], zoo: Float[Tensor, "K D"], normaliser: Normaliser
    ) -> Self:  # fmt: skip
        """From raw vectors; ``normaliser`` was fitted on the zoo."""
        shape = networks.shape[:2]
        gram = Gram.of(networks.flatten(0, 1), zoo, normaliser)
        values, vectors = torch.linalg.eigh(gram.members)
        values, vectors = values[-2:].flip(0).clamp_min(0), vectors[:, -2:].flip(1)
        scale = torch.where(values > 0, values.rsqrt(), 0.0) / gram.dim**0.5  # 0 where all lie on a line
        found = (
            gram.members @ vectors * scale, (values / (gram.dim * len(zoo))).sqrt(),
            values / gram.members.trace(), (gram.cross @ vectors * scale).unflatten(0, shape),
            gram.distances.min(1).values.unflatten(0, shape),
            (gram.squares / gram.dim).sqrt().unflatten(0, shape), (gram.members.diagonal() / gram.dim).sqrt(),
        )  # fmt: skip
        return cls(*(value.float() for value in found))
