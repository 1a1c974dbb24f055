r"""Variational autoencoder (Kingma & Welling 2014) on p-diff's backbone: the paper's Tables 12 and 16.

The encoder returns a Gaussian ``q(z | x) = N(mu, diag(sigma^2))`` per vector. Loss, per coordinate:

.. math:: \frac1D \Big( \|x - \mathrm{dec}(z)\|^2 + \beta \sum_l (\mu_l^2 + \sigma_l^2 - 1 - \log \sigma_l^2) \Big),
          \quad z \sim q(z | x)

which for beta = 1 is -2/D times the evidence lower bound with a decoder of unit variance; that variance is the
zoo's own, in each normalised coordinate. sigma^2 is a sigmoid: no posterior has to be wider than the prior, and an
exponential sometimes overflowed in the first steps. New latents are drawn from N(0, I); there is no second
training.

What to expect follows from the linear case (probabilistic principal components): a direction in which the zoo has
variance lambda is learnt if lambda > beta, and samples have variance lambda - beta along it. A larger beta gives
samples closer to the average, more accurate and less diverse, as a contraction does. Convergence is slow where
components differ much in size: on the reference zoo (350 to 1 within the first thirty) the members' latents are still
far from N(0, I) when 25 more steps hardly help, and samples have a third of the zoo's variance.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from paramdiff.generators.architectures import Network
from paramdiff.generators.autoencoder import NeuralCodec, PlainAutoencoder
from paramdiff.generators.context import Matrix
from paramdiff.generators.generator import register
from paramdiff.generators.latent import Codec, LatentGenerator, Prior
from paramdiff.seeds import generator, sample_normal
from paramdiff.settings import FACTOR, Ranges


@register("vae", "a variational autoencoder")
@dataclass
class VariationalAutoencoder(LatentGenerator):
    """A variational autoencoder.

    Attributes:
        autoencoder: architecture and training; 1,500 steps at most by default.
        beta: weight of the divergence between q(z | x) and N(0, I).
        temperature: T, used when sampling: latents are drawn from N(0, T^2 I), which is one mode. So
            ``contraction``, towards the same 0, does the same.
    """

    sampling: ClassVar[tuple[str, ...]] = (*LatentGenerator.sampling, "temperature")
    autoencoder: PlainAutoencoder = field(default_factory=lambda: PlainAutoencoder(steps=1500))
    beta: float = 1.0
    temperature: float = 1.0

    RANGES: ClassVar[Ranges] = {"beta": FACTOR, "temperature": FACTOR}

    def _codec(self) -> Codec:
        return VariationalCodec(self.autoencoder, self.seed, self.device, beta=self.beta)

    def _prior(self) -> Prior:
        return ScaledNormal(lambda: self.autoencoder.latent, lambda: self.temperature)

    def _scale(self, z: Float[Tensor, "K L"]) -> tuple[Float[Tensor, "L"], Float[Tensor, "L"]]:
        """Latents are left as they are: the loss has already put them where N(0, I) is."""
        return torch.zeros_like(z[0]), torch.ones_like(z[0])


class VariationalCodec(NeuralCodec):
    """An autoencoder whose latents have a mean and a deviation; encoding a vector returns the mean.

    Args:
        beta: weight of the divergence.
    """

    def __init__(self, *settings: Any, beta: float) -> None:
        super().__init__(*settings)
        self.beta = beta

    def _code_size(self) -> int:
        return 2 * self.settings.latent

    def _objective(self, net: Network, batch: Float[Tensor, "n D"], draw: torch.Generator) -> Tensor:
        mean, code = net.encode(batch).chunk(2, 1)
        log_variance = logsigmoid(code)
        noise = torch.randn(mean.shape, generator=draw).to(mean.device, non_blocking=True)
        again = net.decode(mean + (log_variance / 2).exp() * noise)
        divergence = twice_divergence(mean, log_variance).mean() * self.sequences.scale**2 / batch.shape[1]
        return (again - batch).square().mean() + self.beta * divergence

    def _criterion(self, net: Network, seen: Float[Tensor, "n D"]) -> float:
        """The loss itself: latents go on moving towards N(0, I) when reconstructions are good."""
        return float(self._objective(net, seen, generator("autoencoder check", self.seed)))

    def encode(self, x: Matrix) -> Float[Tensor, "n L"]:
        return super().encode(x)[:, : self.settings.latent]


def twice_divergence(mean: Float[Tensor, "n L"], log_variance: Float[Tensor, "n L"]) -> Float[Tensor, "n"]:
    """``2 KL(N(mean, variance) || N(0, I))``."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


class ScaledNormal(Prior):
    """N(0, T^2 I); there is nothing to fit.

    Args:
        latent: gives L.
        temperature: T; called when sampling, so that it may change after the fit.
    """

    def __init__(self, latent: Callable[[], int], temperature: Callable[[], float]) -> None:
        self.latent, self.temperature, self.losses = latent, temperature, []

    def fit(self, z: Float[Tensor, "K L"], held: Float[Tensor, "H L"], folder: Path | None) -> None:
        pass

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "n L"]:
        return self.temperature() * sample_normal(indices, self.latent(), "latent", seed)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass
