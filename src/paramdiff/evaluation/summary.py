"""One row of ``results.json`` per set of networks, and the arrays behind it.

Distances and similarities of the originals are those of a member left out of the zoo: ``to_zoo`` never
counts a member itself, and ``nearest``, ``ratio``, ``to_zoo_max`` and ``residual_to_span`` also leave out what is alike
to it (:mod:`paramdiff.evaluation.distinct_members`). What does not exist (similarity within one network, similarity
without mistakes, the interval of a metric that is no mean over items) is None, never NaN.
"""

import math
from collections.abc import Sequence

from jaxtyping import Float64
from torch import Tensor

from paramdiff.evaluation.comparison import Comparison, Originals
from paramdiff.evaluation.ensembles import MEASURES, PAIRED, Ensembles
from paramdiff.evaluation.results_schema import (
    Distance,
    Ensemble,
    Model,
    Selected,
    Similarity,
    Spread,
    Versus,
)
from paramdiff.evaluation.statistics import bootstrap_ci, paired_difference_ci

ORIGINAL, RECALIBRATED, AS_SAVED = ORIGINALS = ("original", "original-recalibrated", "original-as-saved")
"""Rows of the zoo: with its frozen rest and statistics as trained, with statistics measured anew like those of
samples, and the networks of its checkpoint files as they are."""


def summarise(name: str, comparison: Comparison, originals: Originals, label: str | None = None) -> Model:
    """One entry of ``models``.

    Args:
        name: key of the row; ``original`` for ``originals.own``.
        comparison: the networks.
        originals: what the selected network is compared with: the original selected in the same way.
        label: the row's spelling for people, if it differs.

    Returns:
        The keys of the schema, and ``best_of`` (N, from which ``best`` and ``selected`` were chosen),
        ``label``, ``selected.vs_original`` (``difference`` of test scores and its paired ``ci95``, None
        for the originals), ``distance.ratio`` (nearest over second nearest that is no temporal neighbour of it;
        near 0 for copies). Distances are medians over networks, similarities means. ``ensembles``, if
        the task has any: one entry per size ``m``, 1 first. ``distance.nearest_ratio`` and ``distance.pairwise_ratio``
        are medians over those of distinct members, after the symmetries of the network.
    """
    scored, higher = comparison.scored, originals.higher_is_better
    versus = None if comparison is originals.own else _versus(comparison, originals.own)
    row: Model = {
        "name": name, "label": label or name, "n": scored.n, "best_of": scored.n,
        "train": spread(scored.train, higher), "test": spread(scored.test, higher),
        "selected": _selected(comparison, versus),
        "similarity": _similarity(comparison), "distance": _distance(comparison, originals),
    }  # fmt: skip
    reference = () if comparison is originals.own else originals.own.scored.ensembles
    together = [_ensembles(one, reference) for one in scored.ensembles]
    if together:
        row["ensembles"] = together
    return row


def arrays(comparison: Comparison) -> dict[str, Tensor]:
    """Arrays for the figures, to be stored with the scores.

    float64 [N] each: ``train``, ``test``, ``nearest``; where mistakes are known ``to_zoo_max``, and float16
    error-IoU pair by pair: ``iou_within`` [n, n] and, unless the networks are the zoo itself, ``iou_between``
    [n, k], of at most 200 networks evenly chosen from either.
    """
    found = {
        "train": comparison.scored.train, "test": comparison.scored.test,
        "nearest": comparison.distances.nearest,
    }  # fmt: skip
    behaviour = comparison.behaviour
    return found if behaviour is None else found | {"to_zoo_max": behaviour.max} | behaviour.pairs


def spread(values: Float64[Tensor, "N"], higher_is_better: bool) -> Spread:
    """Best, mean, median (midpoint of the two middle values), worst and population deviation."""
    high, low = float(values.max()), float(values.min())
    best, worst = (high, low) if higher_is_better else (low, high)
    std = float(values.std(correction=0))
    return {
        "best": finite(best), "mean": finite(values.mean()), "median": finite(values.quantile(0.5)),
        "worst": finite(worst), "std": finite(std),
    }  # fmt: skip


def finite(value: float | Tensor | None) -> float | None:
    """The value as a float, None if it is NaN, infinite or missing: results.json is strict JSON."""
    return float(value) if value is not None and math.isfinite(value) else None


def _selected(comparison: Comparison, versus: Versus | None) -> Selected:
    scored, index = comparison.scored, comparison.selected
    values = scored.item_values(index)
    return {
        "index": index, "train": finite(scored.train[index]), "test": finite(scored.test[index]),
        "test_ci95": None if values is None else bounds(bootstrap_ci(values)), "vs_original": versus,
    }  # fmt: skip


def _versus(comparison: Comparison, own: Comparison) -> Versus:
    mine = comparison.scored.item_values(comparison.selected)
    theirs = own.scored.item_values(own.selected)
    difference = comparison.scored.test[comparison.selected] - own.scored.test[own.selected]
    interval = None if mine is None or theirs is None else bounds(paired_difference_ci(mine, theirs))
    return {"difference": finite(difference), "ci95": interval}


def _ensembles(mine: Ensembles, originals: Sequence[Ensembles]) -> Ensemble:
    """Means over the ensembles of one size, their deviation, and the paired difference to the originals' ones.

    The interval is over items, for these networks; how far ensembles scatter is what ``std`` says.
    """
    theirs = next((one for one in originals if one.m == mine.m), None)
    known = {name: mine.measures.get(name) for name in MEASURES}
    versus: dict[str, Versus | None] | None = None
    if theirs is not None:
        versus = {name: _difference(mine, theirs, name) for name in PAIRED}
    return {
        "m": mine.m, "groups": mine.groups,
        "accuracy": _mean(known["accuracy"]), "nll": _mean(known["nll"]), "ece": _mean(known["ece"]),
        "disagreement": _mean(known["disagreement"]),
        "std": {name: None if value is None else finite(value.std(correction=0)) for name, value in known.items()},
        "vs_original": versus,
    }  # fmt: skip


def _mean(values: Tensor | None) -> float | None:
    return None if values is None else finite(values.mean())


def _difference(mine: Ensembles, theirs: Ensembles, name: str) -> Versus:
    if name not in mine.items or name not in theirs.items:
        return {"difference": None, "ci95": None}
    difference = mine.measures[name].mean() - theirs.measures[name].mean()
    interval = paired_difference_ci(mine.items[name], theirs.items[name])
    return {"difference": finite(difference), "ci95": bounds(interval)}


def bounds(interval: tuple[float, float]) -> list[float | None] | None:
    """An interval for results.json, None if it is not known."""
    return list(interval) if all(map(math.isfinite, interval)) else None


def _similarity(comparison: Comparison) -> Similarity:
    behaviour = comparison.behaviour
    if behaviour is None:
        return {"within": None, "to_zoo_mean": None, "to_zoo_max_mean": None}
    return {
        "within": behaviour.within,
        "to_zoo_mean": finite(behaviour.mean.mean()),
        "to_zoo_max_mean": finite(behaviour.max.mean()),
    }


def _distance(comparison: Comparison, originals: Originals) -> Distance:
    distances, members = comparison.distances, originals.own.distances
    return {
        "nearest": finite(distances.nearest.quantile(0.5)),
        "ratio": finite(distances.ratio.quantile(0.5)),
        "residual_to_span": finite(distances.residual.quantile(0.5)),
        "nearest_ratio": _over(distances.nearest, members.nearest),
        "pairwise_ratio": _over(distances.pairs, members.pairs),
    }


def _over(values: Tensor | None, members: Tensor | None) -> float | None:
    """Ratio of medians; None where there is nothing to compare with."""
    if values is None or members is None or not len(values) or not len(members):
        return None
    usual = float(members.quantile(0.5))
    return finite(float(values.quantile(0.5)) / usual) if usual > 0 else None
