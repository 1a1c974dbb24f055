"""A generator's only view of a task: what vectors score on its training data, and what would improve them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from paramdiff.chance import Chance
from paramdiff.errors import GeneratorError
from paramdiff.parameters.normaliser import Normaliser

Probe = Callable[[Tensor], Tensor]
"""Scores parameter vectors ``[n, D] -> [n]`` on a fixed part of the training data; higher is better."""


@runtime_checkable
class Feedback(Protocol):
    """A probe that tells more than a score."""

    def __call__(self, vectors: Float[Tensor, "n D"]) -> Float[Tensor, "n"]:
        """Scores; higher is better."""

    def mistakes(self, vectors: Float[Tensor, "n D"]) -> Bool[Tensor, "n items"]:
        """Which items of the same part of the training data each network gets wrong.

        Raises:
            TaskError: the task knows no mistakes.
        """

    def gradients(self, vectors: Float[Tensor, "n D"], batch: int) -> Float[Tensor, "n D"]:
        """Gradient of each network's training loss on one batch with respect to its vector.

        Args:
            batch: any number; the same number gives the same batch of training data.
        """


@dataclass(frozen=True)
class NormalisedFeedback:
    """Feedback on normalised vectors: the coordinates in which generators work."""

    raw: Feedback
    normaliser: Normaliser

    def __call__(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n"]:
        return self.raw(self.normaliser.denormalise(x))

    def mistakes(self, x: Float[Tensor, "n D"]) -> Bool[Tensor, "n items"]:
        return self.raw.mistakes(self.normaliser.denormalise(x))

    @property
    def chance(self) -> Chance | None:
        """Of the scores, if the feedback knows it."""
        return getattr(self.raw, "chance", None)

    def gradients(self, x: Float[Tensor, "n D"], batch: int) -> Float[Tensor, "n D"]:
        """By the chain rule: the raw gradient times dv/dx."""
        v = self.normaliser.denormalise(x)
        return self.raw.gradients(v, batch) * self.normaliser.slope(v)


def normalised(probe: Probe | None, normaliser: Normaliser) -> Probe | None:
    """The same view of normalised vectors; a plain function stays one."""
    if probe is None:
        return None
    if isinstance(probe, Feedback):
        return NormalisedFeedback(probe, normaliser)
    return lambda x: probe(normaliser.denormalise(x))


def require_feedback(probe: Probe | None, who: str) -> Feedback:
    """The probe, if it tells what a generator needs that cannot do without.

    Raises:
        GeneratorError: there is none, or it only scores.
    """
    if isinstance(probe, Feedback):
        return probe
    raise GeneratorError(
        f"{who} has no training data to look at", expected="feedback from a task",
        remedy="pass probe=Scorer(task, zoo).probe(), or use `paramdiff run`",
    )  # fmt: skip
