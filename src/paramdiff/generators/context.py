"""What a generator is given: members in normalised coordinates, and the context of a fit.

Members are normalised where they are read. A zoo on disk is memory-mapped; read block by block through
:class:`NormalisedView` it never takes more memory than one block, whatever K and D are.

The context is what there is beside the zoo: a task's feedback, a folder to resume from, samples to match. Generators
know no task. They see one only as *feedback*: what vectors score on its training data, and what would improve them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, overload, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from paramdiff.errors import GeneratorError
from paramdiff.parameters.normaliser import Normaliser

if TYPE_CHECKING:
    from paramdiff.chance import Chance


class NormalisedView:
    """Rows of raw vectors ``V`` [K, D] as normalised ``x``: indexed like a matrix, without being one.

    ``x[rows]`` (a slice or indices) is a view of some members; ``x[:, columns]`` (a slice) computes these
    coordinates of all of them, as a tensor; ``x[:, :]`` is everything.

    Args:
        vectors: raw; may be memory-mapped.
        normaliser: of the zoo.
        rows: which of the vectors, all by default.
    """

    def __init__(
        self, vectors: Float[Tensor, "K D"], normaliser: Normaliser, rows: Tensor | None = None
    ) -> None:
        self.vectors, self.normaliser = vectors, normaliser
        self.rows = torch.arange(len(vectors)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.vectors.shape[1]

    @overload
    def __getitem__(self, key: slice | Tensor) -> "NormalisedView": ...
    @overload
    def __getitem__(self, key: tuple[slice, slice]) -> Tensor: ...
    def __getitem__(self, key: slice | Tensor | tuple[slice, slice]) -> "NormalisedView | Tensor":
        if not isinstance(key, tuple):
            return NormalisedView(self.vectors, self.normaliser, self.rows[key])
        rows, columns = key
        raw = self.vectors[:, columns][
            self.rows[rows]
        ]  # columns first: a view, where rows would be copied whole
        return self.normaliser.columns(columns).normalise(raw)


Matrix = Float[Tensor, "_ D"] | NormalisedView
"""Vectors in normalised coordinates, in memory or not; any number of rows."""

Score = Callable[[Tensor], Tensor]
"""Scores parameter vectors ``[n, D] -> [n]`` on a fixed part of the training data; higher is better."""


@runtime_checkable
class Feedback(Protocol):
    """A score that tells more than a number."""

    def __call__(self, vectors: Float[Tensor, "n D"]) -> Float[Tensor, "n"]:
        """Scores; higher is better."""

    def mistakes(self, vectors: Float[Tensor, "n D"]) -> Bool[Tensor, "n items"]:
        """Which items of the same part of the training data each network gets wrong.

        Raises:
            TaskError: the task does not tell right from wrong.
        """

    def gradients(self, vectors: Float[Tensor, "n D"], batch: int) -> Float[Tensor, "n D"]:
        """Gradient of each network's training loss on one batch with respect to its vector.

        Args:
            batch: any number; the same number gives the same batch of training data.
        """


@runtime_checkable
class TrainingFeedback(Feedback, Protocol):
    """Feedback that can train a generator through its samples."""

    def training_loss(
        self, vectors: Float[Tensor, "n D"], step: int, items: int, group: int = 1, repulsion: float = 0.0
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        """Training loss of each network in a step, and gradients with respect to the vectors.

        Args:
            step: decides the batches.
            items: of the training data in a batch, at most.
            group: networks in a row that share a batch; a divisor of n.
            repulsion: 0 to 1, how much of the loss is that of the group's joint prediction; its gradients are those
                of the group's loss times its size.
        """

    def imitation(
        self, vectors: Float[Tensor, "n D"], members: Float[Tensor, "n D"], step: int, items: int
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        """How far each network's outputs are from those of a member on training data, and gradients by the network.

        Args:
            vectors: the networks.
            members: one for each.
            step: numbers the batches.
            items: of the training data in a batch, at most.
        """

    def initial(self, seed: int) -> Float[Tensor, "D"]:
        """The vector of an untrained network."""


@dataclass(frozen=True)
class FitContext:
    """What fitting and sampling may use beside the zoo. A generator ignores what it does not need.

    Attributes:
        feedback: scores vectors on the task's training data; a plain function, or a :class:`Feedback`, which also
            knows mistakes and gradients.
        folder: where a fit keeps its state, so that a killed one resumes; ``None`` keeps none.
        reference: samples [n, D] of another generator, for one that matches them.
    """

    feedback: Score | None = None
    folder: Path | None = None
    reference: Float[Tensor, "n D"] | None = None

    def normalised(self, normaliser: Normaliser) -> Self:
        """The same in normalised coordinates, in which generators work."""
        reference = None if self.reference is None else normaliser.normalise(self.reference)
        return replace(self, feedback=_normalised(self.feedback, normaliser), reference=reference)

    def require_feedback(self, who: str) -> Feedback:
        """The feedback, for a generator that needs more than scores.

        Raises:
            GeneratorError: there is none, or it only scores.
        """
        if isinstance(self.feedback, Feedback):
            return self.feedback
        raise _no_data(who)

    def require_training(self, who: str) -> TrainingFeedback:
        """The feedback, for what trains through the loss of samples.

        Raises:
            GeneratorError: there is none, or it does not go that far.
        """
        if isinstance(self.feedback, TrainingFeedback):
            return self.feedback
        raise _no_data(who)


@dataclass(frozen=True)
class NormalisedFeedback:
    """Feedback on normalised vectors ``x``, by way of the raw vectors ``v(x)`` they stand for."""

    raw: Feedback
    normaliser: Normaliser

    def __call__(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n"]:
        return self.raw(self.normaliser.denormalise(x))

    def mistakes(self, x: Float[Tensor, "n D"]) -> Bool[Tensor, "n items"]:
        return self.raw.mistakes(self.normaliser.denormalise(x))

    @property
    def chance(self) -> "Chance | None":
        """Chance level of the scores, if the feedback knows it."""
        return getattr(self.raw, "chance", None)

    def gradients(self, x: Float[Tensor, "n D"], batch: int) -> Float[Tensor, "n D"]:
        """By the chain rule: the raw gradient times dv/dx."""
        v = self.normaliser.denormalise(x)
        return self.raw.gradients(v, batch) * self.normaliser.slope(v)


@dataclass(frozen=True)
class NormalisedTrainingFeedback(NormalisedFeedback):
    """The same of feedback that can train."""

    raw: TrainingFeedback

    def training_loss(
        self, vectors: Float[Tensor, "n D"], step: int, items: int, group: int = 1, repulsion: float = 0.0
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        v = self.normaliser.denormalise(vectors)
        losses, gradients = self.raw.training_loss(v, step, items, group, repulsion)
        return losses, gradients * self.normaliser.slope(v)

    def imitation(
        self, vectors: Float[Tensor, "n D"], members: Float[Tensor, "n D"], step: int, items: int
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        v, theirs = self.normaliser.denormalise(vectors), self.normaliser.denormalise(members)
        losses, gradients = self.raw.imitation(v, theirs, step, items)
        return losses, gradients * self.normaliser.slope(v)

    def initial(self, seed: int) -> Float[Tensor, "D"]:
        return self.normaliser.normalise(self.raw.initial(seed)[None])[0]


def _no_data(who: str) -> GeneratorError:
    return GeneratorError(
        f"{who} has no training data to look at", expected="feedback from a task",
        remedy="pass context=FitContext(feedback=Scorer(task, zoo).feedback()), or use `paramdiff run` with a task",
    )  # fmt: skip


def _normalised(feedback: Score | None, normaliser: Normaliser) -> Score | None:
    """The same score of normalised vectors; a plain function stays one."""
    if feedback is None:
        return None
    if isinstance(feedback, TrainingFeedback):
        return NormalisedTrainingFeedback(feedback, normaliser)
    if isinstance(feedback, Feedback):
        return NormalisedFeedback(feedback, normaliser)
    return lambda x: feedback(normaliser.denormalise(x))
