r"""What the samples are: copies of the zoo, something between its members, new networks, or none that work.

Generators of weights have been found to replicate or to interpolate their training checkpoints (Zeng et
al., arXiv 2506.07998), and averages of members score as well as what such generators give. So *novel* has
to be earned, by every tenth of the samples, in weight space and in behaviour.

Each sample is judged by itself, and each criterion compares it with distinct members that are left out of the zoo
(:mod:`paramdiff.study.distinct`). A criterion is a number that is small where something is wrong, such as the
distance to the nearest member. Its limit is

.. math:: m \cdot \min(c,\, (q / m)^{8})

with m the median and q the lower quartile over members. The factor c is how far a mixture or a copy falls below 1 in
many dimensions, where such distances hardly scatter. The second factor is for zoos where they do: there the distance
to the nearest of many has a tail :math:`P(d < t) \propto t^\nu` with the zoo's dimension :math:`\nu`, the quartile
tells :math:`\nu`, and its eighth power is what one true draw in 500 falls below.

What no single sample shows a set may: then the share of samples below a quantile of the members is compared with
that quantile (:func:`excess`). The class of the set is that of the largest share, but from a tenth of lesser classes on
it is not novel. Whatever is neither copy nor novel is called interpolation.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from paramdiff.study.evidence import Evidence, matched, working
from paramdiff.study.novelty import Distances

Class = Literal["replica", "interpolation", "novel", "broken"]
CLASSES: tuple[Class, ...] = ("replica", "interpolation", "novel", "broken")

TENTH = 0.1
"""Share of lesser samples from which a set is not novel."""

TAIL = 8.0
"""Power of quartile over median below which one true draw in 500 falls."""

REPLICA = 1 / 3
"""Nearest member, below which a sample may be a copy: under the 0.5 of an average of two members."""

ALONE = 0.5
"""Nearest over second nearest, below which a sample is near one member only. A member with noise of 0.3
has 0.2 to 0.35."""

KEPT = 0.85
"""Share of the nearest member's deviation from the mean that a copy has: with less, it is a mixture with the
others. A copy has 1 with whatever noise, an average of two 0.5, and p-diff at temperature 0.7 0.7 to 0.8."""

AT_STEP = 0.1
"""Median distance from a step of the trajectory, in steps, above which samples lie between steps. Points
anywhere on the path have 0.25. Copies have 0, and noise of size a moves them by about a / (spacing * sqrt(D)): on
the reference zoo members with noise of 0.3 have 0.07, samples of p-diff 0.33 to 0.38."""

SINGLE = 0.8
"""Nearest over second nearest, below which one member stands out, so that the sample comes from it: in many
dimensions a member with noise of the zoo's own size has 0.58 to 0.72, samples of no single member 0.85 to 1."""

NEAREST = 0.8
"""Nearest member, below which a sample stays close to it: above the 0.71 of a member with noise of the zoo's own size."""

LINE = 0.5
"""Distance to a line through two members, below which a sample is a mixture of two."""

CENTRE = 0.85
"""Distance from the zoo's mean, below which a sample is an average: above the 0.71 of an average of two."""

SPAN = 0.5
"""Residual to the zoo's span, below which a sample lies in it."""

ROUNDED = 100.0
"""Residual of members to the span of the others, in units of rounding, from which the span says anything."""

COMPUTED = 1e-6
"""The least such residual that is more than an error of computing it."""

SPREAD = 0.75
"""Mean distance from the other samples, over that of members, below which a set has collapsed."""

UNPROVEN = 1.5
"""Nearest member, above which nothing shows that a sample works, unless its score does. Networks trained in the same
way with another seed or for longer are at 1 to 1.8."""

OUTLYING = 1.5
"""Factor on the distance of the members that lie farthest out, so that a zoo with outliers may have more of them."""

OUTER = 0.98
"""Quantile of members that lie farthest out."""

BEYOND = 4.0
"""Nearest member, above which no score makes a sample a network like the originals."""

FARTHER = 1.25
"""Nearest member, above which novel samples are said to lie farther out than the zoo's own distribution."""

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
"""Items on which a member and the closest other one differ, from which behaviour says anything."""

EXCESS = 0.9
"""Factor on a quantile of members below which the samples are counted, so that trifles do not decide."""

OUTWARD = 0.05
"""The same outwards, and 1.5/K more because the coordinates are measured by the variation of these K distinct members."""

QUANTILES = (0.05, 0.1, 0.25, 0.5)

STANDARD_ERRORS = 5.0
"""By how many a share or a disagreement must differ from that of members."""

TOLD = 3
"""Distinct members from which novelty can be told."""

GAP = 2.0
"""Denoising loss on held-out members over that on members, from which the denoiser knows its members by heart."""


@dataclass(frozen=True)
class Verdict:
    """``kind`` is the class; ``why`` says it with the numbers that decided; ``shares`` of the samples in each class."""

    kind: Class
    why: str
    shares: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        return {"class": self.kind, "why": self.why, "shares": self.shares}


@dataclass(frozen=True)
class Sign:
    """What some of the samples do.

    Attributes:
        kind: the class it puts them into.
        rows: [N], which; all False for a sign that only the set shows.
        says: (of several, of one), what they do.
        share: of the samples; for a sign of the set the excess over what members show.
    """

    kind: Class
    rows: Bool[Tensor, "N"]
    says: tuple[str, str]
    share: float


def verdict(evidence: Evidence) -> Verdict:
    """Judge samples by the thresholds of this module."""
    n = len(evidence.samples.nearest)
    signs = [sign for sign in _signs(evidence) if sign.share > 0]
    shares = _shares(signs, n)
    lesser = {kind: share for kind, share in shares.items() if kind != "novel"}
    told = (evidence.members.distinct or TOLD) >= TOLD
    if sum(lesser.values()) >= TENTH - 1e-9:
        kind = max(lesser, key=lambda name: lesser[name])
    else:
        kind = "novel" if told else "interpolation"
    return Verdict(kind, _why(evidence, kind, signs, shares, told), {k: round(v, 6) for k, v in shares.items()})


def _shares(signs: Iterable[Sign], n: int) -> dict[Class, float]:
    """Share of each class; a sample is of the first class that claims it, a set's sign takes what is left."""
    free, shares = torch.ones(n, dtype=torch.bool), dict.fromkeys(CLASSES, 0.0)
    signs = list(signs)
    for sign in signs:
        shares[sign.kind] += float((sign.rows & free).sum()) / n
        free &= ~sign.rows
    left = float(free.sum()) / n
    for sign in signs:
        if not sign.rows.any():
            more = min(left, max(0.0, sign.share - shares[sign.kind]))
            shares[sign.kind] += more
            left -= more
    shares["novel"] = left
    return shares


# Limits ------------------------------------------------------------------------------------------------


def limit(members: Float64[Tensor, "K"], factor: float) -> float:
    """Below which a number is too small, see the module; 0 if members set no yardstick."""
    known = members[members.isfinite()]
    if len(known) == 0:
        return 0.0
    median, low = (float(known.quantile(q)) for q in (0.5, 0.25))
    return median * min(factor, (low / median) ** TAIL) if median > 0 else 0.0


def upper_limit(members: Float64[Tensor, "K"], factor: float) -> float:
    """Above which a number is too large."""
    known = members[members.isfinite()]
    if len(known) == 0:
        return math.inf
    median, high = (float(known.quantile(q)) for q in (0.5, OUTER))
    return max(factor * median, OUTLYING * high) if median > 0 else math.inf


def excess(samples: Float64[Tensor, "N"], members: Float64[Tensor, "K"], factor: float = EXCESS) -> float:
    """Share of samples below what members show: 0 unless more of them lie below a quantile than can be chance."""
    x, m = samples[samples.isfinite()], members[members.isfinite()]
    if len(x) == 0 or len(m) == 0:
        return 0.0
    found = 0.0
    for q in QUANTILES:
        bound = factor * float(m.quantile(q))
        mine, theirs = float((x < bound).double().mean()), float((m < bound).double().mean())
        pooled = (mine * len(x) + theirs * len(m) + 1) / (len(x) + len(m) + 2)
        error = math.sqrt(pooled * (1 - pooled) * (1 / len(x) + 1 / len(m)))
        if mine - theirs > STANDARD_ERRORS * error:
            found = max(found, (mine - theirs) / (1 - theirs))
    return found * len(x) / len(samples) if found >= TENTH else 0.0


# Signs -------------------------------------------------------------------------------------------------


def _signs(e: Evidence) -> list[Sign]:
    """All signs, those of lesser classes first."""
    works = working(e)
    alive = torch.ones(len(e.samples.nearest), dtype=torch.bool) if works is None else works
    return [
        *_broken(e, works), *_copies(e), *_repeats(e), *_mixtures(e), *_in_the_set(e), *_behaviour(e, alive)
    ]  # fmt: skip


def _sign(kind: Class, rows: Tensor, several: str, one: str) -> Sign:
    return Sign(kind, rows, (several, one), float(rows.double().mean()))


def _broken(e: Evidence, works: Tensor | None) -> list[Sign]:
    near = e.samples.nearest
    far = near > upper_limit(e.members.nearest, UNPROVEN if works is None else BEYOND)
    lost = ~near.isfinite() if works is None else ~works | ~near.isfinite()
    proof = ", and no score shows that it works" if works is None else ""
    beyond = f"from the originals than any working network could be ({_nearest(e)}){proof}"
    return [
        _sign("broken", lost, f"do not work ({_scores(e)})", f"does not work ({_scores(e)})"),
        _sign("broken", far, f"lie farther {beyond}".replace("it works", "they work"), f"lies farther {beyond}"),
        *([_outward(e)] if works is None else []),
    ]


def _outward(e: Evidence) -> Sign:
    """Samples that are, as a set, farther out than members, where no scores show that they work."""
    x, m = e.samples.nearest, e.members.nearest
    share = excess(-x, -m, 1 + OUTWARD + 1.5 / (e.members.distinct or len(m)))
    text = f"lie farther from the originals than these from one another, and no score shows that they work ({_nearest(e)})"
    return Sign("broken", torch.zeros(len(x), dtype=torch.bool), (text, text), share)


def _scores(e: Evidence) -> str:
    if e.score is None or e.members_score is None:
        return "NaN or Inf"
    chance = "" if e.chance is None else f", chance {e.chance:.3g}"
    return f"mean test {e.metric} {e.score:.3g}, originals {e.members_score:.3g}{chance}"


def copies(samples: Distances, members: Distances) -> Bool[Tensor, "N"]:
    """Samples that are copies of one member each.

    Near it, near no other, and with all of its deviation; and, together, at the steps of the trajectory:
    for a single sample the place between two steps is a matter of chance.
    """
    near = samples.nearest < limit(members.nearest, REPLICA)
    shared = samples.ratio >= limit(members.ratio, ALONE)  # never where there is no second member
    alone = near & ~shared
    between_steps = bool(alone.any()) and _median(samples.offset[alone]) > AT_STEP
    return torch.zeros_like(alone) if between_steps else alone & (samples.kept >= KEPT)


def _copies(e: Evidence) -> list[Sign]:
    rows = torch.stack([copies(*view) for view in _views(e)]).any(0)
    text = f"single originals ({_nearest(e)}){_by_heart(e)}"
    return [_sign("replica", rows, f"are copies of {text}", f"is a copy of {text.replace('originals', 'original', 1)}")]


def _repeats(e: Evidence) -> list[Sign]:
    """Samples that are copies of other samples: all but one of each, and sets that have collapsed."""
    n, x = len(e.samples.nearest), e.samples
    if x.pairs is None or n < 2 or x.spread is None or e.members.spread is None:
        return []
    same = torch.zeros(n, n, dtype=torch.bool)
    same[tuple(torch.triu_indices(n, n, 1))] = x.pairs < limit(e.members.nearest, REPLICA)
    repeats = same.any(0)
    text = "other samples again"
    return [_sign("interpolation", repeats, f"are {text}", "is another sample again")]


def _mixtures(e: Evidence) -> list[Sign]:
    """Samples made of members, sign by sign."""
    found: list[Sign] = []
    x, m = e.samples, e.members
    near = _any(e, "nearest", REPLICA) & ~(x.ratio >= limit(m.ratio, ALONE))
    found.append(_path(e, near))
    found.append(_pulled(e, near & (x.kept < KEPT)))
    for name, factor, words in WEIGHTS:
        several, one = words
        said = f" ({_typical(e, name)})"
        found.append(_sign("interpolation", _any(e, name, factor), several + said, one + said))
    return found


WEIGHTS: tuple[tuple[str, float, tuple[str, str]], ...] = (
    ("line", LINE, ("lie on lines through two originals", "lies on a line through two originals")),
    ("outside", SPAN, ("are weighted combinations of originals", "is a weighted combination of originals")),
    ("centre", CENTRE, ("gather around the average of all originals", "lies near the average of all originals")),
    ("nearest", NEAREST, ("stay close to single originals", "stays close to a single original")),
    ("ratio", SINGLE, ("come from one original each", "comes from one original")),
)
"""Numbers of :class:`Distances` that are small for mixtures, their factors, and what samples do that have them."""


def _any(e: Evidence, name: str, factor: float) -> Bool[Tensor, "N"]:
    """Samples below the limit in any view."""
    rows = torch.zeros(len(e.samples.nearest), dtype=torch.bool)
    for x, m in _views(e):
        values, theirs = getattr(x, name), getattr(m, name)
        if values is None or theirs is None or len(values) != len(rows):
            continue
        if name == "outside" and not _median(theirs) > max(COMPUTED, ROUNDED * m.rounding):
            continue
        rows |= values < limit(theirs, factor)
    return rows


def _views(e: Evidence) -> list[tuple[Distances, Distances]]:
    """Samples and members: matched and as they are, in all directions and in the zoo's principal ones."""
    pairs = [(e.samples, e.members), (e.samples.unmatched, e.members.unmatched)]
    known = [(x, m) for x, m in pairs if x is not None and m is not None]
    inner = [(x.principal, m.principal) for x, m in known]
    return known + [(x, m) for x, m in inner if x is not None and m is not None]


def _path(e: Evidence, near: Tensor) -> Sign:
    text = f"the path of the training without repeating its saved steps ({_nearest(e)}){_by_heart(e)}"
    off = near if bool(near.any()) and _median(e.samples.offset[near]) > AT_STEP else torch.zeros_like(near)
    return _sign("interpolation", off, f"follow {text}", f"follows {text}")


def _pulled(e: Evidence, rows: Tensor) -> Sign:
    kept = _median(e.samples.kept[rows]) if bool(rows.any()) else 1.0
    text = f"pulled towards the average of all, keeping {kept:.0%} of what sets each apart from it ({_nearest(e)})"
    text += _by_heart(e)
    return _sign("interpolation", rows, f"are single originals {text}", f"is a single original {text}")


def _in_the_set(e: Evidence) -> list[Sign]:
    """What only the set shows in its weights."""
    none = torch.zeros(len(e.samples.nearest), dtype=torch.bool)
    found = []
    for name, _, (several, one) in WEIGHTS:
        share = max(_excess(name, *view) for view in _views(e))
        text = f"as a set {several} ({_typical(e, name)})"
        found.append(Sign("interpolation", none, (text, text), share))
    x, m = e.samples.spread, e.members.spread
    if x is not None and m is not None and len(x) > 1 and _clearly_less(x, m, SPREAD):
        text = (
            "are far closer to one another than originals are (typically "
            f"{_median(x):.2f} apart, originals {_median(m):.2f})"
        )
        found.append(Sign("interpolation", none, (text, text), 1 - _median(x) / _median(m)))
    return found


def _excess(name: str, x: Distances, m: Distances) -> float:
    values, theirs = getattr(x, name), getattr(m, name)
    if values is None or theirs is None or (name == "outside" and not _median(theirs) > max(COMPUTED, ROUNDED * m.rounding)):
        return 0.0
    return excess(values, theirs, SPAN if name == "outside" else EXCESS)


def _behaviour(e: Evidence, alive: Tensor) -> list[Sign]:
    """What the mistakes of the samples that work show."""
    mine, theirs = e.behaviour, e.members_behaviour
    if mine is None or theirs is None or not bool(alive.any()):
        return []
    within, mean = theirs.apart
    if within is None or within == 1 or theirs.differing < DIFFERING:
        return []
    none, n = torch.zeros_like(alive), len(alive)
    far, usual = 1 - mine.max, 1 - theirs.max
    said = f"(error similarity {float(mine.max.mean()):.2f} to the closest, {float(theirs.max.mean()):.2f} for an original left out)"
    found = [
        _sign("replica", alive & (far < limit(usual, SAME)), f"give the answers of single originals {said}",
              f"gives the answers of a single original {said}"),
    ]  # fmt: skip
    every = float(alive.double().mean())
    if mine.within is not None and bool(alive.all()) and 1 - mine.within < ALIKE * (1 - within):
        text = f"behave more alike than the originals do (error similarity {mine.within:.2f} among samples, {within:.2f} among originals)"
        found.append(Sign("interpolation", none, (text, text), every))
    if _clearly_less(1 - mine.mean[alive], 1 - mean, ALIKE_TO_ZOO, 2):
        text = f"behave more like the originals than these like each other (error similarity {float(mine.mean[alive].mean()):.2f} to the originals, {within:.2f} among them)"
        found.append(Sign("interpolation", none, (text, text), every))
    if _clearly_less(far[alive], usual, ALIKE_TO_ONE, 2):
        text = f"repeat the mistakes of single originals {said}"
        found.append(Sign("interpolation", none, (text, text), every))
    return found


def _clearly_less(
    mine: Float64[Tensor, "N"], theirs: Float64[Tensor, "K"], factor: float, errors: float = STANDARD_ERRORS
) -> bool:
    """Whether a mean is below the factor times the other by more than both scatter from set to set."""
    gap = factor * theirs.mean() - mine.mean()
    scatter = mine.var(correction=0) / len(mine) + factor**2 * theirs.var(correction=0) / len(theirs)
    return bool(gap > errors * scatter.sqrt())


# Words -------------------------------------------------------------------------------------------------


def _why(e: Evidence, kind: Class, signs: list[Sign], shares: dict[Class, float], told: bool) -> str:
    n = len(e.samples.nearest)
    if kind == "novel" or (not told and shares["novel"] > 1 - TENTH):
        first = _as_far(e, round(shares["novel"] * n), n)
        if not told:
            first = f"the zoo holds {e.members.distinct} distinct networks, too few to tell whether samples are new"
    else:
        best = max((sign for sign in signs if sign.kind == kind), key=lambda sign: sign.share)
        first = _counted(best, n)
    rest = ", ".join(f"{share:.0%} {name}" for name, share in shares.items() if 0 < share < 1)
    parts = [first, f"in all {rest}" if rest else "", e.matched if kind == "novel" else "", "" if kind == "broken" else matched(e)]
    why = "; ".join(part for part in parts if part)
    return f"{why[0].upper()}{why[1:]}."


def _counted(sign: Sign, n: int) -> str:
    several, one = sign.says
    if not bool(sign.rows.any()):
        return f"the samples {several}"
    count = int(sign.rows.sum())
    if count == n:
        return f"the sample {one}" if n == 1 else f"all {n} samples {several}"
    return f"one of {n} samples {one}" if count == 1 else f"{count} of {n} samples {several}"


def _as_far(e: Evidence, count: int, n: int) -> str:
    near, held_out = _medians(e, "nearest")
    who = f"{count} of {n} samples" if count < n else f"all {n} samples" if n > 1 else "the sample"
    verb = "is" if n == 1 or count == 1 else "are"
    where = "farther from the originals than" if near > FARTHER * held_out else "as far from the originals as"
    text = f"{who} {verb} {where} these from one another, in weights ({_nearest(e)})"
    mine, theirs = e.behaviour, e.members_behaviour
    if mine is None or theirs is None:
        return f"{text}, which is all that was compared"
    if theirs.apart[0] == 1 or theirs.differing < DIFFERING:
        return f"{text}, while behaviour tells nothing because the originals all make the same mistakes"
    most, most_held = float(mine.max.mean()), float(theirs.max.mean())
    return f"{text}, and in behaviour (error similarity {most:.2f} to the closest, {most_held:.2f} for an original left out)"


def _nearest(e: Evidence) -> str:
    near, held_out = _medians(e, "nearest")
    return f"typically {near:.2f} away from the nearest, where an original left out of the zoo is {held_out:.2f} away"


def _typical(e: Evidence, name: str) -> str:
    mine, theirs = _medians(e, name)
    if name == "outside":
        return f"{mine:.2g} of their variation is something else, {theirs:.2g} for an original left out of the zoo"
    what = {"line": "from the nearest line", "centre": "from the average", "nearest": "from the nearest original",
            "ratio": "times the distance of the second nearest original"}[name]  # fmt: skip
    return f"typically {mine:.2f} {what}, {theirs:.2f} for an original left out of the zoo"


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


def _median(values: Float64[Tensor, "N"] | None) -> float:
    """Of those that are known; NaN if none is."""
    known = values[values.isfinite()] if values is not None else torch.zeros(0)
    return float(known.quantile(0.5)) if len(known) else math.nan
