r"""Members trained a little further: the paper's "fine-tuned models" of figure 3b.

A random member takes ``steps`` steps of Adam down the task's training loss, in normalised coordinates: one
rate then means the same for every coordinate, and Adam moves each by at most about ``lr`` between-checkpoint
deviations a step. A generator of networks has to be better than this at the same cost.

Batch ``step`` is the same for all samples of one seed. They differ in the member they start from, and the part
of a batch's computation that all networks share is done once for a chunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.generators.context import FitContext
from paramdiff.generators.descent import descend
from paramdiff.generators.generator import Generator, register
from paramdiff.seeds import mix, sample_generators
from paramdiff.settings import RATE, Range, Ranges


@register("fine-tuned", "a random original, trained for a little longer")
@dataclass
class FineTuned(Generator):
    """A random member, trained further.

    Attributes:
        steps: optimiser steps.
        lr: learning rate, in units of the zoo's between-checkpoint deviation.
    """

    drawn_at_once: ClassVar[int] = 20
    sampling: ClassVar[tuple[str, ...]] = ("steps", "lr")
    steps: int = 20
    lr: float = 0.05

    RANGES: ClassVar[Ranges] = {"steps": Range(least=1, most=1_000_000), "lr": RATE}

    @property
    def label(self) -> str:
        return f"{self.name}-{self.steps}"

    @property
    def gradient_steps_sampling(self) -> int:
        return self.steps

    def _fit(self, x: Float[Tensor, "K D"], context: FitContext) -> None:
        self.members = x

    def _sample(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        feedback = context.require_feedback(self.name)
        starts = random_rows(self.members, indices, self.name, seed)

        def gradient(x: Tensor, step: int) -> Tensor:
            return feedback.gradients(x, mix(self.name, seed, step))

        what = f"{self.label} from {indices[0]} on"
        return descend(starts, gradient, self.steps, self.lr, what)

    def _state(self) -> dict[str, Any]:
        return {"members": self.members}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.members = state["members"]


def random_rows(
    members: Float[Tensor, "K D"], indices: Sequence[int], name: str, seed: int
) -> Float[Tensor, "n D"]:
    """A random member for every sample."""
    draws = sample_generators(indices, name, seed)
    return members[[int(torch.randint(len(members), (), generator=draw)) for draw in draws]]
