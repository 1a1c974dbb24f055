r"""A long vector as a short sequence: each chunk of it in principal components of its own.

A convolution relates neighbouring coordinates, but neighbouring parameters of a network have little in common, while
members are similar to one another *at the same position*. So each chunk c of S coordinates is first projected on the
principal components of the zoo within this chunk, which need no training:

.. math:: y_c = \sqrt{\tfrac{C r}{D}} \, B_c (x_c - m_c), \qquad B_c B_c^T = 1, \quad B_c \in R^{r \times S}

The autoencoder's convolutions then run over the sequence ``y`` of ``C r`` numbers, C = D / S. ``B_c`` takes the place
of a positional encoding, with which one network would have to memorise all positions. Because the components are
orthonormal, the squared error in x is that in y plus what the r components leave out (the factor makes the *mean*
squares of both equal, so that losses are comparable).

Memory: the components, ``r D <= K D`` numbers, never more than the zoo; fitting them streams over chunks. The
network has ``C r`` inputs instead of D, and chunks get longer where there would be more than 16,384 of these, so that
it never grows beyond that.
"""

from collections.abc import Mapping
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.devices import blocks
from paramdiff.generators.context import Matrix

LONGEST = 1 << 14
"""Numbers of a sequence, at most."""


class Chunks:
    """Vectors of length D as sequences of C r numbers, and back.

    Attributes:
        length: S, coordinates of a chunk; the last one may be shorter.
        mean: m [D].
        basis: [r, D]: columns of chunk c are ``B_c``; rows of zeros where a chunk varies in fewer directions.
    """

    norm = "none"
    """Normalisation that suits the network behind it: see ``norm`` of the autoencoder."""

    def __init__(self, length: int, mean: Float[Tensor, "D"], basis: Float[Tensor, "r D"]) -> None:
        self.length, self.mean, self.basis = length, mean, basis

    @classmethod
    def fit(cls, x: Matrix, length: int, components: int) -> Self:
        """Chunks of ``length`` or, of long vectors, more; at most ``components`` each, and no more than K - 1:
        members span no more."""
        from paramdiff.generators.principal_components import PrincipalComponents

        k, dim = x.shape
        rank = max(1, min(components, k - 1))
        length = max(length, -(-dim // max(1, LONGEST // rank)))
        mean, basis = torch.empty(dim), torch.zeros(rank, dim)
        for columns in blocks(dim, length):
            found = PrincipalComponents.fit(x[:, columns], rank)
            mean[columns] = found.mean
            basis[: len(found.basis), columns] = found.basis
        return cls(length, mean, basis)

    @property
    def dim(self) -> int:
        """C r, the length of a sequence."""
        return len(self.basis) * -(-len(self.mean) // self.length)

    @property
    def scale(self) -> float:
        """The factor that makes the mean square of ``y`` that of ``x``; noise on x becomes noise on y by it."""
        return (self.dim / len(self.mean)) ** 0.5

    def project(self, x: Matrix) -> Float[Tensor, "n M"]:
        """``x -> y``, M = C r."""
        parts = [
            (x[:, columns] - self.mean[columns]) @ self.basis[:, columns].T
            for columns in blocks(x.shape[1], self.length)
        ]
        return torch.cat(parts, 1).mul_(self.scale)

    def expand(self, y: Float[Tensor, "n M"]) -> Float[Tensor, "n D"]:
        """``y -> x``, the inverse within the components."""
        parts = (y / self.scale).split(len(self.basis), 1)
        columns = blocks(len(self.mean), self.length)
        places = zip(columns, parts, strict=True)
        return torch.cat([torch.addmm(self.mean[at], part, self.basis[:, at]) for at, part in places], 1)

    def state_dict(self) -> dict[str, Any]:
        return {"length": self.length, "mean": self.mean, "basis": self.basis}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["length"], state["mean"], state["basis"])
