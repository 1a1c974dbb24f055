r"""Generators made of two parts: a codec ``x <-> z`` and a prior over latents ``z``.

``fit``: hold out some members; fit the codec on the others; check its reconstructions; standardise the latents,
always, because a prior that expects unit variance and is given latents of size 100 samples noise; fit the prior.
``sample``: draw from the prior, undo the standardisation, decode.

A new generator of this kind names its two parts and has nothing else to write.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.devices import blocks, evenly_spaced, require_memory, suitable_threads
from paramdiff.errors import CheckpointError, ConfigError, GeneratorError, ZooError
from paramdiff.files import read_json, write_json
from paramdiff.generators.behaviour import (
    POOL,
    Behaviour,
    BehaviourTraining,
    TrainedDecoder,
    starting_decoder,
)
from paramdiff.generators.context import FitContext, Matrix, NormalisedView
from paramdiff.generators.generator import Generator
from paramdiff.generators.guidance import DRAWN_AT_ONCE, KEYS, Guidance, guided
from paramdiff.generators.reconstruction_check import ReconstructionCheck, ReconstructionResult, split
from paramdiff.parameters.normaliser import Normaliser
from paramdiff.progress import say
from paramdiff.seeds import mix, sample_normal
from paramdiff.settings import FACTOR, SEED, Ranges, has_moved, moved, nested, require_parts, without

if TYPE_CHECKING:
    from paramdiff.generators.imitation import Imitation

HASHED_AT_ONCE = 1 << 16
"""Coordinates of all members that are in memory while a zoo is hashed."""

COPIES = 3
"""Vectors of every network of a training step that are in memory: normalised, raw, and the gradient."""

AUTOENCODER, DENOISER, BEHAVIOUR = "autoencoder.safetensors", "denoiser.safetensors", "behaviour.safetensors"
CLAIM = "fit.json"


class Codec(ABC):
    """Normalised vectors ``x`` [n, D] to latents ``z`` [n, L] and back; deterministic once fitted.

    Attributes:
        remedy: how it is made larger, as an imperative; for a failed reconstruction check.
        linear: whether decoding is linear.
        losses: training loss per step, empty if there are no steps.
    """

    remedy: ClassVar[str]
    linear: ClassVar[bool] = False
    losses: list[float]

    @abstractmethod
    def fit(self, x: Matrix, folder: Path | None) -> None:
        """Learn from members; a training resumes from ``folder``."""

    @abstractmethod
    def encode(self, x: Matrix) -> Float[Tensor, "n L"]: ...

    @abstractmethod
    def decode(self, z: Float[Tensor, "n L"]) -> Float[Tensor, "n D"]:
        """Differentiable where ``z`` requires a gradient, for guidance in latents."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]: ...

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Prior(ABC):
    """A distribution over standardised latents ``z`` [n, L].

    Attributes:
        losses: training loss per step, empty if there are no steps.
    """

    losses: list[float]

    @abstractmethod
    def fit(self, z: Float[Tensor, "K L"], held: Float[Tensor, "H L"], folder: Path | None) -> None:
        """Learn from the members' latents; those of held-out members may tell when to stop."""

    @abstractmethod
    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "n L"]:
        """Latents with these indices; each depends only on its index and the seed."""

    def findings(self, z: Float[Tensor, "K L"], held: Float[Tensor, "H L"]) -> dict[str, Any]:
        """Findings of the fit, as JSON values by name; for ``notes``."""
        return {}

    def path(self, indices: Sequence[int], seed: int) -> list[Float[Tensor, "n L"]]:
        """Latents on the way from noise to :meth:`sample`, the last; only those for a prior without steps."""
        return [self.sample(indices, seed)]

    @abstractmethod
    def state_dict(self) -> dict[str, Any]: ...

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class LatentGenerator(Generator):
    """Codec and prior behind the generator protocol; subclasses give ``_codec`` and ``_prior``.

    Attributes:
        reconstruction_check: of held-out members.
        behaviour: training through the loss of samples, after the fit.
        guidance: steps that every sample takes down the training loss; used when sampling.
        contraction: factor on a sampled latent's deviation from the mean latent; used when sampling, so it
            can be changed without fitting again. 1 gives the distribution as it was learnt. Below 1 samples are
            closer to the average of all members. On one trajectory they are then more accurate and more alike,
            which is what makes them better than the originals (``docs/decisions.md``); with several modes they
            may lie between all of them. A temperature (``diffusion.temperature``) acts within each mode instead.
        spread: deviation of independent noise on every coordinate of a sample, in units of the zoo's
            between-checkpoint deviation; used when sampling. Latents vary in the few directions in which the
            members differ; nearly all of this noise lies outside their span.
        seed: seed of initial weights, batches, noise and held-out members.
        device: ``auto`` (the accelerator if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    """

    streams: ClassVar[bool] = True
    sampling: ClassVar[tuple[str, ...]] = ("contraction", "spread", *KEYS)
    knob: ClassVar[str | None] = "contraction"

    reconstruction_check: ReconstructionCheck = field(default_factory=ReconstructionCheck)
    behaviour: Behaviour = field(default_factory=Behaviour)
    guidance: Guidance = field(default_factory=Guidance)
    contraction: float = 1.0
    spread: float = 0.0
    seed: int = 0
    device: str = "auto"

    RANGES: ClassVar[Ranges] = {"contraction": FACTOR, "spread": FACTOR, "seed": SEED}

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Say where a setting of the former flat list is now, before ``__init__`` calls it unexpected.

        Raises:
            ConfigError: names the new key.
        """
        for key in moved(cls).keys() & settings.keys():
            raise has_moved(cls, key)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_parts(self)
        self.decoder: TrainedDecoder | None = None

    @classmethod
    def upgraded(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Settings of the flat list in their parts; ``contraction`` was once called ``temperature``."""
        if "temperature" in settings and "contraction" not in settings:
            others = {key: value for key, value in settings.items() if key != "temperature"}
            settings = {**others, "contraction": settings["temperature"]}
        return nested(cls, settings)

    @property
    def members_needed(self) -> int | None:
        """Fewer where its training through the loss of samples began without the zoo."""
        return self.behaviour.members_needed

    @property
    def gradient_steps_sampling(self) -> int:
        return self.guidance.steps

    def _at_once(self) -> int:
        return min(self.drawn_at_once, DRAWN_AT_ONCE) if self.asks else self.drawn_at_once

    @abstractmethod
    def _codec(self) -> Codec:
        """An unfitted codec with these settings."""

    @abstractmethod
    def _prior(self) -> Prior:
        """An unfitted prior with these settings."""

    def _fit(self, x: Matrix, context: FitContext) -> None:
        if self.behaviour.steps:
            context.require_training(f"{self.name} with behaviour.steps={self.behaviour.steps:,}")
            n, dim = self.behaviour.samples, x.shape[1]
            require_memory(
                f"{n:,} networks of {dim:,} parameters with their gradients", 4 * COPIES * n * dim,
                partial(ConfigError, "behaviour.samples"), "lower it",
            )  # fmt: skip
        if steps := self.reconstruction_check.imitation:
            context.require_training(f"{self.name} with reconstruction_check.imitation={steps:,}")
        if context.folder is not None:
            self._claim(context.folder, x)
        fitted, held = (x[rows] for rows in split(len(x), self.reconstruction_check.held_out, self.seed))
        self.codec, self.prior, self.decoder = self._codec(), self._prior(), None
        self.codec.fit(fitted, context.folder)
        withheld, later = held, bool(self.behaviour.steps or self.reconstruction_check.imitation)
        if not self._rebuilds(fitted, held, context, final=not later):
            held = held[:0]  # latents of members that it cannot rebuild tell the prior nothing
        z = self.codec.encode(fitted)
        self.latent_mean, self.latent_deviation = self._scale(z)
        z = self._standardise(z)
        unseen = self._standardise(self.codec.encode(held)) if len(held) else z[:0]
        self.prior.fit(z, unseen, context.folder)
        self.notes |= self.prior.findings(z, unseen)
        parts = {"autoencoder": self.codec.losses, "denoiser": self.prior.losses}
        if self.behaviour.steps:
            parts["behaviour"] = self._learn_behaviour(fitted, context)
        if later:  # the decoder that is used is judged
            self._rebuilds(fitted, withheld, context, final=True)
        self.losses = {name: losses for name, losses in parts.items() if losses}

    def _learn_behaviour(self, members: Matrix, context: FitContext) -> list[float]:
        """Train the decoder through the loss of samples; the losses."""
        feedback = context.require_training(self.name)
        z = self.prior.sample(range(POOL), mix("behaviour", self.seed))
        decoder = TrainedDecoder.around(self._decode_fitted, self.codec.linear, z)
        first = members[:1][:, :][0]
        decoder = starting_decoder(decoder, self.behaviour, first, feedback, z, self.seed)
        training = BehaviourTraining(self.behaviour, decoder, z, feedback, self.seed)
        if self.behaviour.imitation > 0:
            training.members, training.codes = members, self._standardise(self.codec.encode(members))
        losses, self.notes["behaviour"] = training.run(context.folder / BEHAVIOUR if context.folder else None)
        self.decoder = decoder
        return losses

    def _scale(self, z: Float[Tensor, "K L"]) -> tuple[Float[Tensor, "L"], Float[Tensor, "L"]]:
        """What is subtracted from latents, and what they are divided by, before the prior sees them."""
        deviation = z.std(0, correction=0)
        return z.mean(0), torch.where(deviation > 0, deviation, 1.0)  # 1 for a latent that never varies

    def _standardise(self, z: Float[Tensor, "n L"]) -> Float[Tensor, "n L"]:
        return (z - self.latent_mean) / self.latent_deviation

    def _rebuilds(self, fitted: Matrix, held: Matrix, context: FitContext, final: bool) -> bool:
        """Whether it passes the reconstruction check; without one it does.

        Args:
            final: the decoder is the one that samples are drawn with. If it is not, a failure stops nothing, and what
                was found is kept as ``before``.
        """
        check = self.reconstruction_check
        if check.action == "off":
            return True
        imitation = self._imitation(context) if final and check.imitation else None
        result = ReconstructionResult.measure(
            self._reconstruct, fitted, held, context.feedback, check.tolerance, self.codec.remedy,
            imitation, trained=self.decoder is not None,
        )  # fmt: skip
        before = self.notes.get("reconstruction_check")
        self.notes["reconstruction_check"] = result.to_json() | ({"before": before} if before else {})
        if not final:
            return result.passed
        if not result.passed and check.action == "stop":
            raise ZooError(f"the reconstruction check failed: {result.why}",
                           remedy="or set reconstruction_check.action=warn to go on regardless")  # fmt: skip
        say(f"  reconstruction check {result.outcome}: {result.why}")
        return result.passed

    def _reconstruct(self, x: Matrix) -> Float[Tensor, "n D"]:
        """Members encoded and decoded."""
        z = self.codec.encode(x)
        return self.codec.decode(z) if self.decoder is None else self.decoder(self._standardise(z))

    def _imitation(self, context: FitContext) -> "Imitation":
        """Reconstruction by behaviour."""
        from paramdiff.generators.imitation import Imitation

        decode = self._decode_fitted if self.decoder is None else self.decoder
        feedback, steps = context.require_training(self.name), self.reconstruction_check.imitation
        return Imitation(decode, lambda x: self._standardise(self.codec.encode(x)), feedback, steps)

    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        z, dim = self.prior.sample(indices, seed), len(self._fitted().mean)
        noise = self.spread * sample_normal(indices, dim, "spread", seed) if self.spread > 0 else None

        def decode(z: Float[Tensor, "n L"]) -> Float[Tensor, "n D"]:
            x = self._decode(z)
            return x if noise is None else x.add_(noise)

        if not self.asks:
            return decode(z)
        feedback = context.require_training(f"{self.name} with guidance.steps={self.guidance.steps:,}")
        return guided(self.guidance, z, decode, feedback, f"guidance from sample {indices[0]} on")

    def _decode(self, z: Float[Tensor, "n L"]) -> Float[Tensor, "n D"]:
        """Normalised vectors of standardised latents, contracted."""
        return (
            self._decode_fitted(z, self.contraction)
            if self.decoder is None
            else self.decoder(self.contraction * z)
        )

    def _decode_fitted(self, z: Float[Tensor, "n L"], contraction: float = 1.0) -> Float[Tensor, "n D"]:
        """The same as the codec has it, before any training through the loss."""
        return self.codec.decode(z * (contraction * self.latent_deviation) + self.latent_mean)

    def encode(self, vectors: Float[Tensor, "n D"]) -> Float[Tensor, "n L"]:
        """Standardised latents of raw vectors: deviation 1 between the members the fit has seen.

        Raises:
            GeneratorError: not fitted.
        """
        normaliser = self._fitted()
        with suitable_threads(vectors.shape[1]):
            return self._standardise(self.codec.encode(NormalisedView(vectors, normaliser)))

    def path(self, n: int, seed: int = 0, points: int = 11) -> Float[Tensor, "S n D"]:
        """Raw vectors on the way from noise to samples 0..n-1, which are the last of S <= ``points``, without spread
        and guidance.

        S = 1 for a prior that draws without steps.

        Raises:
            GeneratorError: not fitted.
        """
        normaliser = self._fitted()
        with suitable_threads(len(normaliser.mean)):
            latents = self.prior.path(range(n), seed)
            kept = evenly_spaced(len(latents), points).tolist()
            return torch.stack([normaliser.denormalise(self._decode(latents[step])) for step in kept])

    def _fitted(self) -> Normaliser:
        if self.normaliser is None:
            raise GeneratorError(f"{self.name} is not fitted", remedy="call fit(zoo) first")
        return self.normaliser

    def _claim(self, folder: Path, x: Matrix) -> None:
        """Remove training states in ``folder`` that belong to another zoo or to other settings."""
        digest = hashlib.blake2b()
        for columns in blocks(x.shape[1], HASHED_AT_ONCE):
            digest.update(x[:, columns].contiguous().numpy())  # type: ignore[arg-type]
        claim = {"settings": what_is_fitted(asdict(self)), "zoo": digest.hexdigest()}
        path = folder / CLAIM
        with suppress(CheckpointError):  # a damaged claim is none
            if path.is_file() and read_json(path) == claim:
                return
        for name in (AUTOENCODER, DENOISER, BEHAVIOUR):
            (folder / name).unlink(missing_ok=True)
        write_json(path, claim)

    def _state(self) -> dict[str, Any]:
        parts = {"codec": self.codec.state_dict(), "prior": self.prior.state_dict()}
        if self.decoder is not None:
            parts["decoder"] = self.decoder.state_dict()
        return {**parts, "mean": self.latent_mean, "deviation": self.latent_deviation}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.codec, self.prior = self._codec(), self._prior()
        self.codec.load_state_dict(state["codec"])
        self.prior.load_state_dict(state["prior"])
        self.latent_mean, self.latent_deviation = state["mean"], state["deviation"]
        trained = state.get("decoder")
        self.decoder = None if trained is None else TrainedDecoder.from_state(trained, self._decode_fitted)


def what_is_fitted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings without those of guidance, and without what is off and did not exist before."""
    found = {name: value for name, value in settings.items() if name != "guidance"}
    if not settings.get("behaviour", {}).get("steps", 1):
        del found["behaviour"]
    if not settings.get("reconstruction_check", {}).get("imitation", 1):
        found["reconstruction_check"] = without(found["reconstruction_check"], ("imitation",))
    return found
