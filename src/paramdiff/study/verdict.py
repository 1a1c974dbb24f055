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

A *replica* is a copy of one member each: near it and near no other, with all of its deviation from the zoo's
mean, and, in a trajectory, at one of its steps (:class:`paramdiff.study.novelty.Distances`). Being near alone
would not do: on a densely saved trajectory every point of the path has a member close by, and a member shrunk
towards the mean is a weighted average. Noise does not make a copy new: a member with noise of the
zoo's own size is no copy any more, since most of it is noise, but as long as one can tell which member it
came from it counts as interpolation.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float64
from torch import Tensor

from paramdiff.study.evidence import Evidence, broken, matched
from paramdiff.study.novelty import Distances

Class = Literal["replica", "interpolation", "novel"]

REPLICA = 1 / 3
"""Nearest member, below which a sample may be a copy: under the 0.5 of an average of two members."""

ALONE = 0.5
"""Nearest over second nearest, below which a sample is near one member only. Where a zoo is dense in places
a sample can be near several. A member with noise of 0.3 has 0.2 to 0.35."""

KEPT = 0.85
"""Share of the nearest member's deviation from the mean that a copy has: with less, it is a mixture with the
others. A copy has 1 with whatever noise, an average of two 0.5, and p-diff at temperature 0.7 0.7 to 0.8."""

AT_STEP = 0.1
"""Median distance from a step of the trajectory, in steps, above which samples lie between steps. Points
anywhere on the path have 0.25. Copies have 0, and noise of size a moves them by about a / (spacing * sqrt(D)): on
the reference zoo members with noise of 0.3 have 0.07, samples of p-diff 0.33 to 0.38."""

SOME = 0.1
"""Share of copies that stands against calling the rest novel."""

SINGLE = 0.8
"""Nearest over second nearest, below which one member stands out, so that the sample comes from it: in many
dimensions a member with noise of the zoo's own size has 0.58 to 0.72, samples of no single member 0.85 to 1."""

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

STANDARD_ERRORS = 2.0
"""By how many a disagreement must be below its threshold. In 10 dimensions sets of 60 true draws had 0.7 to 1.7
times the originals' disagreement with the closest member, from 300 on 0.97 to 1.02."""

GAP = 2.0
"""Denoising loss on held-out members over that on members, from which the denoiser knows its members by heart."""


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
    useless = broken(evidence)
    kind, reasons = _judge(evidence, working=not useless)
    parts = [useless, f"the samples {' and '.join(reasons)}", "" if useless else matched(evidence)]
    why = "; ".join(part for part in parts if part)
    return Verdict(kind, f"{why[0].upper()}{why[1:]}.")


def _judge(e: Evidence, working: bool) -> tuple[Class, list[str]]:
    """The class, and what the samples do that puts them into it."""
    copied = copies(e.samples, e.members)
    if copied >= 0.5:
        return "replica", [f"are copies of single originals: {_nearest(e)}{_by_heart(e)}"]
    between = [reason for reason in (_weights(e), _behaviour(e) if working else "") if reason]
    if copied >= SOME:
        between = [f"are copies of single originals in {copied:.0%} of cases", *between]
    return ("interpolation", between) if between else ("novel", _as_far(e, working))


def copies(samples: Distances, members: Distances) -> float:
    """Share of samples that are copies of one member each.

    Near it, near no other, and with all of its deviation; and, together, at the steps of the trajectory:
    for a single sample the place between two steps is a matter of chance.
    """
    near = samples.nearest < REPLICA * _median(members.nearest)
    shared = samples.ratio >= ALONE * _median(members.ratio)  # never where there is no second member
    alone = near & ~shared
    between_steps = bool(alone.any()) and _median(samples.offset[alone]) > AT_STEP
    return 0.0 if between_steps else float((alone & (samples.kept >= KEPT)).double().mean())


def _weights(e: Evidence) -> str:
    """The first sign in weight space that the samples lie between the members; empty if there is none."""
    signs = (_mixed, _on_the_path, _in_the_span, _at_the_centre, _at_single_members)
    return next((reason for reason in (sign(e) for sign in signs) if reason), "")


def _mixed(e: Evidence) -> str:
    kept = _median(e.samples.kept)
    if not _near_one(e) or kept >= KEPT:
        return ""
    return (
        "are single originals pulled towards the average of all, keeping "
        f"{kept:.0%} of what sets each apart from it ({_nearest(e)}){_by_heart(e)}"
    )


def _on_the_path(e: Evidence) -> str:
    if not _near_one(e) or not _median(e.samples.offset) > AT_STEP:
        return ""
    return f"follow the path of the training without repeating its saved steps ({_nearest(e)}){_by_heart(e)}"


def _in_the_span(e: Evidence) -> str:
    out, held_out = _medians(e, "outside")
    if held_out < SPAN_COUNTS or out >= SPAN * held_out:
        return ""
    seen, seen_held_out = _medians(e, "residual")
    return (
        f"are weighted combinations of originals ({seen:.1%} of their variation is something else, "
        f"{seen_held_out:.1%} for an original left out of the zoo)"
    )


def _at_the_centre(e: Evidence) -> str:
    far, held_out = _medians(e, "centre")
    if _ratio(far, held_out) >= CENTRE:
        return ""
    return (
        f"gather around the average of all originals (typically {far:.2f} away from it, "
        f"where an original left out of the zoo is {held_out:.2f} away)"
    )


def _at_single_members(e: Evidence) -> str:
    near, held_out = _medians(e, "nearest")
    ratio, usual = _medians(e, "ratio")
    if _ratio(near, held_out) < NEAREST:
        return f"stay close to single originals ({_nearest(e)})"
    if not ratio < SINGLE * usual:
        return ""
    return (
        f"each come from one original ({ratio:.0%} as far from it as from the second nearest, "
        f"{usual:.0%} for an original left out of the zoo)"
    )


def _near_one(e: Evidence) -> bool:
    """Whether the typical sample is near one member only, copy or not."""
    near, held_out = _medians(e, "nearest")
    ratio, usual = _medians(e, "ratio")
    return _ratio(near, held_out) < REPLICA and not ratio >= ALONE * usual


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
    if _clearly_less(1 - mine.mean, 1 - theirs.mean, ALIKE_TO_ZOO):
        return (
            "behave more like the originals than these like each other (error similarity "
            f"{mean:.2f} to the originals, {theirs.within:.2f} among them)"
        )
    most, most_held = float(mine.max.mean()), float(theirs.max.mean())
    if _clearly_less(1 - mine.max, 1 - theirs.max, ALIKE_TO_ONE):
        return (
            "repeat the mistakes of single originals (error similarity "
            f"{most:.2f} to the closest, {most_held:.2f} for an original left out)"
        )
    return ""


def _clearly_less(mine: Float64[Tensor, "N"], theirs: Float64[Tensor, "K"], factor: float) -> bool:
    """Whether a mean is below the factor times the other by more than both scatter from set to set."""
    gap = factor * theirs.mean() - mine.mean()
    scatter = mine.var(correction=0) / len(mine) + factor**2 * theirs.var(correction=0) / len(theirs)
    return bool(gap > STANDARD_ERRORS * scatter.sqrt())


def _as_far(e: Evidence, working: bool) -> list[str]:
    near, held_out = _medians(e, "nearest")
    where = "farther from the originals than" if near > FARTHER * held_out else "as far from the originals as"
    weights = f"are {where} these from one another, in weights ({_nearest(e)})"
    mine, theirs = e.behaviour, e.members_behaviour
    if not working or mine is None or theirs is None:
        return [f"{weights}, which is all that was compared"]
    if theirs.within == 1:
        return [f"{weights}, while behaviour tells nothing because the originals all make the same mistakes"]
    most, most_held = float(mine.max.mean()), float(theirs.max.mean())
    closest = f"error similarity {most:.2f} to the closest, {most_held:.2f} for an original left out"
    return [weights, f"in behaviour ({closest})"]


def _nearest(e: Evidence) -> str:
    near, held_out = _medians(e, "nearest")
    return f"typically {near:.2f} away from the nearest, where an original left out of the zoo is {held_out:.2f} away"


def _by_heart(e: Evidence) -> str:
    """What the denoising loss adds where samples are near single members.

    It never decides: a denoiser can know its members by heart and still be sampled far from them (at a low
    temperature, through a codec that blurs), and held-out members of a dense trajectory are as good as known.
    """
    if e.gap is None or not e.gap >= GAP:
        return ""
    return f", and the denoiser knows the originals by heart: on unseen ones its loss is {e.gap:.2g} times as high"


def _medians(e: Evidence, name: str) -> tuple[float, float]:
    """Of the samples and of held-out members."""
    return _median(getattr(e.samples, name)), _median(getattr(e.members, name))


def _median(values: Float64[Tensor, "N"]) -> float:
    """NaN if one value is."""
    return float(values.quantile(0.5))


def _ratio(value: float, held_out: float) -> float:
    """1 where both are zero: members that coincide set no yardstick."""
    if held_out > 0:
        return value / held_out
    return 1.0 if value == 0 else float("inf")
