r"""Ensembles: are M networks, their predictions combined, better than one?

How outputs are combined is the task's business (:meth:`paramdiff.tasks.task.Task.ensemble`); for classes it is the
mean of the probabilities. An ensemble gains where its members are right on average and wrong on different items,
so copies gain nothing, and neither does the averaged model, which is one network however often it is drawn.

* calibration error: items are sorted into 15 bins by the probability of the answer, and

  .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n}\, |\mathrm{accuracy}_b - \mathrm{confidence}_b|

* disagreement: the share of items that two members answer differently, as a mean over pairs of members.

Every number is a mean over disjoint ensembles of the same size, so it does not depend on how many there are, and
generators with different numbers of samples can be compared.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Float64, Integer
from torch import Tensor

from paramdiff.scoring.scores import Scores

SIZES = (5, 10)
"""Networks of an ensemble; each divides the last, so that small ensembles are parts of large ones."""

BINS = 15

MEASURES = ("accuracy", "nll", "ece", "disagreement")
PAIRED = ("accuracy", "nll")
"""Measures that are a mean over items, for paired intervals."""


def groups(n: int, m: int) -> list[range]:
    """N networks cut into disjoint ensembles of M, far apart in a trajectory: every ``len(groups)``-th one.

    From ten networks on only whole tens are used, so that ensembles of 5 and of 10 hold the same networks.
    """
    used = n - n % SIZES[-1] if n >= SIZES[-1] else n
    count = used // m
    return [range(first, count * m, count) for first in range(count)]


def all_groups(n: int) -> list[range]:
    """The ensembles of every size, one size after the other."""
    return [group for m in SIZES for group in groups(n, m)]


def calibration_error(
    confidence: Float[Tensor, "items"], correct: Bool[Tensor, "items"], bins: int = BINS
) -> float:
    """ECE in bins of equal width; NaN if a confidence is."""
    index = (confidence.nan_to_num() * bins).long().clamp(0, bins - 1)
    excess = torch.zeros(bins, dtype=torch.float64)
    excess.index_add_(0, index, correct.double() - confidence.double())
    return float(excess.abs().sum() / len(confidence))


def disagreement(answers: Integer[Tensor, "M items"]) -> float:
    """Share of items on which two different members disagree; NaN for a single one."""
    first, second = torch.combinations(torch.arange(len(answers)), 2).T
    return float((answers[first] != answers[second]).double().mean())


@dataclass(frozen=True)
class Ensembles:
    """Disjoint ensembles of M networks each; M = 1 are the networks themselves.

    Attributes:
        m: networks of an ensemble.
        measures: by name (of ``MEASURES``, those that the task's outcomes give), one value per ensemble.
        items: by name (of ``PAIRED``), per test item the mean over the ensembles.
    """

    m: int
    measures: dict[str, Float64[Tensor, "groups"]]
    items: dict[str, Float[Tensor, "items"]]

    @property
    def groups(self) -> int:
        """How many ensembles."""
        return len(next(iter(self.measures.values())))

    @property
    def means(self) -> dict[str, float]:
        """Each measure's mean over the ensembles."""
        return {name: float(values.mean()) for name, values in self.measures.items()}

    @classmethod
    def of(cls, m: int, scores: Scores, members: Sequence[Integer[Tensor, "M items"]]) -> Self:
        """From the scores of the ensembles, and the answers of their members where these are known."""
        known = scores.outcomes
        each = {name: known[key] for name, key in zip(PAIRED, ("correct", "nll")) if key in known}
        measures = {name: values.mean(1, dtype=torch.float64) for name, values in each.items()}
        if {"confidence", "correct"} <= set(known):
            measures["ece"] = _each(
                calibration_error(*row) for row in zip(known["confidence"], known["correct"])
            )
        if members:
            measures["disagreement"] = _each(disagreement(answers) for answers in members)
        items = {name: values.mean(0, dtype=torch.float64).float() for name, values in each.items()}
        return cls(m, measures, items)


def ensembles_of(scores: Scores) -> tuple[Ensembles, ...]:
    """One network, then each size for which there are enough; nothing if the task has no ensembles, or no
    outcome that these measures are made from.

    Args:
        scores: of N networks on the test data, scored with the ensembles of :func:`all_groups`.
    """
    if scores.ensembles is None:
        return ()
    found, start, answers = [Ensembles.of(1, scores, [])], 0, scores.outcomes.get("answer")
    for m in SIZES:
        cut = groups(len(scores.metric), m)
        if cut:
            rows = torch.arange(start, start + len(cut))
            members = [] if answers is None else [answers[list(group)] for group in cut]
            found.append(Ensembles.of(m, scores.ensembles.take(rows), members))
        start += len(cut)
    return tuple(one for one in found if one.measures)


def to_tensors(found: Sequence[Ensembles]) -> dict[str, Tensor]:
    """By name, to store: ``ensembles.<M>.<measure>`` and ``ensembles.<M>.items.<measure>``."""
    named: dict[str, Tensor] = {}
    for one in found:
        named |= {f"ensembles.{one.m}.{name}": value for name, value in one.measures.items()}
        named |= {f"ensembles.{one.m}.items.{name}": value for name, value in one.items.items()}
    return named


def from_tensors(tensors: Mapping[str, Tensor]) -> tuple[Ensembles, ...]:
    """Inverse of :func:`to_tensors`; other names are ignored."""
    read = lambda start, names: {name: tensors[start + name] for name in names if start + name in tensors}
    found = []
    for m in (1, *SIZES):
        measures = read(f"ensembles.{m}.", MEASURES)
        found += [Ensembles(m, measures, read(f"ensembles.{m}.items.", PAIRED))] if measures else []
    return tuple(found)


def _each(values: Iterable[float]) -> Float64[Tensor, "groups"]:
    return torch.tensor(list(values), dtype=torch.float64)
