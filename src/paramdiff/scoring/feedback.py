"""The feedback a generator gets from a task: scores, mistakes and gradients on a fixed part of the training data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from paramdiff.chance import Chance
from paramdiff.errors import TaskError
from paramdiff.scoring.scores import Scores
from paramdiff.tasks.task import Split, Task


@runtime_checkable
class TrainingScorer(Protocol):
    """What feedback needs of a :class:`paramdiff.scoring.scorer.Scorer`, which makes it."""

    task: Task

    def chance(self, split: Split) -> Chance | None: ...

    def training_metric(self, items: int) -> Callable[[Tensor], Tensor]: ...

    def score_training(self, vectors: Tensor, items: int) -> Scores: ...

    def gradients(self, vectors: Tensor, batch: int) -> Tensor: ...

    def training_loss(
        self, vectors: Tensor, step: int, items: int, group: int, repulsion: float
    ) -> tuple[Tensor, Tensor]: ...

    def imitation(self, vectors: Tensor, members: Tensor, step: int, items: int) -> tuple[Tensor, Tensor]: ...

    def initial(self, seed: int) -> Tensor: ...


@dataclass(frozen=True)
class TrainingFeedback:
    """Feedback on a fixed random subset of the training data (:class:`paramdiff.generators.context.Feedback`)."""

    scorer: TrainingScorer
    items: int

    @property
    def chance(self) -> Chance | None:
        """Chance level of these scores."""
        found = self.scorer.chance("train")
        if found is None:
            return None
        level = found.level if found.higher_is_better else -found.level
        return Chance(level, min(found.items, self.items))

    def __call__(self, vectors: Float[Tensor, "n D"]) -> Float[Tensor, "n"]:
        """Scores; higher is better, whatever the direction of the task's metric."""
        sign = 1.0 if self.scorer.task.higher_is_better else -1.0
        return sign * self.scorer.training_metric(self.items)(vectors)

    def mistakes(self, vectors: Float[Tensor, "n D"]) -> Bool[Tensor, "n items"]:
        """Which items each network gets wrong.

        Raises:
            TaskError: the task knows no mistakes.
        """
        outcomes = self.scorer.score_training(vectors, self.items).outcomes
        if "correct" not in outcomes:
            raise TaskError(
                f"task {self.scorer.task.name!r} does not say which items a network gets wrong",
                expected="an outcome called correct",
            )
        return ~outcomes["correct"]

    def gradients(self, vectors: Float[Tensor, "n D"], batch: int) -> Float[Tensor, "n D"]:
        """Gradient of each network's training loss on batch number ``batch``, on the CPU."""
        return self.scorer.gradients(vectors, batch)

    def training_loss(
        self, vectors: Float[Tensor, "n D"], step: int, items: int, group: int = 1, repulsion: float = 0.0
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        """Losses and gradients of a training step (:meth:`paramdiff.scoring.scorer.Scorer.training_loss`)."""
        return self.scorer.training_loss(vectors, step, items, group, repulsion)

    def imitation(
        self, vectors: Float[Tensor, "n D"], members: Float[Tensor, "n D"], step: int, items: int
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        """Divergences of outputs from those of others (:meth:`paramdiff.scoring.scorer.Scorer.imitation`)."""
        return self.scorer.imitation(vectors, members, step, items)

    def initial(self, seed: int) -> Float[Tensor, "D"]:
        """The vector of an untrained network."""
        return self.scorer.initial(seed)
