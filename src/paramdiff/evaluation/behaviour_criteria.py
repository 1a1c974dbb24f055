"""What the mistakes of samples show: networks that give the answers of one original are copies, whatever their weights,
and networks that behave more alike than originals do are mixtures of them.
"""

from torch import Tensor

from paramdiff.evaluation.criterion import Criterion, sample_criterion, set_criterion
from paramdiff.evaluation.evidence import Evidence
from paramdiff.evaluation.thresholds import clearly_less, limit

SAME = 1 / 3
"""Disagreement with one member, over that of members with theirs, below which a sample gives that member's answers."""

ALIKE = 0.85
"""Disagreement (1 - error-IoU) among samples, below which they behave alike. For linear classifiers true
draws give 0.98 to 1.02, averages of two 0.7 to 0.9, averages of 16 0.25 to 0.5."""

ALIKE_TO_ZOO = 0.9
"""Mean disagreement with the zoo, below which samples resemble the originals more than those each other.
An average keeps the distance that the original itself has from the mean, so about 0.7 is the least."""

ALIKE_TO_ONE = 0.8
"""Disagreement with the closest member, below which samples repeat the mistakes of single members."""

DIFFERING = 5
"""Items on which a member and the closest other one differ, below which behaviour says nothing."""

CLEARLY = 2.0
"""Standard errors by which a mean disagreement must be less."""


def behaviour_criteria(e: Evidence, alive: Tensor) -> list[Criterion]:
    """What the mistakes of the samples that work show.

    Args:
        e: the evidence.
        alive: [N], samples that work.
    """
    mine, theirs = e.behaviour, e.members_behaviour
    if mine is None or theirs is None or not bool(alive.any()):
        return []
    within, mean = theirs.apart
    if within is None or within == 1 or theirs.differing < DIFFERING:
        return []
    far, usual, every = 1 - mine.max, 1 - theirs.max, float(alive.double().mean())
    most, held_out, to_zoo = float(mine.max.mean()), float(theirs.max.mean()), float(mine.mean[alive].mean())
    said = f"(error similarity {most:.2f} to the closest, {held_out:.2f} for an original left out)"
    several, one = f"give the answers of single originals {said}", f"gives the answers of one original {said}"
    found = [sample_criterion("replica", alive & (far < limit(usual, SAME)), several, one)]
    if mine.within is not None and bool(alive.all()) and 1 - mine.within < ALIKE * (1 - within):
        numbers = f"(error similarity {mine.within:.2f} among samples, {within:.2f} among originals)"
        found.append(set_criterion(e, f"behave more alike than the originals do {numbers}", every))
    if clearly_less(1 - mine.mean[alive], 1 - mean, ALIKE_TO_ZOO, CLEARLY):
        numbers = f"(error similarity {to_zoo:.2f} to the originals, {within:.2f} among them)"
        text = f"behave more like the originals than these like each other {numbers}"
        found.append(set_criterion(e, text, every))
    if clearly_less(far[alive], usual, ALIKE_TO_ONE, CLEARLY):
        found.append(set_criterion(e, f"repeat the mistakes of single originals {said}", every))
    return found
