"""Guided sampling: every sample takes a few steps down the training loss.

In latents samples stay among what the decoder can say; in parameters nothing holds them, and a guided sample is one
that was fine-tuned (:mod:`paramdiff.generators.fine_tuned`). Step ``s`` looks at batch number ``s`` of the training
data, the same for all samples. The steps are a price: each is a gradient step of one network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import check_choice
from paramdiff.generators.context import TrainingFeedback
from paramdiff.settings import BATCH, RATE, Range, Ranges, check_ranges

PLACES = ("latents", "parameters")
DRAWN_AT_ONCE = 20
"""Guided samples of a chunk: whole chunks are drawn, and one is expensive."""


@dataclass
class Guidance:
    """Settings of guided sampling; off by default. All of them can be changed without fitting again.

    Attributes:
        steps: steps of Adam down the training loss that each sample takes; 0 takes none.
        lr: its learning rate, in deviations of a latent, or of a parameter between checkpoints.
        where: what is moved: ``latents`` or ``parameters``.
        batch: training items that a step looks at, at most.
    """

    steps: int = 0
    lr: float = 0.05
    where: str = "latents"
    batch: int = 256

    FORMERLY: ClassVar[None] = None
    RANGES: ClassVar[Ranges] = {"steps": Range(least=0, most=1_000_000), "lr": RATE, "batch": BATCH}

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choice("where", self.where, PLACES)


KEYS = tuple(f"guidance.{name}" for name in ("steps", "lr", "where", "batch"))
"""Its settings, all of them of sampling."""


def guided(
    settings: Guidance, z: Float[Tensor, "n L"], decode: Callable[[Tensor], Tensor], feedback: TrainingFeedback,
    what: str,
) -> Float[Tensor, "n D"]:  # fmt: skip
    """Normalised vectors of latents ``z``, after the steps; ``what`` is for the bar."""
    from paramdiff.generators.descent import descend, through

    moved, place = (z, decode) if settings.where == "latents" else (decode(z), _itself)

    def gradient(at: Tensor, step: int) -> Tensor:
        return through(place, at, lambda x: feedback.training_loss(x, step, settings.batch, len(x))[1])

    return place(descend(moved, gradient, settings.steps, settings.lr, what))


def without_guidance(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of sampling by dotted key, as they were before guidance existed, where it is off."""
    if settings.get("guidance.steps", 0):
        return settings
    return {key: value for key, value in settings.items() if key not in KEYS}


def _itself(x: Tensor) -> Tensor:
    return x
