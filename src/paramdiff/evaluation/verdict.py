"""What the samples are: copies of the zoo, something between its members, new networks, or none that work.

Generators of weights have been found to replicate or to interpolate their training checkpoints (Zeng et
al., arXiv 2506.07998), and averages of members score as well as what such generators give. So *novel* has
to be earned, by nine tenths of the samples, in weight space and in behaviour, and the yardstick is always what the zoo
itself shows: a distinct member left out of it.

Each sample is judged by itself (:mod:`paramdiff.evaluation.criteria`). The class of the set is that of its largest
share, but from a tenth of lesser classes on it is not novel. Whatever is neither copy nor novel is called
interpolation.

:func:`judge` takes samples and a zoo; ``docs/verdict.md`` shows its verdicts on samples of known origin.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from paramdiff.errors import ZooError
from paramdiff.evaluation.behaviour_criteria import DIFFERING
from paramdiff.evaluation.criteria import criteria_of
from paramdiff.evaluation.criterion import GAP, Class, Criterion, medians, nearest_words
from paramdiff.evaluation.evidence import Evidence, matched
from paramdiff.evaluation.reference import Reference
from paramdiff.evaluation.results_schema import VerdictInfo
from paramdiff.evaluation.similarity import Behaviour
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo.zoo import Zoo

__all__ = ["CLASSES", "GAP", "Class", "Verdict", "judge", "verdict"]

CLASSES: tuple[Class, ...] = ("replica", "interpolation", "novel", "broken")

TENTH = 0.1
"""Share of samples in lesser classes from which a set is not novel."""

SHOWN = 0.005
"""Share from which a class is named in the sentence: 1% when rounded."""

FARTHER = 1.25
"""Nearest member, above which novel samples are said to lie farther out than the zoo's own distribution."""

TOLD = 3
"""Fewest distinct members with which novelty can be judged."""


@dataclass(frozen=True)
class Verdict:
    """``kind`` is the class; ``why`` says it with the numbers that decided; ``shares`` of the samples in each class."""

    kind: Class
    why: str
    shares: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> VerdictInfo:
        return {"class": self.kind, "why": self.why, "shares": self.shares}


def judge(
    samples: Float[Tensor, "N _"], zoo: Zoo | Float[Tensor, "K D"], model: nn.Module | None = None,
    scores: Float[Tensor, "N"] | None = None, zoo_scores: Float[Tensor, "K"] | None = None,
    wrong: Bool[Tensor, "N items"] | None = None, zoo_wrong: Bool[Tensor, "K items"] | None = None,
    metric: str = "score", higher_is_better: bool = True, chance: float | None = None,
) -> Verdict:  # fmt: skip
    """Judge vectors by what is known of them.

    Args:
        samples: N vectors.
        zoo: K members, as a zoo or as vectors.
        model: their network, for its symmetries.
        scores, zoo_scores: test scores; without both nothing shows that samples work.
        wrong, zoo_wrong: mistakes on the same items; without both behaviour is not compared.
        metric, higher_is_better, chance: what the scores are.

    Raises:
        ZooError: vectors of another length than the members.
    """
    if isinstance(zoo, Tensor):
        zoo = Zoo(zoo, ParameterSpec.from_state_dict({"vectors": zoo[0]}), {"vectors": zoo[0]})
    if samples.ndim != 2 or samples.shape[1] != zoo.dim:
        raise ZooError(
            f"samples of shape {list(samples.shape)}", expected=f"[N, {zoo.dim}], one row a sample"
        )
    reference = Reference(zoo, model)
    behaviour = members = None
    if wrong is not None and zoo_wrong is not None:
        behaviour = Behaviour.of(wrong, zoo_wrong)
        members = Behaviour.of_members(zoo_wrong, reference.alike)
    mean = None if scores is None or zoo_scores is None else float(scores.double().mean())
    theirs = None if scores is None or zoo_scores is None else float(zoo_scores.double().mean())
    return verdict(Evidence(
        reference.distances(samples), reference.members, behaviour, members, mean, theirs, metric=metric,
        higher_is_better=higher_is_better, chance=chance, matched=reference.note,
        scores=None if scores is None else scores.double(),
    ))  # fmt: skip


def verdict(evidence: Evidence) -> Verdict:
    """Judge samples by the thresholds of this module."""
    n = len(evidence.samples.nearest)
    found = [criterion for criterion in criteria_of(evidence) if criterion.share > 0]
    shares = _shares(found, n)
    lesser: list[Class] = ["replica", "interpolation", "broken"]
    told = (evidence.members.distinct or TOLD) >= TOLD
    kind: Class = "novel" if told else "interpolation"
    if sum(shares[name] for name in lesser) >= TENTH - 1e-9:
        kind = max(lesser, key=lambda name: shares[name])
    return Verdict(
        kind, _why(evidence, kind, found, shares, told), {k: round(v, 6) for k, v in shares.items()}
    )


def _shares(criteria: Iterable[Criterion], n: int) -> dict[Class, float]:
    """Share of each class; a sample is of the first class whose criterion it meets, a criterion of the set takes what
    is left."""
    free, shares = torch.ones(n, dtype=torch.bool), dict.fromkeys(CLASSES, 0.0)
    criteria = list(criteria)
    for criterion in criteria:
        shares[criterion.kind] += float((criterion.rows & free).sum()) / n
        free &= ~criterion.rows
    left = float(free.sum()) / n
    for criterion in criteria:
        if not criterion.rows.any():
            more = min(left, max(0.0, criterion.share - shares[criterion.kind]))
            shares[criterion.kind] += more
            left -= more
    shares["novel"] = left
    return shares


def _why(e: Evidence, kind: Class, criteria: list[Criterion], shares: dict[Class, float], told: bool) -> str:
    n = len(e.samples.nearest)
    if kind == "novel" or (not told and shares["novel"] > 1 - TENTH):
        first = _as_far(e, round(shares["novel"] * n), n)
        if not told:
            first = f"the zoo holds {e.members.distinct} distinct networks, too few to tell whether samples are new"
    else:
        best = max(
            (criterion for criterion in criteria if criterion.kind == kind),
            key=lambda criterion: criterion.share,
        )
        first = _counted(best, n)
    shown = {name: share for name, share in shares.items() if share >= SHOWN}
    rest = ", ".join(f"{share:.0%} {name}" for name, share in shown.items()) if len(shown) > 1 else ""
    parts = [
        first,
        f"in all {rest}" if rest else "",
        e.matched if kind == "novel" else "",
        "" if kind == "broken" else matched(e),
    ]
    why = "; ".join(part for part in parts if part)
    return f"{why[0].upper()}{why[1:]}."


def _counted(criterion: Criterion, n: int) -> str:
    several, one = criterion.says
    if not bool(criterion.rows.any()):
        return f"the samples {several}"
    count = int(criterion.rows.sum())
    if count == n:
        return f"the sample {one}" if n == 1 else f"all {n} samples {several}"
    return f"one of {n} samples {one}" if count == 1 else f"{count} of {n} samples {several}"


def _as_far(e: Evidence, count: int, n: int) -> str:
    near, held_out = medians(e, "nearest")
    who = f"{count} of {n} samples" if count < n else f"all {n} samples" if n > 1 else "the sample"
    verb = "is" if n == 1 or count == 1 else "are"
    where = "farther from the originals than" if near > FARTHER * held_out else "as far from the originals as"
    text = f"{who} {verb} {where} these from one another, in weights ({nearest_words(e)})"
    mine, theirs = e.behaviour, e.members_behaviour
    if mine is None or theirs is None:
        return f"{text}, which is all that was compared"
    if theirs.apart[0] == 1 or theirs.differing < DIFFERING:
        return f"{text}, while behaviour tells nothing because the originals all make the same mistakes"
    most, most_held = float(mine.max.mean()), float(theirs.max.mean())
    said = f"error similarity {most:.2f} to the closest, {most_held:.2f} for an original left out"
    return f"{text}, and in behaviour ({said})"
