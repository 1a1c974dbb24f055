"""What a verdict is based on, and what the scores show: do the samples work, do averages match them?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from paramdiff.chance import Chance, near_chance
from paramdiff.evaluation.comparison import Comparison, Originals
from paramdiff.evaluation.distances import Distances
from paramdiff.evaluation.similarity import Behaviour
from paramdiff.evaluation.statistics import paired_difference_ci

WORKING = 0.5
"""Share of the originals' lead over chance that a sample must keep to count as a working network."""


@dataclass(frozen=True)
class Average:
    """A plain average of members, scored like the samples.

    Attributes:
        what: in words, e.g. ``the average of 16 random members``.
        score: test score of the one selected on the training data.
        lead: 95% interval of its score minus that of the selected sample, if known.
    """

    what: str
    score: float
    lead: tuple[float, float] | None = None


@dataclass(frozen=True)
class Evidence:
    """Everything a verdict is made from.

    Attributes:
        samples, members: where the samples lie, and members left out of the zoo.
        behaviour, members_behaviour: how their mistakes overlap; None without mistakes.
        score, members_score: mean test scores; None if unknown.
        selected_score: test score of the sample selected on the training data.
        averages: plain averages to compare with.
        metric, higher_is_better, chance: what the scores are.
        gap: denoising loss on held-out members over that on members, if the generator has a denoiser.
        scores: test score of each sample, if known.
        matched: a sentence on the network's symmetries; empty if there is nothing to report.
    """

    samples: Distances
    members: Distances
    behaviour: Behaviour | None = None
    members_behaviour: Behaviour | None = None
    score: float | None = None
    members_score: float | None = None
    selected_score: float | None = None
    averages: list[Average] = field(default_factory=list)
    metric: str = "score"
    higher_is_better: bool = True
    chance: float | None = None
    gap: float | None = None
    scores: Float64[Tensor, "N"] | None = None
    matched: str = ""

    @classmethod
    def of(
        cls, comparison: Comparison, originals: Originals, averages: Mapping[str, Comparison] | None = None,
        metric: str = "score", chance: float | None = None, gap: float | None = None,
    ) -> Self:  # fmt: skip
        """From comparisons; ``averages`` by what they are in words."""
        own, scored = originals.own, comparison.scored
        return cls(
            comparison.distances, own.distances, comparison.behaviour, own.behaviour,
            float(scored.test.mean()), float(own.scored.test.mean()), float(scored.test[comparison.selected]),
            [_average(what, other, comparison) for what, other in (averages or {}).items()],
            metric, originals.higher_is_better, chance, gap, scored.test.double(), originals.reference.note,
        )  # fmt: skip


def barely_trained(originals: Originals, chance: Chance | None, metric: str) -> str:
    """A sentence saying that the originals are near chance on the test data; empty if they are not."""
    return near_chance(float(originals.scored.test.mean()), chance, "the test data", metric)


def working(e: Evidence) -> Bool[Tensor, "N"] | None:
    """Which samples keep at least half of the originals' lead; None if it cannot be told.

    The lead is that over chance. Without a chance level it is the score itself if higher is better, and
    the inverse of a loss otherwise: twice the originals' loss keeps half.
    """
    n = len(e.samples.nearest)
    if e.score is None or e.members_score is None:
        return None
    values = torch.full((n,), e.score, dtype=torch.float64) if e.scores is None else e.scores
    finite = values.isfinite()
    if e.chance is None and not e.higher_is_better:
        if not e.members_score > 0 or bool((values[finite] <= 0).any()):
            return None
        return finite & (e.members_score / values >= WORKING)
    start = e.chance or 0.0
    lead = e.members_score - start
    if not (lead > 0 if e.higher_is_better else lead < 0):
        return None
    return finite & ((values - start) / lead >= WORKING)


def matched(e: Evidence) -> str:
    """A sentence on which plain average reaches the selected sample's score; empty if none does."""
    reaching = [average for average in e.averages if _reaches(average, e)]
    if not reaching:
        return ""
    best = (max if e.higher_is_better else min)(reaching, key=lambda average: average.score)
    scores = f"{best.score:.4g}, the selected sample {e.selected_score:.4g}"
    return f"{best.what} reaches the same {e.metric} ({scores})"


def _reaches(average: Average, e: Evidence) -> bool:
    """As good as the selected sample, or not distinguishable from it over these items."""
    if e.selected_score is None:
        return False
    gains = average.lead or (average.score - e.selected_score,)
    return max(gains) >= 0 if e.higher_is_better else min(gains) <= 0


def _average(what: str, other: Comparison, comparison: Comparison) -> Average:
    theirs = other.scored.item_values(other.selected)
    mine = comparison.scored.item_values(comparison.selected)
    lead = None if theirs is None or mine is None else paired_difference_ci(theirs, mine)
    return Average(what, float(other.scored.test[other.selected]), lead)
