r"""The Gaussian with the mean and covariance of the members' latents, whose exact denoiser a network corrects.

For a Gaussian ``N(m, sum_i lambda_i b_i b_i^T)`` the denoiser is known. With ``z_t = a z + s eps`` and ``p_i =
b_i . (z_t - a m)``,

.. math:: E[z \mid z_t] = m + \sum_i \frac{a \lambda_i}{a^2 \lambda_i + s^2} p_i b_i, \qquad
          \mathrm{Var}_i = \frac{\lambda_i s^2}{a^2 \lambda_i + s^2}

so a network F, whose input ``p_i / sqrt(a^2 lambda_i + s^2)`` has unit variance, only has to learn the remaining part
of z, in units of this deviation:

.. math:: D(z_t) = E[z \mid z_t] + \sum_i \sqrt{\mathrm{Var}_i} \, F_i b_i

F = 0 is exact for every Gaussian at every noise level. Samples stay in the subspace spanned by the members; a network
that predicts noise has to learn this, because it must reproduce the noise of all directions outside. At low noise
F still has unit size, where a network that predicts z would have to reproduce its input to three digits.
"""

from collections.abc import Mapping
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

NEGLIGIBLE = 1e-8
"""Fraction of the largest variance below which a direction counts as rounding error."""


def scale_of(z: Float[Tensor, "K L"]) -> float:
    """The deviation of latents along the directions that carry them: ``sqrt(sum lambda^2 / sum lambda)``.

    1 for a unit covariance, and not less for latents that fill a thin subspace. 0 if all are equal.
    """
    covariance = (z - z.mean(0)).T.double() @ (z - z.mean(0)).double() / len(z)
    total = float(covariance.trace())
    return (float(covariance.square().sum()) / total) ** 0.5 if total > 0 else 0.0


class LatentGaussian:
    """A Gaussian over latents, and the denoiser that a network's output corrects.

    Attributes:
        mean: m, [L].
        basis: b, [r, L], orthonormal.
        variances: lambda, [r].
    """

    def __init__(
        self, mean: Float[Tensor, "L"], basis: Float[Tensor, "r L"], variances: Float[Tensor, "r"]
    ) -> None:
        self.mean, self.basis, self.variances = mean, basis, variances

    @classmethod
    def fit(cls, z: Float[Tensor, "K L"]) -> Self:
        """Members that are all equal have one direction, without variance."""
        mean = z.double().mean(0)
        centred = z.double() - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(z))
        kept = values > NEGLIGIBLE * values[-1]
        kept[-1] = True
        return cls(mean.float(), vectors.T[kept].float(), values[kept].clamp(min=0).float())

    def to(self, device: torch.device) -> Self:
        return type(self)(self.mean.to(device), self.basis.to(device), self.variances.to(device))

    def enter(
        self, z: Float[Tensor, "n L"], signal: Float[Tensor, "n 1"], noise: Float[Tensor, "n 1"]
    ) -> Float[Tensor, "n r"]:
        """What F is given: coordinates of ``z_t`` with unit variance."""
        return ((z - signal * self.mean) @ self.basis.T) / self._size(signal, noise)

    def expected(
        self, entered: Float[Tensor, "n r"], out: Float[Tensor, "n r"], signal: Float[Tensor, "n 1"],
        noise: Float[Tensor, "n 1"],
    ) -> Float[Tensor, "n L"]:  # fmt: skip
        """``D(z_t)``, from what F was given and its output."""
        size = self._size(signal, noise)
        left = self.variances.sqrt() * noise / size
        return self.mean + (signal * self.variances / size * entered + left * out) @ self.basis

    def _size(self, signal: Float[Tensor, "n 1"], noise: Float[Tensor, "n 1"]) -> Float[Tensor, "n r"]:
        return (signal.square() * self.variances + noise.square()).sqrt()

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "basis": self.basis, "variances": self.variances}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["mean"], state["basis"], state["variances"])
