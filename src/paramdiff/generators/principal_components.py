r"""Principal components of a zoo, from the smaller of its two matrices of products.

With centred members ``X = x - mean`` and ``X X^T = U diag(lambda) U^T`` the orthonormal components are ``b_i =
X^T u_i / sqrt(lambda_i)`` and the deviation along them ``sqrt(lambda_i / K)``. For K <= D the K x K Gram matrix
is decomposed, in float64, otherwise the D x D matrix ``X^T X``, whose eigenvectors the ``b_i`` are; the vectors
are streamed. That takes some ``K D min(K, D)`` operations and a decomposition of ``min(K, D)^3``. So where few
components of thousands of members are asked for (:data:`LARGE`), they come from subspace iterations (Halko,
Martinsson & Tropp 2011, algorithm 4.4), which take ``K D r``: for 64 of 2,500 members with D = 2,600, 0.3 s in
place of 6.6 s.
"""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from paramdiff.devices import READ_AT_ONCE, blocks, pieces_within
from paramdiff.generators.context import Matrix
from paramdiff.seeds import generator

COLUMNS_AT_ONCE = 1 << 16

LARGE = 2048
"""``min(K, D)`` from which on components are found by iteration, if they are fewer than an eighth of it."""

POWERS, MORE = 4, 32
"""Iterations, and directions beyond those asked for."""

NEGLIGIBLE = 1e-10
"""Components with less than this fraction of the largest variance are float32 rounding, not variation."""
SMALLEST = 1e-300


class PrincipalComponents:
    """An affine subspace: ``x = mean + sum_i c_i basis_i``.

    Attributes:
        mean: [D].
        basis: [r, D], orthonormal rows by falling variance.
        deviations: [r], deviation of the members along each row.
    """

    def __init__(
        self, mean: Float[Tensor, "D"], basis: Float[Tensor, "r D"], deviations: Float[Tensor, "r"]
    ) -> None:
        self.mean, self.basis, self.deviations = mean, basis, deviations

    @classmethod
    def fit(cls, x: Matrix, rank: int | None = None) -> Self:
        """At most ``rank`` components; fewer where the members span fewer (none if they are all equal)."""
        mean = torch.cat([x[:, block].double().mean(0) for block in blocks(x.shape[1], COLUMNS_AT_ONCE)])
        values, basis = _method(x, rank)(x, mean, rank)
        kept = values > NEGLIGIBLE * values[:1]
        return cls(mean.float(), basis[kept], (values[kept] / len(x)).sqrt().float())

    def project(self, x: Matrix) -> Float[Tensor, "n r"]:
        """Coordinates ``c`` of the nearest point of the subspace."""
        c = torch.zeros(len(x), len(self.basis))
        for block in blocks(x.shape[1], COLUMNS_AT_ONCE):
            c += (x[:, block] - self.mean[block]) @ self.basis[:, block].T
        return c

    def expand(self, c: Float[Tensor, "n r"]) -> Float[Tensor, "n D"]:
        return self.mean + c @ self.basis

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "basis": self.basis, "deviations": self.deviations}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["mean"], state["basis"], state["deviations"])


Found = tuple[Float64[Tensor, "r"], Float[Tensor, "r D"]]
"""``lambda``, falling, and ``b``; those of a negligible lambda mean nothing."""


def _method(x: Matrix, rank: int | None) -> Callable[[Matrix, Tensor, int | None], Found]:
    """How the components are found."""
    size = min(x.shape)
    if rank is not None and size > LARGE and 8 * rank < size:
        return _by_iteration
    return _of_members if len(x) <= x.shape[1] else _of_coordinates


def _of_members(x: Matrix, mean: Float64[Tensor, "D"], rank: int | None) -> Found:
    gram = torch.zeros(len(x), len(x), dtype=torch.float64)
    for block in blocks(x.shape[1], COLUMNS_AT_ONCE):
        centred = x[:, block].double() - mean[block]
        gram += centred @ centred.T
    values, vectors = _largest(gram, rank)
    mix = (vectors / values.clamp(min=SMALLEST).sqrt()).T
    basis = torch.empty(len(mix), x.shape[1])
    for block in blocks(x.shape[1], COLUMNS_AT_ONCE):
        basis[:, block] = (mix @ (x[:, block].double() - mean[block])).float()
    return values, basis


def _of_coordinates(x: Matrix, mean: Float64[Tensor, "D"], rank: int | None) -> Found:
    products = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for rows in blocks(len(x), pieces_within(READ_AT_ONCE, x.shape[1])):
        centred = x[rows][:, :].double() - mean
        products += centred.T @ centred
    values, vectors = _largest(products, rank)
    return values, vectors.T.float()


def _by_iteration(x: Matrix, mean: Float64[Tensor, "D"], rank: int | None) -> Found:
    assert rank is not None
    right = torch.randn(x.shape[1], rank + MORE, generator=generator("principal"))
    for _ in range(POWERS):
        left = torch.linalg.qr(_times(x, mean, right))[0]
        right = torch.linalg.qr(_transposed_times(x, mean, left))[0]
    left = torch.linalg.qr(_times(x, mean, right))[0]
    within = _transposed_times(x, mean, left).double()
    values, vectors = _largest(within.T @ within, rank)
    return values, (within @ (vectors / values.clamp(min=SMALLEST).sqrt())).T.float()


def _times(x: Matrix, mean: Tensor, right: Float[Tensor, "D r"]) -> Float[Tensor, "K r"]:
    """``X right``."""
    total = torch.zeros(len(x), right.shape[1])
    for block in blocks(x.shape[1], pieces_within(READ_AT_ONCE, len(x))):
        total += (x[:, block] - mean[block].float()) @ right[block]
    return total


def _transposed_times(x: Matrix, mean: Tensor, left: Float[Tensor, "K r"]) -> Float[Tensor, "D r"]:
    """``X^T left``."""
    parts = blocks(x.shape[1], pieces_within(READ_AT_ONCE, len(x)))
    return torch.cat([(x[:, block] - mean[block].float()).T @ left for block in parts])


def _largest(matrix: Float64[Tensor, "n n"], rank: int | None) -> tuple[Float64[Tensor, "r"], Tensor]:
    """Eigenvalues, the largest first, and eigenvectors as columns."""
    values, vectors = torch.linalg.eigh(matrix)
    return values.flip(0)[:rank], vectors.flip(1)[:, :rank]
