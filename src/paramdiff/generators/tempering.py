r"""Temperature: a lower one draws closer to the centres of the modes, and from each mode as often as before.

**Definition.** Around each mode, a distribution at temperature T has T^2 times the covariance it was learnt
with: ``N(m, S)`` becomes ``N(m, T^2 S)`` for any ``m`` and ``S``, and a mixture of distant modes becomes the mixture
of these, with the same weights. So it is not a power of the density, which would also favour heavy and wide
modes.

**How.** With ``D = E[z | z_t]`` and the Jacobian ``J = a dD / dz_t``, where the distribution is a Gaussian around m,

.. math:: a D - z_t = -(1 - J) (z_t - a m), \qquad J = a^2 S (a^2 S + s^2)^{-1}

so the denoiser at z_t determines the denoiser ``D_T`` of ``N(m, T^2 S)``:

.. math:: a D_T = z_t + f(J) (a D - z_t), \qquad f(h) = \frac{1}{1 - (1 - T^2) h}

1. Noise is reduced at T = 1 down to the level at which a sample has settled on its mode, ``s / a = TURN * scale``.
2. There z_t is moved to the corresponding point at this temperature, ``a m + g(J) (z_t - a m)`` with
   ``g(h)^2 = 1 - (1 - T^2) h``, the ratio of a Gaussian's variances at this noise level, at T and at 1.
3. The remaining steps use ``D_T``.

For unit covariance f is the factor on the score that Chroma applies (Ingraham et al. 2023, their lambda_0 is
``1 / T^2``) whatever the distribution. That factor shrinks everything narrower than the whole distribution, such as
a mode, to a point, and from the first step on it pulls samples towards the heaviest mode.

Functions of J are computed in the Krylov space of ``a D - z_t`` (Lanczos 1950): with m products with J
(forward-mode derivatives of the denoiser) they are exact for up to m different eigenvalues. Between two modes some
eigenvalues h exceed 1; they count as 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import jvp

PRODUCTS = 6
"""Products with the Jacobian for each evaluation of the denoiser, at most."""

TURN = 0.5
"""Noise, in deviations of the latents, below which a sample is taken to have settled on its mode."""

LEAST = 0.01
"""Lower bound of ``1 / f``: at T = 0 samples move to the centre of a mode, but not in one step."""

NEAREST = 0.1
"""Lower bound of ``1 - h`` where z_t is moved. For h closer to 1 an error of the Jacobian decides how far; with 0.01 a
few samples between modes were moved out of all of them."""

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tempering:
    """A denoiser at another temperature.

    Attributes:
        denoiser: ``(z_t, t) -> a_t E[z | z_t]``, for each row by itself.
        temperature: T.
    """

    denoiser: Callable[[Tensor, Tensor], Tensor]
    temperature: float

    def expected(self, z: Float[Tensor, "n L"], t: Int[Tensor, "n"]) -> Float[Tensor, "n L"]:
        """``a_t D_T``, at this temperature."""
        return self._applied(z, t, lambda h: 1 / self._left(h).clamp(min=LEAST))

    def predicted(
        self, signal: Float[Tensor, "T"], noise: Float[Tensor, "T"], target: tuple[int, int],
        z: Float[Tensor, "n L"], t: Int[Tensor, "n"],
    ) -> Float[Tensor, "n L"]:  # fmt: skip
        """``c z + d eps`` at this temperature, of ``target`` (c, d), where ``z_t = signal z + noise eps``."""
        (c, d), a, s = target, signal[t].unsqueeze(1), noise[t].unsqueeze(1)
        expected = self.expected(z, t)
        return c / a * expected + d * (z - expected) / s

    def moved(self, z: Float[Tensor, "n L"], t: Int[Tensor, "n"]) -> Float[Tensor, "n L"]:
        """Where ``z_t``, from temperature 1, is at this one."""
        return self._applied(z, t, lambda h: (1 - self._left(h).sqrt()) / (1 - h).clamp(min=NEAREST))

    def _left(self, h: Tensor) -> Tensor:
        return 1 - (1 - self.temperature**2) * h

    def _applied(self, z: Tensor, t: Tensor, function: Function) -> Tensor:
        """``z_t + function(J) (a D - z_t)``."""

        def denoiser(z: Tensor) -> Tensor:
            return self.denoiser(z, t)

        way = denoiser(z) - z
        size = way.norm(dim=1, keepdim=True)
        basis, jacobian = krylov(lambda v: jvp(denoiser, (z,), (v,))[1], _divided(way, size))
        values, vectors = torch.linalg.eigh(jacobian)
        weights = torch.einsum("nij,nj,nj->ni", vectors, function(values.clamp(0, 1)), vectors[:, 0])
        return z + size * torch.einsum("ni,nil->nl", weights, basis)


def krylov(
    product: Function, start: Float[Tensor, "n L"]
) -> tuple[Float[Tensor, "n m L"], Float[Tensor, "n m m"]]:
    """Orthonormal rows of the Krylov space of unit vectors, and in it the symmetric part of the operator.

    Rows are zero from where the space is exhausted.
    """
    count = min(PRODUCTS, start.shape[1])
    basis, images = [start], [product(start)]
    while len(basis) < count:
        left, known = images[-1], torch.stack(basis, 1)
        for _ in range(2):  # once would leave rounding errors where little is left
            left = left - torch.einsum("nij,nik,nk->nj", known, known, left)
        size = left.norm(dim=1, keepdim=True)
        basis.append(torch.where(size > 1e-5, _divided(left, size), 0.0))
        images.append(product(basis[-1]))
    rows = torch.stack(basis, 1)
    projected = rows @ torch.stack(images, 1).mT
    return rows, (projected + projected.mT) / 2


def _divided(rows: Tensor, size: Tensor) -> Tensor:
    return rows / size.clamp(min=torch.finfo(rows.dtype).tiny)
