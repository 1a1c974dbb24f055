r"""Criteria that put some of the samples into a lesser class than *novel*.

Each criterion compares samples with distinct members that are left out of the zoo
(:mod:`paramdiff.evaluation.thresholds`, :mod:`paramdiff.evaluation.distinct_members`), so 1 is what draws of the
zoo's own distribution would give. For averages of m independent members the ratios are known: :math:`1/\sqrt m` for
the distance from the zoo's mean, 0 for the residual to the span, and :math:`\sqrt{(m-1)/2m}` (0.5 for m = 2) for the
nearest member.

A *replica* is a copy of one member: near it and near no other, with all of its deviation from the zoo's
mean, and, in a trajectory, at one of its steps (:class:`paramdiff.evaluation.distances.Distances`); or it gives the
answers of one member, whatever its weights. Being near alone would not do: on a densely saved trajectory every point
of the path has a member close by, and a member shrunk towards the mean is a weighted average. Noise does not make a
copy new: a member with noise of the zoo's own size is no copy any more, since most of it is noise, but as long as one
can tell which member it came from it counts as interpolation.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from paramdiff.evaluation.behaviour_criteria import behaviour_criteria
from paramdiff.evaluation.criterion import (
    Criterion,
    median,
    memorised,
    nearest_words,
    sample_criterion,
    set_criterion,
    typical,
)
from paramdiff.evaluation.distances import Distances
from paramdiff.evaluation.evidence import Evidence, working
from paramdiff.evaluation.thresholds import EXCESS, clearly_less, excess, limit, upper_limit

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
"""Nearest member, below which a sample stays close to it: above the 0.71 of a member with the zoo's own noise."""

LINE = 0.5
"""Distance to a line through two members, below which a sample is a mixture of two."""

CENTRE = 0.85
"""Distance from the zoo's mean, below which a sample is an average: above the 0.71 of an average of two."""

SPAN = 0.5
"""Residual to the zoo's span, below which a sample lies in it."""

ROUNDED = 100.0
"""Residual of members to the span of the others, in units of rounding, from which the span says anything."""

COMPUTED = 1e-6
"""Least such residual that cannot be numerical error."""

SPREAD = 0.75
"""Mean distance from the other samples, over that of members, below which a set has collapsed."""

UNPROVEN = 1.5
"""Nearest member, above which nothing shows that a sample works, unless its score does. Networks trained in the same
way with another seed or for longer are at 1 to 1.8."""

BEYOND = 2.5
"""Nearest member, above which no score makes a sample a network like the originals: the farthest working networks
that were seen, trained without looking at the zoo, are at 1.8, the mean with noise of five deviations is at 3.6."""

OUTWARD = 0.05
"""Part by which samples without scores may lie farther out than quantiles of the members, as a set."""

UNSURE = 3.0
"""More of it, over the number of distinct members, because coordinates are measured by their variation."""

APART = 4.0
"""Standard errors by which the mean distance of a collapsed set must be less."""


def criteria_of(e: Evidence) -> list[Criterion]:
    """All criteria, those of lesser classes first."""
    works = working(e)
    alive = torch.ones(len(e.samples.nearest), dtype=torch.bool) if works is None else works
    return [
        *_broken(e, works), *_copies(e), *_repeats(e), *_mixtures(e), *_in_the_set(e), *behaviour_criteria(e, alive)
    ]  # fmt: skip


def _broken(e: Evidence, works: Tensor | None) -> list[Criterion]:
    near = e.samples.nearest
    far = near > upper_limit(e.members.nearest, UNPROVEN if works is None else BEYOND)
    lost = ~near.isfinite() if works is None else ~works | ~near.isfinite()
    proof = ", and no score shows that it works" if works is None else ""
    beyond = f"from the originals than any working network could be ({nearest_words(e)}){proof}"
    return [
        sample_criterion("broken", lost, f"do not work ({_scores(e)})", f"does not work ({_scores(e)})"),
        sample_criterion(
            "broken", far, f"lie farther {beyond}".replace("it works", "they work"), f"lies farther {beyond}"
        ),
        *([_outward(e)] if works is None else []),
    ]


def _outward(e: Evidence) -> Criterion:
    """Samples that are, as a set, farther out than members, where no scores show that they work."""
    x, m = e.samples.nearest, e.members.nearest
    share = excess(-x, -m, 1 + OUTWARD + UNSURE / (e.members.distinct or len(m)))
    proof = "and no score shows that they work"
    text = f"lie farther from the originals than these from one another, {proof} ({nearest_words(e)})"
    return set_criterion(e, text, share, "broken")


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
    alone = near & ~_shared(samples, members)
    between_steps = bool(alone.any()) and median(samples.offset[alone]) > AT_STEP
    return torch.zeros_like(alone) if between_steps else alone & (samples.kept >= KEPT)


def _shared(samples: Distances, members: Distances) -> Bool[Tensor, "N"]:
    """Samples with a second member as near; never where there is no second one."""
    known = bool(members.ratio.isfinite().any())  # not among two members
    return samples.ratio >= (limit(members.ratio, ALONE) if known else ALONE)


def _copies(e: Evidence) -> list[Criterion]:
    rows = torch.stack([copies(*view) for view in _views(e)]).any(0)
    text = f"single originals ({nearest_words(e)}){memorised(e)}"
    return [
        sample_criterion(
            "replica",
            rows,
            f"are copies of {text}",
            f"is a copy of {text.replace('originals', 'original', 1)}",
        )
    ]


def _repeats(e: Evidence) -> list[Criterion]:
    """Samples that are copies of earlier samples."""
    n = len(e.samples.nearest)
    same = torch.zeros(n, n, dtype=torch.bool)
    if n > 1:
        for x, m in _views(e):
            if x.pairs is not None and len(x.pairs):
                same[tuple(torch.triu_indices(n, n, 1))] |= x.pairs < limit(m.nearest, REPLICA)
    return [sample_criterion("interpolation", same.any(0), "repeat other samples", "repeats another sample")]


def _mixtures(e: Evidence) -> list[Criterion]:
    """Samples made of members, criterion by criterion."""
    found: list[Criterion] = []
    x, m = e.samples, e.members
    near = _any(e, "nearest", REPLICA) & ~_shared(x, m)
    found.append(_path(e, near))
    found.append(_pulled(e, near & (x.kept < KEPT)))
    for name, factor, words in WEIGHTS:
        several, one = words
        said = f" ({typical(e, name)})"
        found.append(sample_criterion("interpolation", _any(e, name, factor), several + said, one + said))
    return found


WEIGHTS: tuple[tuple[str, float, tuple[str, str]], ...] = (
    ("line", LINE, ("lie on lines through two originals", "lies on a line through two originals")),
    ("outside", SPAN, ("are weighted combinations of originals", "is a weighted combination of originals")),
    (
        "centre",
        CENTRE,
        ("gather around the average of all originals", "lies near the average of all originals"),
    ),
    ("nearest", NEAREST, ("stay close to single originals", "stays close to a single original")),
    ("ratio", SINGLE, ("come from one original each", "comes from one original")),
)
"""Numbers of :class:`Distances` that are small for mixtures, their factors, and in words what samples with small ones
do."""


def _any(e: Evidence, name: str, factor: float) -> Bool[Tensor, "N"]:
    """Samples below the limit in any view."""
    rows = torch.zeros(len(e.samples.nearest), dtype=torch.bool)
    for x, m in _views(e):
        values, theirs = getattr(x, name), getattr(m, name)
        if values is not None and theirs is not None and _informative(name, m):
            rows |= values < limit(theirs, factor)
    return rows


def _views(e: Evidence) -> list[tuple[Distances, Distances]]:
    """Samples and members: matched and as they are, in all directions and in the zoo's principal ones."""
    pairs = [(e.samples, e.members), (e.samples.unmatched, e.members.unmatched)]
    known = [(x, m) for x, m in pairs if x is not None and m is not None]
    inner = [(x.principal, m.principal) for x, m in known]
    return known + [(x, m) for x, m in inner if x is not None and m is not None]


def _path(e: Evidence, near: Tensor) -> Criterion:
    text = f"the path of the training without repeating its saved steps ({nearest_words(e)}){memorised(e)}"
    off = near if bool(near.any()) and median(e.samples.offset[near]) > AT_STEP else torch.zeros_like(near)
    return sample_criterion("interpolation", off, f"follow {text}", f"follows {text}")


def _pulled(e: Evidence, rows: Tensor) -> Criterion:
    kept = median(e.samples.kept[rows]) if bool(rows.any()) else 1.0
    text = f"pulled towards the average of all, keeping {kept:.0%} of what sets each apart from it ({nearest_words(e)})"
    text += memorised(e)
    return sample_criterion(
        "interpolation", rows, f"are single originals {text}", f"is a single original {text}"
    )


def _in_the_set(e: Evidence) -> list[Criterion]:
    """What only the set of samples as a whole shows in its weights."""
    found = []
    for name, _, (several, _one) in WEIGHTS:
        share = max(_excess(name, *view) for view in _views(e))
        found.append(set_criterion(e, f"as a set {several} ({typical(e, name)})", share))
    if len(e.samples.nearest) <= (e.members.distinct or 0):  # more samples lie nearer to one another
        close = max(_excess("among", *view) for view in _views(e))
        found.append(set_criterion(e, "as a set lie closer to one another than originals do", close))
    x, m = e.samples.spread, e.members.spread
    if x is not None and m is not None and len(x) > 1 and clearly_less(x, m, SPREAD, APART):
        apart = f"typically {median(x):.2f} apart, originals {median(m):.2f}"
        text = f"are far closer to one another than originals are ({apart})"
        found.append(set_criterion(e, text, 1 - median(x) / median(m)))
    return found


def _informative(name: str, members: Distances) -> bool:
    """Whether a number says anything; residuals do not where members lie in the span of the others themselves."""
    return name != "outside" or median(members.outside) > max(COMPUTED, ROUNDED * members.rounding)


def _excess(name: str, x: Distances, m: Distances) -> float:
    values, theirs = getattr(x, name), getattr(m, name)
    if values is None or theirs is None or not _informative(name, m):
        return 0.0
    return excess(values, theirs, SPAN if name == "outside" else EXCESS)
