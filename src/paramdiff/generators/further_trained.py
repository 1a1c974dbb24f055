r"""Networks trained a little further, from anywhere: what a generator has to be better than at its own bill.

``steps`` steps of Adam down the task's training loss, in normalised coordinates: one rate then means the same for
every coordinate, and Adam moves each by at most about ``lr`` between-checkpoint deviations a step. Where they start
decides what they cost: an untrained network owes nothing else, a member the steps of its training, a sample what its
generator took.

Each network sees batches of its own, like networks that are trained apart, so that those that start alike (from the
average) come to differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import GeneratorError, check_choice
from paramdiff.generators.context import FitContext, TrainingFeedback
from paramdiff.generators.descent import descend
from paramdiff.generators.fine_tuned import random_rows
from paramdiff.generators.generator import Generator, register
from paramdiff.seeds import mix
from paramdiff.settings import BATCH, RATE, Range, Ranges

MOST = 1_000_000
"""Steps at most."""

STARTS = ("member", "average", "random", "samples")


@register("further-trained", "originals, their average, untrained networks or samples, trained further")
@dataclass
class FurtherTrained(Generator):
    """Networks that are trained further, each on batches of its own.

    Attributes:
        start: ``member``, a random one for each; ``average`` of all members; ``random``, an untrained network for
            each; or ``samples`` of the generator that the run is about.
        steps: optimiser steps; 0 for where they start.
        lr: learning rate at the start, in units of the zoo's between-checkpoint deviation; it falls to 0 along a
            cosine.
        batch: training items that a network sees in a step, at most.
    """

    drawn_at_once: ClassVar[int] = 10
    sampling: ClassVar[tuple[str, ...]] = ("steps", "lr", "batch")
    start: str = "member"
    steps: int = 100
    lr: float = 0.05
    batch: int = 64

    RANGES: ClassVar[Ranges] = {"steps": Range(least=0, most=MOST), "lr": RATE, "batch": BATCH}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("start", self.start, STARTS)

    @property
    def label(self) -> str:
        return f"{self.name}-from-{self.start}-{self.steps}"

    @property
    def matches(self) -> bool:  # type: ignore[override]
        """Whether it starts from another generator's samples."""
        return self.start == "samples"

    @property
    def asks(self) -> bool:
        """Always: untrained networks come from the task even if they take no step."""
        return True

    @property
    def gradient_steps_sampling(self) -> int:
        return self.steps

    @property
    def continues(self) -> bool:
        return self.matches

    @property
    def members_needed(self) -> int | None:
        return 0 if self.start == "random" else None

    def _fit(self, x: Float[Tensor, "K D"], context: FitContext) -> None:
        reference = x[:0] if self.start == "random" else context.reference
        if self.start == "member":
            reference = x
        elif self.start == "average":
            reference = x.double().mean(0, keepdim=True).float()
        if reference is None:
            raise GeneratorError(
                f"{self.name} has no samples to start from", expected="another generator's samples",
                remedy="pass context=FitContext(reference=generator.sample(20), ...), or use `paramdiff run`",
            )  # fmt: skip
        self.starts = reference

    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        feedback = context.require_training(self.name)
        first = (
            (seed << 20) + indices[0] // len(indices)
        ) * MOST  # no other chunk or seed sees these batches

        def gradient(x: Tensor, step: int) -> Tensor:
            return feedback.training_loss(x, first + step, self.batch)[1]

        starts = self._starts(indices, seed, feedback)
        return descend(
            starts, gradient, self.steps, self.lr, f"{self.label} from {indices[0]} on", decay=True
        )

    def _starts(self, indices: Sequence[int], seed: int, feedback: TrainingFeedback) -> Float[Tensor, "n D"]:
        if self.start == "random":
            return torch.stack([feedback.initial(mix(self.name, seed, index)) for index in indices])
        if self.start == "member":
            return random_rows(self.starts, indices, self.name, seed)
        return self.starts[[index % len(self.starts) for index in indices]]

    def _state(self) -> dict[str, Any]:
        return {"starts": self.starts}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.starts = state["starts"]
