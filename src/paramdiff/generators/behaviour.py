r"""Training a generator through what its networks do: the training loss of its samples.

A codec and a prior are fitted to weights, and weights that are near in value may be far in function. So after the
fit latents ``z`` are drawn from the prior and decoded, and the task's training loss of the decoded networks
trains the decoder. In normalised coordinates

.. math:: x(z) = o + a\,u(z) + z R, \qquad
          \min_{o, R} \; E_z \Big[ w L(x(z)) + \frac{1 - w}{2 D} |x(z) - x_0(z)|^2 \Big]

with ``u`` the fitted decoder about its mean, which stays as it is (``u = 0`` for a linear codec, whose directions are
``R`` itself), and ``x_0`` what was decoded before. The loss alone would make all samples the same network. What holds
them apart is the deviation ``E |x - o|^2 = target^2``, that of the zoo, to which ``a`` and ``R`` are scaled back after
every step, and the repulsion between predictions (:mod:`paramdiff.scoring.training_loss`).

*Imitation* trains the same decoder by what its reconstructions do: members are encoded and decoded, and the outputs of
a member and its reconstruction on training data are compared (the behavioural loss of "Structure Is Not Enough:
Leveraging Behavior for Neural Network Weight Reconstruction", 2025), in place of a share of the loss of samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import ConfigError, check_choice
from paramdiff.generators.context import Matrix, TrainingFeedback
from paramdiff.progress import say
from paramdiff.seeds import generator
from paramdiff.settings import BATCH, COUNT, RATE, Range, Ranges, check_ranges
from paramdiff.training import ADAM_EPS, Training

POOL = 2048
"""Latents that are drawn once and used again and again: a prior with steps would take longer than the training."""

CHECKED_EVERY = 50
SMALLEST = 1e-12
"""Deviations below this count as this when something is divided by them."""

COLLAPSED = 0.1
"""Part of the zoo's deviation below which samples count as one network."""

HOLDS = ("norm", "directions", "none")
STARTS = {"zoo": None, "member": 1, "random": 0}
"""Where the training may begin, and how many members that takes; None for the whole zoo."""


@dataclass
class Behaviour:
    """Settings of training through the loss of samples; off by default.

    Attributes:
        steps: training steps; 0 trains none.
        samples: networks drawn in a step.
        batch: training items that each of them sees in a step, at most.
        lr: learning rate of Adam at the start, in between-checkpoint deviations; it falls to 0 along a cosine.
        weight: w, of the training loss; the rest, 1 - w, is on staying near what was decoded before.
        diversity: what is held: ``norm``, the deviation of all samples together; ``directions``, that along each
            latent by itself, for linear codecs; ``none``.
        repulsion: 0 to 1, how much of the loss is that of the joint prediction of the networks that share a batch.
        group: networks that share a batch, a divisor of ``samples``; repulsion needs at least 2.
        start: ``zoo``, the fitted generator; or, to see what the zoo is worth, ``member``, one member and random
            directions, or ``random``, an untrained network and random directions.
        imitation: 0 to 1, how much of the loss is how far outputs of reconstructions are from those of the members.
            Where the decoder reconstructs its members exactly, as a linear one does that keeps all components, there
            is nothing to learn from it.
    """

    steps: int = 0
    samples: int = 16
    batch: int = 64
    lr: float = 0.02
    weight: float = 1.0
    diversity: str = "norm"
    repulsion: float = 0.0
    group: int = 1
    start: str = "zoo"
    imitation: float = 0.0

    FORMERLY: ClassVar[None] = None
    RANGES: ClassVar[Ranges] = {
        "steps": Range(least=0, most=100_000_000), "samples": COUNT, "batch": BATCH, "lr": RATE,
        "weight": Range(above=0, most=1), "repulsion": Range(least=0, most=1), "group": COUNT,
        "imitation": Range(least=0, most=1),
    }  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choice("diversity", self.diversity, HOLDS)
        check_choice("start", self.start, tuple(STARTS))
        if self.samples % self.group:
            raise ConfigError("group", f"{self.samples} samples do not come in groups of {self.group}",
                              expected="a divisor of behaviour.samples")  # fmt: skip
        if self.repulsion > 0 and self.group < 2:
            raise ConfigError("repulsion", "a network that sees its batch alone has nothing to differ from",
                              expected="behaviour.group of at least 2")  # fmt: skip

        if self.imitation > 0 and self.start != "zoo":
            raise ConfigError("imitation", f"a generator that begins at start={self.start} has no latents of members",
                              expected="behaviour.start=zoo, or behaviour.imitation=0")  # fmt: skip

    @property
    def gradient_steps(self) -> int:
        """Steps of single networks that the training takes."""
        return self.steps * self.samples

    @property
    def members_needed(self) -> int | None:
        """Members that the trained decoder knows; None for the whole zoo."""
        return STARTS[self.start] if self.steps else None


Decode = Callable[[Float[Tensor, "n L"]], Float[Tensor, "n D"]]


class TrainedDecoder:
    """``x(z) = o + a u(z) + z R``, of standardised latents z [n, L].

    Args:
        offset: o, [D].
        directions: R, [L, D].
        decode: the fitted decoder, ``u(z) = decode(z) - centre``; None for ``u = 0``.
        centre: its mean over latents, [D].
        amplitude: a.
    """

    def __init__(
        self, offset: Float[Tensor, "D"], directions: Float[Tensor, "L D"], decode: Decode | None = None,
        centre: Float[Tensor, "D"] | None = None, amplitude: float = 1.0,
    ) -> None:  # fmt: skip
        self.offset, self.directions, self.amplitude = offset, directions, amplitude
        self.decode: Decode | None = decode
        self.centre: Tensor | None = centre

    @classmethod
    def around(cls, decode: Decode, linear: bool, z: Float[Tensor, "n L"]) -> "TrainedDecoder":
        """What ``decode`` does now. If it is ``linear`` all of it can be trained."""
        length = z.shape[1]
        if linear:
            origin = decode(torch.zeros(1, length))
            return cls(origin[0].clone(), decode(torch.eye(length)) - origin)
        centre = decode(z).mean(0)
        return cls(centre.clone(), torch.zeros(length, len(centre)), decode, centre)

    def __call__(self, z: Float[Tensor, "n L"]) -> Float[Tensor, "n D"]:
        x = torch.addmm(self.offset, z, self.directions)
        return x if self.centre is None else x.add_(self.fitted(z), alpha=self.amplitude)

    def fitted(self, z: Float[Tensor, "n L"]) -> Float[Tensor, "n D"]:
        """u, of a decoder that has one."""
        assert self.decode is not None and self.centre is not None
        return self.decode(z) - self.centre

    def scale(self, factor: float) -> None:
        """Multiply the deviation from the offset."""
        self.directions.mul_(factor)
        self.amplitude *= factor

    def state_dict(self) -> dict[str, Any]:
        learnt = {"offset": self.offset, "directions": self.directions, "amplitude": self.amplitude}
        return learnt if self.centre is None else learnt | {"centre": self.centre}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], decode: Decode | None) -> "TrainedDecoder":
        centre = state.get("centre")
        return cls(state["offset"], state["directions"], decode, centre, float(state["amplitude"]))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """In place: an optimiser holds the tensors."""
        self.offset.copy_(state["offset"])
        self.directions.copy_(state["directions"])
        self.amplitude = float(state["amplitude"])


class Deviation:
    """``sqrt(E |x - o|^2)`` of a decoder's samples over the latents of a pool, in closed form.

    Latents of linear codecs are uncorrelated, as principal components are, so that their variances are enough.
    """

    def __init__(self, decoder: TrainedDecoder, z: Float[Tensor, "n L"]) -> None:
        self.products = z.square().mean(0) if decoder.centre is None else z.T @ z / len(z)
        if decoder.centre is not None:
            u = decoder.fitted(z)
            self.fitted, self.mixed = float(u.square().sum(1).mean()), z.T @ u / len(z)

    def of(self, decoder: TrainedDecoder) -> float:
        own = decoder.directions
        if decoder.centre is None:
            return float(self.products @ own.square().sum(1)) ** 0.5
        square = float((own * (self.products @ own)).sum()) + decoder.amplitude**2 * self.fitted
        return max(square + 2 * decoder.amplitude * float((self.mixed * own).sum()), 0.0) ** 0.5


@dataclass
class BehaviourTraining:
    """One training of a decoder through the loss of its samples.

    Attributes:
        settings: how.
        decoder: trained in place.
        latents: the pool, [n, L].
        feedback: gives losses and gradients, in normalised coordinates.
        seed: of the draws.
        members: whose reconstructions are trained, if there is imitation.
        codes: their latents.
    """

    settings: Behaviour
    decoder: TrainedDecoder
    latents: Float[Tensor, "n L"]
    feedback: TrainingFeedback
    seed: int
    members: Matrix | None = None
    codes: Float[Tensor, "K L"] | None = None

    def run(self, path: Path | None) -> tuple[list[float], dict[str, Any]]:
        """Losses of all steps, and what is to be noted; resumes from ``path``.

        Raises:
            NumericalError: the loss or a gradient of a sample is NaN or Inf.
        """
        own, decoder = self.settings, self.decoder
        deviation = Deviation(decoder, self.latents)
        target, rows = deviation.of(decoder), decoder.directions.norm(dim=1, keepdim=True)
        optimiser = torch.optim.Adam([decoder.offset, decoder.directions], lr=own.lr, eps=ADAM_EPS)
        before = TrainedDecoder.from_state(_copied(decoder), decoder.decode) if own.weight < 1 else None
        training = Training("behaviour", own.steps, {"decoder": decoder, "optimiser": optimiser}, path)
        good, kept, stopped = training.start, _copied(decoder), None
        for step in training:
            optimiser.param_groups[0]["lr"] = own.lr * _cosine(step / own.steps)
            training.log(step, self._learn(step, before))
            optimiser.step()
            if own.diversity == "norm":
                decoder.scale(target / max(deviation.of(decoder), SMALLEST))
            elif own.diversity == "directions":
                decoder.directions.mul_(
                    rows / decoder.directions.norm(dim=1, keepdim=True).clamp(min=SMALLEST)
                )
            if (step + 1) % CHECKED_EVERY:
                continue
            if deviation.of(decoder) < COLLAPSED * target:
                decoder.load_state_dict(kept)
                stopped = good
                training.stop()
            else:
                good, kept = step + 1, _copied(decoder)
        if stopped is not None:
            say(
                f"  training through the loss was stopped: samples became one network; kept is step {stopped}"
            )
        losses = training.losses
        return losses, self._notes(losses, deviation.of(decoder) / max(target, SMALLEST), stopped)

    def _learn(self, step: int, before: TrainedDecoder | None) -> Tensor:
        """Set the gradients of a step; its mean loss."""
        share, decoder = self.settings.imitation, self.decoder
        parts = [(1 - share, *self._of_samples(step, before))] if share < 1 else []
        parts += [(share, *self._of_members(step))] if share > 0 else []
        decoder.offset.grad = torch.stack([w * gradient.mean(0) for w, _, _, gradient in parts]).sum(0)
        by_directions = [w * (z.T @ gradient / len(z)) for w, z, _, gradient in parts]
        decoder.directions.grad = torch.stack(by_directions).sum(0)
        return torch.stack([w * losses.mean() for w, _, losses, _ in parts]).sum()

    def _of_samples(self, step: int, before: TrainedDecoder | None) -> tuple[Tensor, Tensor, Tensor]:
        """Latents of samples, their losses, and the gradients of what is minimised."""
        own, decoder = self.settings, self.decoder
        draw = generator("behaviour", self.seed, step)
        z = self.latents[torch.randint(len(self.latents), (own.samples,), generator=draw)]
        x = decoder(z)
        losses, gradient = self.feedback.training_loss(x, step, own.batch, own.group, own.repulsion)
        if before is not None:
            gradient = own.weight * gradient + (1 - own.weight) / x.shape[1] * (x - before(z))
        return z, losses, gradient

    def _of_members(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The same of members: how far the outputs of their reconstructions are from theirs."""
        assert self.members is not None and self.codes is not None
        draw = generator("imitation", self.seed, step)
        rows = torch.randint(len(self.codes), (self.settings.samples,), generator=draw)
        z, x = self.codes[rows], self.members[rows][:, :]
        return z, *self.feedback.imitation(self.decoder(z), x, step, self.settings.batch)

    def _notes(self, losses: list[float], kept: float, stopped: int | None) -> dict[str, Any]:
        own, last = self.settings, losses[-max(1, len(losses) // 20) :]
        found: dict[str, Any] = {
            "gradient_steps": len(losses) * own.samples, "loss_first": losses[0] if losses else None,
            "loss_last": sum(last) / len(last) if last else None, "deviation": kept,
        }  # fmt: skip
        return found if stopped is None else found | {"stopped": stopped}


def starting_decoder(
    decoder: TrainedDecoder, settings: Behaviour, member: Float[Tensor, "D"], feedback: TrainingFeedback,
    latents: Float[Tensor, "n L"], seed: int,
) -> TrainedDecoder:  # fmt: skip
    """Where the training begins: the fitted decoder, or one that knows one member of the zoo, or none."""
    if settings.start == "zoo":
        return decoder
    offset = member.clone() if settings.start == "member" else feedback.initial(seed)
    directions = torch.randn(latents.shape[1], len(offset), generator=generator("directions", seed))
    plain = TrainedDecoder(offset, directions)
    plain.scale(Deviation(decoder, latents).of(decoder) / Deviation(plain, latents).of(plain))
    return plain


def _copied(decoder: TrainedDecoder) -> dict[str, Any]:
    return {k: v.clone() if isinstance(v, Tensor) else v for k, v in decoder.state_dict().items()}


def _cosine(share: float) -> float:
    return 0.5 * (1 + float(torch.cos(torch.tensor(share * torch.pi))))
