r"""Members trained a little further: the paper's "fine-tuned models" of figure 3b.

As :mod:`paramdiff.generators.further_trained` has it, but batch ``step`` is the same for all samples of one seed. They
differ in the member they start from, and the part of a batch's computation that all networks share is done once for a
chunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from paramdiff.generators.context import FitContext
from paramdiff.generators.further_trained import STEPS, Descent, random_rows
from paramdiff.generators.generator import register
from paramdiff.seeds import mix
from paramdiff.settings import RATE, Ranges


@register("fine-tuned", "a random original, trained for a little longer")
@dataclass
class FineTuned(Descent):
    """A random member, trained further.

    Attributes:
        steps: optimiser steps.
        lr: learning rate, in units of the zoo's between-checkpoint deviation.
    """

    sampling: ClassVar[tuple[str, ...]] = ("steps", "lr")
    steps: int = 20
    lr: float = 0.05

    RANGES: ClassVar[Ranges] = {"steps": STEPS, "lr": RATE}

    @property
    def label(self) -> str:
        return f"{self.name}-{self.steps}"

    def _fit(self, x: Float[Tensor, "K D"], context: FitContext) -> None:
        self.members = x

    def _starts(self, indices: Sequence[int], seed: int, context: FitContext) -> Float[Tensor, "n D"]:
        context.require_feedback(self.name)
        return random_rows(self.members, indices, self.name, seed)

    def _gradients(
        self, x: Float[Tensor, "n D"], step: int, indices: Sequence[int], seed: int, context: FitContext
    ) -> Float[Tensor, "n D"]:
        return context.require_feedback(self.name).gradients(x, mix(self.name, seed, step))

    def _state(self) -> dict[str, Any]:
        return {"members": self.members}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.members = state["members"]
