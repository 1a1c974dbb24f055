r"""Temperature: a lower one draws nearer to where the learnt distribution is dense, and from the same modes.

**Definition.** Around each mode, a distribution at temperature T has T^2 times the covariance it was learnt
with: ``N(m, S)`` becomes ``N(m, T^2 S)``, whatever ``m`` and ``S``, and a mixture of distant modes the mixture
of these, with the weights it had. So it is not a power of the density, which would also favour heavy and wide
modes.

**How.** With ``D = E[z | z_t]`` and the Jacobian ``J = a dD / dz_t``, where the distribution is a Gaussian around m,

.. math:: a D - z_t = -(1 - J) (z_t - a m), \qquad J = a^2 S (a^2 S + s^2)^{-1}

so the denoiser at z_t alone tells m and S, and with them all of ``N(m, T^2 S)``:

.. math:: a D_T = z_t + f(J) (a D - z_t), \qquad f(h) = \frac{1}{1 - (1 - T^2) h}

1. Noise is reduced at T = 1 down to the level at which modes are as good as chosen, ``s / a = TURN * scale``.
2. There z_t becomes the point it would be at this temperature, ``a m + g(J) (z_t - a m)`` with
   ``g(h)^2 = 1 - (1 - T^2) h``: what a Gaussian's deviation is at this level at T, over what it is at 1.
3. The rest of the way follows ``D_T``.

For unit covariance f is the factor on the score that Chroma applies (Ingraham et al. 2023, their lambda_0 is
``1 / T^2``) to all distributions alike. That factor drives whatever is narrower than the whole, such as a mode,
onto one point, and from the first step on it draws samples towards the heaviest mode.

Functions of J are computed in the Krylov space of ``a D - z_t`` (Lanczos 1950): a few products with J, forward
derivatives of the denoiser, are exact for as many different eigenvalues. Between two modes some h are above 1
and count as 1.
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
"""Noise, in deviations of the latents, below which the modes of a sample are taken as chosen."""

LEAST = 0.01
"""``1 / f`` at least: samples at T = 0 are drawn to the middle of a mode, but not in one step."""

NEAREST = 0.1
"""``1 - h`` at least where z_t is moved. Closer to 1, an error of the Jacobian decides how far; a few samples between
modes were thrown out of all of them by 0.01."""

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
