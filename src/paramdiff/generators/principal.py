r"""Principal components of a zoo from its K x K Gram matrix, exact for any D.

With centred members ``X = x - mean`` and ``X X^T = U diag(lambda) U^T`` the orthonormal components are
``b_i = X^T u_i / sqrt(lambda_i)`` and the deviation along them ``sqrt(lambda_i / K)``. Only a K x K matrix
is decomposed, in float64; the vectors are streamed over coordinates.
"""

from collections.abc import Mapping
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.generators.members import Matrix
from paramdiff.thinning import blocks

COLUMNS_AT_ONCE = 1 << 16
NEGLIGIBLE = 1e-10
"""Components with less than this fraction of the largest variance are float32 rounding, not variation."""


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
        gram = torch.zeros(len(x), len(x), dtype=torch.float64)
        for block in blocks(x.shape[1], COLUMNS_AT_ONCE):
            centred = x[:, block].double() - mean[block]
            gram += centred @ centred.T
        values, vectors = torch.linalg.eigh(gram)
        kept = (values > NEGLIGIBLE * values[-1]).nonzero().flatten().flip(0)[:rank]
        values, vectors = values[kept], vectors[:, kept]
        mix = (vectors / values.sqrt()).T
        basis = torch.empty(len(mix), x.shape[1])
        for block in blocks(x.shape[1], COLUMNS_AT_ONCE):
            basis[:, block] = (mix @ (x[:, block].double() - mean[block])).float()
        return cls(mean.float(), basis, (values / len(x)).sqrt().float())

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
