r"""Members in normalised coordinates, computed where they are read.

A zoo on disk is memory-mapped. Read block by block through this view it never takes more memory than one block,
whatever K and D are.
"""

from typing import overload

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.parameters.normaliser import Normaliser


class NormalisedView:
    """Rows of raw vectors ``V`` [K, D] as normalised ``x``: indexed like a matrix, without being one.

    ``x[rows]`` (a slice or indices) is a view of some members; ``x[:, columns]`` (a slice) computes these
    coordinates of all of them, as a tensor; ``x[:, :]`` is everything.

    Args:
        vectors: raw; may be memory-mapped.
        normaliser: of the zoo.
        rows: which of the vectors, all by default.
    """

    def __init__(
        self, vectors: Float[Tensor, "K D"], normaliser: Normaliser, rows: Tensor | None = None
    ) -> None:
        self.vectors, self.normaliser = vectors, normaliser
        self.rows = torch.arange(len(vectors)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.vectors.shape[1]

    @overload
    def __getitem__(self, key: slice | Tensor) -> "NormalisedView": ...
    @overload
    def __getitem__(self, key: tuple[slice, slice]) -> Tensor: ...
    def __getitem__(self, key: slice | Tensor | tuple[slice, slice]) -> "NormalisedView | Tensor":
        if not isinstance(key, tuple):
            return NormalisedView(self.vectors, self.normaliser, self.rows[key])
        rows, columns = key
        raw = self.vectors[:, columns][
            self.rows[rows]
        ]  # columns first: a view, where rows would be copied whole
        return self.normaliser.columns(columns).normalise(raw)


Matrix = Float[Tensor, "_ D"] | NormalisedView
"""Vectors in normalised coordinates, in memory or not; any number of rows."""
