r"""What the samples are: copies of the zoo, something between its members, or new networks.

Generators of weights have been found to replicate or to interpolate their training checkpoints (Zeng et
al., arXiv 2506.07998), and averages of members score as well as what such generators give. So *novel* has
to be earned twice, in weight space and in behaviour, and the yardstick is always what the zoo itself shows:
a member left out of it. Whatever is neither copy nor novel is called interpolation.

Every criterion is a ratio of a median over samples (behaviour: a mean) to the same for members left out,
so 1 is what draws from the zoo's own distribution would give; the thresholds below say how far
under 1 it must fall. For averages of m independent members the ratios are known: :math:`1/\sqrt m` for the
distance from the zoo's mean, 0 for the residual to the span, and :math:`\sqrt{(m-1)/2m}` (0.5 for m = 2)
for the nearest member.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from paramdiff.study.comparison import Comparison, Originals
from paramdiff.study.novelty import Distances
from paramdiff.study.similarity import Behaviour
from paramdiff.study.value import paired_difference_ci

Class = Literal["replica", "interpolation", "novel"]

REPLICA = 1 / 3
"""Nearest member, below which samples are copies: under the 0.5 of an average of two members."""

NEAREST = 0.8
"""Nearest member, below which samples stay close to single members: above the 0.71 of a member with noise of
the zoo's own size. In many dimensions true draws give 0.97 to 1.05. In few they scatter: of 25 sets of 40
true draws from a zoo of rank 3, this threshold took 3 for interpolation; from rank 6 on, none."""

FARTHER = 1.5
"""Nearest member, above which novel samples are said to lie farther out than the zoo's own distribution."""

CENTRE = 0.85
"""Distance from the zoo's mean, below which samples gather there: above the 0.71 of an average of two."""

SPAN = 0.5
"""Residual to the zoo's span, below which samples lie in it."""

SPAN_COUNTS = 0.05
"""Least residual of held-out members for which the span says anything: below, they lie in it themselves."""

ALIKE = 0.85
"""Disagreement (1 - error-IoU) among samples, below which they behave alike. For linear classifiers true
draws give 0.98 to 1.02, averages of two 0.7 to 0.9, averages of 16 0.25 to 0.5."""

ALIKE_TO_ZOO = 0.9
"""Mean disagreement with the zoo, below which samples resemble the originals more than those each other.
An average keeps the distance that the original itself has from the mean, so about 0.7 is the least."""

ALIKE_TO_ONE = 0.8
"""Disagreement with the closest member, below which samples repeat the mistakes of single members."""

WORKING = 0.5
"""Share of the originals' lead over chance that the mean sample must keep to count as a working network."""


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

    @classmethod
    def of(
        cls, comparison: Comparison, originals: Originals, averages: Mapping[str, Comparison] | None = None,
        metric: str = "score", chance: float | None = None,
    ) -> Self:  # fmt: skip
        """From comparisons; ``averages`` by what they are in words."""
        own, scored = originals.own, comparison.scored
        return cls(
            comparison.distances, own.distances, comparison.behaviour, own.behaviour,
            float(scored.test.mean()), float(own.scored.test.mean()), float(scored.test[comparison.selected]),
            [_average(what, other, comparison) for what, other in (averages or {}).items()],
            metric, originals.higher_is_better, chance,
        )  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """``kind`` is the class; ``why`` one sentence with the numbers that decided."""

    kind: Class
    why: str

    def to_json(self) -> dict[str, str]:
        return {"class": self.kind, "why": self.why}


def verdict(evidence: Evidence) -> Verdict:
    """Judge samples by the thresholds of this module.

    Samples that do not work are judged by their weights alone, because networks that are wrong nearly
    everywhere overlap in their mistakes however they differ; the sentence then says first that they
    do not work.
    """
    broken = _broken(evidence)
    kind, reasons = _judge(evidence, working=not broken)
    parts = [broken, f"the samples {' and '.join(reasons)}", "" if broken else _matched(evidence)]
    why = "; ".join(part for part in parts if part)
    return Verdict(kind, f"{why[0].upper()}{why[1:]}.")


def _judge(e: Evidence, working: bool) -> tuple[Class, list[str]]:
    """The class, and what the samples do that puts them into it."""
    near, held = _medians(e, "nearest")
    if _ratio(near, held) < REPLICA:
        return "replica", [f"are copies: {_nearest(near, held)}"]
    between = [reason for reason in (_weights(e), _behaviour(e) if working else "") if reason]
    return ("interpolation", between) if between else ("novel", _as_far(e, working))


def _weights(e: Evidence) -> str:
    """The first sign in weight space that the samples lie between the members; empty if there is none."""
    out, out_held = _medians(e, "residual")
    if out_held >= SPAN_COUNTS and out < SPAN * out_held:
        return (
            f"lie in the span of the originals ({out:.1%} of their deviation is outside it, "
            f"{out_held:.1%} for a held-out original)"
        )
    far, far_held = _medians(e, "centre")
    if _ratio(far, far_held) < CENTRE:
        return (
            "gather at the centre of the zoo as averages do "
            f"({far:.3g} from its mean, a held-out original {far_held:.3g})"
        )
    near, held = _medians(e, "nearest")
    return f"stay close to single originals ({_nearest(near, held)})" if _ratio(near, held) < NEAREST else ""


def _behaviour(e: Evidence) -> str:
    """The first sign in the mistakes that the samples lie between the members; empty if there is none."""
    mine, theirs = e.behaviour, e.members_behaviour
    if mine is None or theirs is None or theirs.within is None or theirs.within == 1:
        return ""
    if mine.within is not None and 1 - mine.within < ALIKE * (1 - theirs.within):
        return (
            "behave more alike than the originals do (error similarity "
            f"{mine.within:.2f} among samples, {theirs.within:.2f} among originals)"
        )
    mean = float(mine.mean.mean())
    if 1 - mean < ALIKE_TO_ZOO * (1 - theirs.within):
        return (
            "behave more like the originals than these like each other (error similarity "
            f"{mean:.2f} to the originals, {theirs.within:.2f} among them)"
        )
    most, most_held = float(mine.max.mean()), float(theirs.max.mean())
    if 1 - most < ALIKE_TO_ONE * (1 - most_held):
        return (
            "repeat the mistakes of single originals (error similarity "
            f"{most:.2f} to the closest, {most_held:.2f} for a held-out original)"
        )
    return ""


def _as_far(e: Evidence, working: bool) -> list[str]:
    near, held = _medians(e, "nearest")
    where = "farther from the zoo than" if near > FARTHER * held else "as far from the zoo as"
    weights = f"lie {where} a held-out original, in weights ({_nearest(near, held)})"
    mine, theirs = e.behaviour, e.members_behaviour
    if not working or mine is None or theirs is None:
        return [f"{weights}, which is all that was compared"]
    if theirs.within == 1:
        return [f"{weights}, while behaviour tells nothing because the originals all make the same mistakes"]
    most, most_held = float(mine.max.mean()), float(theirs.max.mean())
    closest = f"error similarity {most:.2f} to the closest, {most_held:.2f} for a held-out original"
    return [weights, f"in behaviour ({closest})"]


def _nearest(near: float, held: float) -> str:
    return f"{near:.3g} from the nearest original, a held-out original {held:.3g}"


def _broken(e: Evidence) -> str:
    """Says that the samples do not work, if so."""
    kept = _kept(e)
    if kept is None or kept >= WORKING:
        return ""
    chance = "" if e.chance is None else f", chance {e.chance:.3g}"
    scores = f"mean test {e.metric} {e.score:.3g}, originals {e.members_score:.3g}{chance}"
    return f"the samples do not work ({scores}), so being new would mean nothing"


def _kept(e: Evidence) -> float | None:
    """Share of the originals' lead that the mean sample keeps; None if it cannot be told.

    The lead is that over chance. Without a chance level it is the score itself if higher is better, and
    the inverse of a loss otherwise: twice the originals' loss keeps half.
    """
    if e.score is None or e.members_score is None:
        return None
    if not abs(e.score) < float("inf"):
        return 0.0
    if e.chance is None and not e.higher_is_better:
        return e.members_score / e.score if e.score > 0 and e.members_score > 0 else None
    start = e.chance or 0.0
    lead = e.members_score - start
    works = lead > 0 if e.higher_is_better else lead < 0
    return (e.score - start) / lead if works else None


def _matched(e: Evidence) -> str:
    """Says which plain average reaches the selected sample's score, if one does."""
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


def _medians(e: Evidence, name: str) -> tuple[float, float]:
    """Of the samples and of held-out members."""
    mine, theirs = (getattr(distances, name).quantile(0.5) for distances in (e.samples, e.members))
    return float(mine), float(theirs)


def _ratio(value: float, held_out: float) -> float:
    """1 where both are zero: members that coincide set no yardstick."""
    if held_out > 0:
        return value / held_out
    return 1.0 if value == 0 else float("inf")
