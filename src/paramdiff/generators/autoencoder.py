r"""The paper's noise-augmented autoencoder of parameter vectors, convolutional or fully connected.

``z = enc(x + xi_V)``, ``x' = dec(z + xi_Z)``, loss = mean squared error of ``x'`` (equations 4 and 5), with
Gaussian ``xi_V``, ``xi_Z`` in training only. What the amplitudes are relative to:

* ``xi_V``: x is normalised, so 0.001 is a thousandth of the between-checkpoint deviation;
* ``xi_Z``: the deviation of each latent over the batch. An absolute amplitude would mean nothing: the encoder can
  cancel fixed-size noise by enlarging its latents (users of the original saw them reach 100). The deviation is part
  of the graph, so enlarging the latents changes neither the loss nor the direction of its gradient. It is used for
  the noise alone, so encoding a vector never depends on the others in its batch.

Vectors longer than a chunk are first written as a sequence of chunks (:mod:`paramdiff.generators.chunking`).
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.devices import choose_device, made_if_fits, size
from paramdiff.errors import ConfigError, check_choice
from paramdiff.generators.architectures import NORMS, ConvAutoencoder, Network, require_shapes
from paramdiff.generators.context import Matrix
from paramdiff.generators.generator import CHUNK
from paramdiff.generators.latent import AUTOENCODER, Codec
from paramdiff.seeds import generator, seeded
from paramdiff.settings import BATCH, COUNT, FACTOR, RATE, STEPS, Range, Ranges, check_ranges
from paramdiff.training import Plateau, fit_network

if TYPE_CHECKING:
    from paramdiff.generators.chunking import Chunks

ELEMENTS_AT_ONCE = 1 << 19
"""Numbers the network takes at once, in some 0.2 GB; the gradient of a larger batch is accumulated over parts."""

ENOUGH = 0.002
"""Training ends when 25 more steps, twice in a row, reconstruct less than this part of the variance more."""

CHECKED = 64
"""Members that are reconstructed to see whether training still helps."""

WEIGHT_DECAY = 2e-6
EMA_DECAY = 0.98

ARCHITECTURES = ("conv", "fc")


@dataclass
class PlainAutoencoder:
    """Settings of an autoencoder and of its training, without noise.

    Attributes:
        architecture: ``conv`` (1-D convolutions) or ``fc`` (fully connected, with as many layers and parameters).
        chunk: S, coordinates of a chunk; vectors longer than one are cut (:mod:`paramdiff.generators.chunking`).
            Where that would be too many they get longer. 0 never cuts: time and memory grow with D L.
        components: principal components of a chunk that are kept, 4 D bytes each; fewer if the members span fewer.
        latent: L, length of a latent.
        channels: channels of each encoder layer; the decoder mirrors them.
        strides: stride of each layer; shortened for vectors that are too short for them.
        norm: ``none``, ``batch``, ``group`` or ``instance``; ``auto`` is ``group`` for whole vectors and ``none`` for
            cut ones (an unknown member is small in the fitted components; normalised, it would look like a known one).
        steps: training steps at most.
        batch: members per step.
        lr: learning rate.
        early_stop: end the training before ``steps`` when more of them no longer help.
    """

    architecture: str = "conv"
    chunk: int = 8192
    components: int = 256
    latent: int = 128
    channels: list[int] = field(default_factory=lambda: [16, 16, 16, 16])
    strides: list[int] = field(default_factory=lambda: [8, 1, 1, 1])
    norm: str = "auto"
    steps: int = 600
    batch: int = 25
    lr: float = 3e-3
    early_stop: bool = True

    FORMERLY: ClassVar[Mapping[str, str]] = {
        "architecture": "codec", "steps": "autoencoder_steps", "batch": "autoencoder_batch", "lr": "autoencoder_lr",
    }  # fmt: skip
    RANGES: ClassVar[Ranges] = {
        "chunk": Range(least=0, most=2**30), "components": COUNT, "latent": Range(least=1, most=65_536),
        "channels": Range(least=1, most=4096, items=(1, 32)), "strides": Range(least=1, most=4096, items=(1, 32)),
        "steps": STEPS, "batch": BATCH, "lr": RATE,
    }  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self)
        if len(self.strides) != len(self.channels):
            raise ConfigError("strides", f"{len(self.strides)} strides for {len(self.channels)} channels",
                              expected="one stride per layer")  # fmt: skip
        check_choice("architecture", self.architecture, ARCHITECTURES)
        check_choice("norm", self.norm, ("auto", *NORMS))


@dataclass
class Autoencoder(PlainAutoencoder):
    """Settings of p-diff's autoencoder: those of :class:`PlainAutoencoder`, and the noise of its training.

    Attributes:
        parameter_noise: amplitude of ``xi_V``, in between-checkpoint deviations; 0 adds none.
        latent_noise: amplitude of ``xi_Z``, in deviations of the latent; 0 adds none.
    """

    parameter_noise: float = 0.001
    latent_noise: float = 0.1

    RANGES: ClassVar[Ranges] = {"parameter_noise": FACTOR, "latent_noise": FACTOR}


class Unchunked:
    """A vector that is short enough to be taken as it is.

    Attributes:
        dim: D.
        scale: 1.
    """

    scale = 1.0
    norm = "group"

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def project(self, x: Matrix) -> Float[Tensor, "n D"]:
        return x[:, :]

    def expand(self, y: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        return y

    def state_dict(self) -> dict[str, Any]:
        return {"dim": self.dim}


class NeuralCodec(Codec):
    """A trained autoencoder. Subclasses say with which objective, and what a latent is.

    Args:
        settings: of the network and its training.
        seed: of initial weights, batches and noise.
        device: where it is trained and applied.

    Attributes:
        sequences: how a vector becomes what the network takes: as it is, or cut into chunks.
    """

    remedy: ClassVar[str] = "raise autoencoder.steps, autoencoder.latent or autoencoder.channels"

    settings: PlainAutoencoder
    sequences: "Chunks | Unchunked"

    def __init__(self, settings: PlainAutoencoder, seed: int = 0, device: str = "auto") -> None:
        self.settings, self.seed, self.device, self.losses = settings, seed, choose_device(device), []

    def _build(self, dim: int) -> Network:
        with seeded("autoencoder", self.seed):
            net = make_autoencoder(self.settings, dim, self._code_size(), self.sequences.norm)
        return net.to(self.device)

    def _code_size(self) -> int:
        """Numbers the encoder returns for a vector."""
        return self.settings.latent

    @abstractmethod
    def _objective(self, net: Network, batch: Float[Tensor, "n M"], draw: torch.Generator) -> Tensor:
        """The loss on a batch, with noise from ``draw``."""

    @abstractmethod
    def _criterion(self, net: Network, seen: Float[Tensor, "n M"]) -> float:
        """What should fall while training helps, in parts of the variance."""

    def fit(self, x: Matrix, folder: Path | None = None) -> None:
        own, dim = self.settings, x.shape[1]
        long = 0 < own.chunk < dim
        self.sequences = _chunks().fit(x, own.chunk, own.components) if long else Unchunked(dim)
        y = self.sequences.project(x)
        self.net, self.losses = fit_network(
            "autoencoder", self._build(y.shape[1]), lambda net, step: self._parts(net, y, step),
            lambda net: self._check(net, y), Plateau(ENOUGH, patience=2, every=25) if own.early_stop else None,
            steps=own.steps, lr=own.lr, weight_decay=WEIGHT_DECAY, ema=EMA_DECAY,
            path=folder / AUTOENCODER if folder else None,
        )  # fmt: skip

    def _parts(self, net: Network, y: Float[Tensor, "K M"], step: int) -> Iterator[Float[Tensor, ""]]:
        """The objective on the batch of this step, part by part."""
        draw = generator("autoencoder", self.seed, step)
        rows = torch.randperm(len(y), generator=draw)[: self.settings.batch]
        for part in rows.chunk(-(-len(rows) // self._rows(y.shape[1], len(rows)))):
            batch = y[part].to(self.device, non_blocking=True)
            yield self._objective(net, batch, draw) * (len(part) / len(rows))

    @torch.no_grad()
    def _check(self, net: Network, y: Float[Tensor, "K M"]) -> float:
        """The criterion on some members, always the same."""
        some = torch.randperm(len(y), generator=generator("autoencoder check", self.seed))
        return self._criterion(net, y[some[: self._rows(y.shape[1], CHECKED)]].to(self.device))

    @staticmethod
    def _rows(length: int, most: int) -> int:
        """Vectors of this length that the network takes at once."""
        return min(most, max(2, ELEMENTS_AT_ONCE // length))

    def encode(self, x: Matrix) -> Float[Tensor, "n L"]:
        return self._in_blocks(self.net.encode, self.sequences.project(x))

    def decode(self, z: Float[Tensor, "n L"]) -> Float[Tensor, "n D"]:
        return self.sequences.expand(self._in_blocks(self.net.decode, z))

    def _in_blocks(
        self, function: Callable[[Tensor], Tensor], rows: Float[Tensor, "n a"]
    ) -> Float[Tensor, "n b"]:
        blocks = rows.split(self._rows(self.net.dim, CHUNK))
        with torch.set_grad_enabled(rows.requires_grad):
            return torch.cat([function(block.to(self.device)).cpu() for block in blocks])

    def state_dict(self) -> dict[str, Any]:
        return {
            "dim": self.net.dim,
            "net": self.net.state_dict(),
            "sequences": self.sequences.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        chunked = state["sequences"]
        self.sequences = _chunks().from_state(chunked) if "basis" in chunked else Unchunked(chunked["dim"])
        own, norm = self.settings, self.sequences.norm
        require_shapes(lambda: make_autoencoder(own, state["dim"], self._code_size(), norm), state["net"])
        self.net = self._build(state["dim"]).eval().requires_grad_(False)
        self.net.load_state_dict(state["net"])


def _chunks() -> "type[Chunks]":
    from paramdiff.generators.chunking import Chunks

    return Chunks


class DenoisingCodec(NeuralCodec):
    """p-diff's autoencoder."""

    settings: Autoencoder

    def _objective(self, net: Network, batch: Float[Tensor, "n M"], draw: torch.Generator) -> Tensor:
        """Equation 5."""
        own = self.settings
        noise = torch.randn(batch.shape, generator=draw).to(batch.device, non_blocking=True)
        z = net.encode(batch + own.parameter_noise * self.sequences.scale * noise)
        deviation = (z.var(0, correction=0) + 1e-12).sqrt()  # the root of 0 has no gradient
        noise = torch.randn(z.shape, generator=draw).to(z.device, non_blocking=True)
        again = net.decode(z + own.latent_noise * deviation * noise)
        return (again - batch).square().mean()

    def _criterion(self, net: Network, seen: Float[Tensor, "n M"]) -> float:
        """Part of the variance that reconstructions lose, without noise."""
        error = (net.decode(net.encode(seen)) - seen).square().mean()
        return float(error / seen.square().mean())


def make_autoencoder(settings: PlainAutoencoder, dim: int, code: int, auto: str = Unchunked.norm) -> Network:
    """An untrained network for vectors of length ``dim``; ``auto`` is the norm that ``auto`` stands for.

    The fully connected one has as many layers as there are ``channels``, and the width that gives it as many
    parameters as the convolutional one would have. Both have most of them at the bottleneck: 4 D L at the
    default channels and strides, 1 GB with gradients, moments and averages if D = 100,000 is not cut into chunks.
    """
    own, norm = settings, auto if settings.norm == "auto" else settings.norm

    def convolutional() -> ConvAutoencoder:
        return ConvAutoencoder(dim, own.latent, own.channels, own.strides, norm, code)

    if own.architecture == "conv":
        return made_if_fits("latent", convolutional)
    from paramdiff.generators.fully_connected import DenseAutoencoder, matching_width

    with torch.device("meta"):
        budget = size(convolutional())
    depth = len(own.channels)
    width = matching_width(budget, dim, own.latent + code, depth)
    return made_if_fits("latent", lambda: DenseAutoencoder(dim, own.latent, width, depth, norm, code))
