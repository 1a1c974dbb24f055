"""One row of ``results.json`` per set of networks, and the arrays behind it.

Distances and similarities of the originals are those of a member left out of the zoo: ``to_zoo`` never
counts a member itself, and ``nearest``, ``to_zoo_max`` and ``residual_to_span`` also leave out its temporal
neighbours in a trajectory. What does not exist (similarity within one network, similarity without
mistakes, the interval of a metric that is no mean over items) is None, never NaN.
"""

import math
from typing import Any

from jaxtyping import Float64
from torch import Tensor

from paramdiff.study.comparison import Comparison, Originals
from paramdiff.study.value import bootstrap_ci, paired_difference_ci

Row = dict[str, Any]


def summarise(name: str, comparison: Comparison, originals: Originals, label: str | None = None) -> Row:
    """One entry of ``models``.

    Args:
        name: key of the row; ``original`` for ``originals.own``.
        comparison: the networks.
        originals: what the selected network is compared with: the original selected in the same way.
        label: the row's spelling for people, if it differs.

    Returns:
        The keys of the schema, and ``best_of`` (N, from which ``best`` and ``selected`` were chosen),
        ``label``, ``selected.vs_original`` (``difference`` of test scores and its paired ``ci95``, None
        for the originals). Distances are medians over networks, similarities means.
    """
    scored, higher = comparison.scored, originals.higher_is_better
    versus = None if comparison is originals.own else _versus(comparison, originals.own)
    return {
        "name": name, "label": label or name, "n": scored.n, "best_of": scored.n,
        "train": spread(scored.train, higher), "test": spread(scored.test, higher),
        "selected": {**_selected(comparison), "vs_original": versus},
        "similarity": _similarity(comparison), "distance": _distance(comparison),
    }  # fmt: skip


def arrays(comparison: Comparison) -> dict[str, Tensor]:
    """float64 [N] each: ``train``, ``test``, ``nearest``, and ``to_zoo_max`` if mistakes are known."""
    found = {
        "train": comparison.scored.train, "test": comparison.scored.test,
        "nearest": comparison.distances.nearest,
    }  # fmt: skip
    return found if comparison.behaviour is None else found | {"to_zoo_max": comparison.behaviour.max}


def spread(values: Float64[Tensor, "N"], higher_is_better: bool) -> dict[str, float | None]:
    """Best, mean, median (midpoint of the two middle values), worst and population deviation."""
    high, low = float(values.max()), float(values.min())
    best, worst = (high, low) if higher_is_better else (low, high)
    std = float(values.std(correction=0))
    found = {
        "best": best,
        "mean": float(values.mean()),
        "median": float(values.quantile(0.5)),
        "worst": worst,
        "std": std,
    }
    return {key: finite(value) for key, value in found.items()}


def finite(value: float | Tensor | None) -> float | None:
    """The value as a float, None if it is NaN, infinite or missing: results.json is strict JSON."""
    return float(value) if value is not None and math.isfinite(value) else None


def _selected(comparison: Comparison) -> Row:
    scored, index = comparison.scored, comparison.selected
    values = scored.item_values(index)
    return {
        "index": index, "train": finite(scored.train[index]), "test": finite(scored.test[index]),
        "test_ci95": None if values is None else _bounds(bootstrap_ci(values)),
    }  # fmt: skip


def _versus(comparison: Comparison, own: Comparison) -> Row:
    mine = comparison.scored.item_values(comparison.selected)
    theirs = own.scored.item_values(own.selected)
    difference = comparison.scored.test[comparison.selected] - own.scored.test[own.selected]
    interval = None if mine is None or theirs is None else _bounds(paired_difference_ci(mine, theirs))
    return {"difference": finite(difference), "ci95": interval}


def _bounds(interval: tuple[float, float]) -> list[float] | None:
    return list(interval) if all(map(math.isfinite, interval)) else None


def _similarity(comparison: Comparison) -> Row:
    behaviour = comparison.behaviour
    if behaviour is None:
        return {"within": None, "to_zoo_mean": None, "to_zoo_max_mean": None}
    return {
        "within": behaviour.within,
        "to_zoo_mean": finite(behaviour.mean.mean()),
        "to_zoo_max_mean": finite(behaviour.max.mean()),
    }


def _distance(comparison: Comparison) -> Row:
    distances = comparison.distances
    return {
        "nearest": finite(distances.nearest.quantile(0.5)),
        "residual_to_span": finite(distances.residual.quantile(0.5)),
    }
