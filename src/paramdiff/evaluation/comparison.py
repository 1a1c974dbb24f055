"""One set of networks compared with the zoo: its scores, its behaviour, its distances.

:class:`Originals` holds what is the same for every comparison; its :meth:`Originals.compare` gives the
:class:`Comparison` from which rows (:mod:`paramdiff.evaluation.summary`) and the verdict are made.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64, Real, Shaped
from torch import Tensor, nn

from paramdiff.evaluation.distances import Distances
from paramdiff.evaluation.ensembles import Ensembles, ensembles_of, from_tensors, to_tensors
from paramdiff.evaluation.reference import Reference
from paramdiff.evaluation.similarity import Behaviour
from paramdiff.evaluation.statistics import select_on_train
from paramdiff.scoring.scores import Scores
from paramdiff.zoo.zoo import Zoo

NO_SCORES = ("answer", "confidence")
"""Outcomes that say what a network answered, not how well: their mean is no metric, even where it equals one."""


@dataclass(frozen=True)
class Scored:
    """What is kept of the scores of N networks; small enough to store.

    Attributes:
        train: the task's first metric on the training data.
        test: the same on the test data.
        train_nll: breaks ties in selection, if the task gives it.
        wrong_test: mistakes on the test data, if the task knows mistakes.
        items_test: per-item test values whose mean is the metric, where that is not the share of
            items that are not mistakes.
        ensembles: of each size on the test data, single networks first; empty if the task has none.
    """

    train: Float64[Tensor, "N"]
    test: Float64[Tensor, "N"]
    train_nll: Float64[Tensor, "N"] | None = None
    wrong_test: Bool[Tensor, "N items"] | None = None
    items_test: Real[Tensor, "N items"] | None = None
    ensembles: tuple[Ensembles, ...] = ()

    @classmethod
    def of(cls, train: Scores, test: Scores) -> "Scored":
        correct, values = test.outcomes.get("correct"), per_item(test)
        items = None if values is correct else values
        wrong = None if correct is None else ~correct
        return cls(train.metric, test.metric, train.nll, wrong, items, ensembles_of(test))

    @property
    def n(self) -> int:
        return len(self.train)

    def item_values(self, index: int) -> Tensor | None:
        """float64 [items]: values of one network whose mean is its test score, for intervals."""
        if self.items_test is not None:
            return self.items_test[index].double()
        if self.wrong_test is None or not _is_mean(~self.wrong_test, self.test):
            return None
        return (~self.wrong_test[index]).double()

    def tensors(self) -> dict[str, Tensor]:
        """What is known, by name, to store as safetensors."""
        known = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return known | to_tensors(self.ensembles)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Scored":
        """Inverse of :meth:`tensors`; other names are ignored."""
        known = ("train", "test", "train_nll", "wrong_test", "items_test")
        found = {name: tensors[name] for name in known if name in tensors}
        return cls(**found, ensembles=from_tensors(tensors))


def per_item(scores: Scores) -> Shaped[Tensor, "N items"] | None:
    """Values per network and item whose mean over the items is the metric: ``correct`` where it is an accuracy."""
    correct = scores.outcomes.get("correct")
    known = [] if correct is None else [correct]
    others = [value for name, value in scores.outcomes.items() if name not in NO_SCORES and value.ndim == 2]
    return next((v for v in [*known, *others] if _is_mean(v, scores.metric)), None)


def _is_mean(values: Tensor, metric: Tensor) -> bool:
    """Whether the metric is the mean of these per-item values, for every network that has a finite one."""
    finite = metric.isfinite()
    means = values[finite].double().mean(1)
    return bool(finite.any()) and torch.allclose(means, metric[finite], rtol=1e-4, atol=1e-7)


@dataclass(frozen=True)
class Comparison:
    """N networks against the zoo.

    Attributes:
        scored: their scores.
        distances: where they lie.
        behaviour: how their mistakes overlap; None if the task knows no mistakes.
        selected: the network chosen on the training data.
    """

    scored: Scored
    distances: Distances
    behaviour: Behaviour | None
    selected: int


class Originals:
    """The zoo as the reference of every comparison.

    Args:
        zoo: K members.
        scored: their scores.
        higher_is_better: direction of the task's first metric.
        model: the network; without it its symmetries are not known.
    """

    def __init__(
        self, zoo: Zoo, scored: Scored, higher_is_better: bool = True, model: nn.Module | None = None
    ) -> None:
        self.scored, self.higher_is_better = scored, higher_is_better
        self.reference = Reference(zoo, model)

    @property
    def neighbours(self) -> Bool[Tensor, "K K"]:
        """Members that are not compared with one another (:mod:`paramdiff.evaluation.distinct_members`)."""
        return self.reference.alike

    @cached_property
    def own(self) -> Comparison:
        """The members against each other, each as if it had been left out of the zoo."""
        wrong = self.scored.wrong_test
        behaviour = None if wrong is None else Behaviour.of_members(wrong, self.neighbours)
        return Comparison(self.scored, self.reference.members, behaviour, self._select(self.scored))

    def compare(self, vectors: Float[Tensor, "N D"], scored: Scored) -> Comparison:
        """New networks against the members."""
        wrong, originals = scored.wrong_test, self.scored.wrong_test
        behaviour = None if wrong is None or originals is None else Behaviour.of(wrong, originals)
        return Comparison(scored, self.reference.distances(vectors), behaviour, self._select(scored))

    def _select(self, scored: Scored) -> int:
        return select_on_train(scored.train, scored.train_nll, self.higher_is_better)
