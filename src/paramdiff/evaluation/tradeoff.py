"""One point of the trade-off between accuracy and diversity: networks drawn at one value of a knob.

Score and similarity are those of the rows of ``results.json`` (:mod:`paramdiff.evaluation.summary`), on the test
data alone: nothing is selected here.
"""

import math
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from paramdiff.evaluation.comparison import per_item
from paramdiff.evaluation.ensembles import ensembles_of
from paramdiff.evaluation.similarity import Behaviour
from paramdiff.evaluation.statistics import bootstrap_ci
from paramdiff.evaluation.summary import finite, spread
from paramdiff.scoring.scores import Scores


def point(test: Scores, wrong_zoo: Bool[Tensor, "K items"] | None, higher_is_better: bool) -> dict[str, Any]:
    """One point: what N networks score and how alike they are; None for what does not exist.

    Args:
        test: their scores on the test data.
        wrong_zoo: mistakes of the zoo's members on the same items, if the task knows mistakes.
        higher_is_better: direction of the metric.

    Returns:
        ``n``; ``test_mean``, ``test_median``, ``test_std`` over networks; ``test_ci95``, the interval over test
        items of the networks' mean score; ``within``, ``to_zoo_mean``, ``to_zoo_max_mean`` (eq. 7);
        ``ensembles``, by M as text: the means over ensembles of M networks of accuracy, nll, ece, disagreement.
    """
    over = spread(test.metric, higher_is_better)
    scores = {f"test_{key}": over[key] for key in ("mean", "median", "std")}
    together = {
        str(e.m): {name: finite(value) for name, value in e.means.items()} for e in ensembles_of(test)
    }
    return {
        "n": len(test.metric), **scores, "test_ci95": _interval(test), **_similarity(test, wrong_zoo),
        "ensembles": together,
    }  # fmt: skip


def _interval(test: Scores) -> list[float] | None:
    """Bootstrap over items of each item's mean over networks: the networks are drawn, the items are the sample."""
    values = per_item(test)
    if values is None:
        return None
    low, high = bootstrap_ci(values.double().mean(0))
    return [low, high] if math.isfinite(low) and math.isfinite(high) else None


def _similarity(test: Scores, wrong_zoo: Tensor | None) -> dict[str, float | None]:
    correct = test.outcomes.get("correct")
    if correct is None or wrong_zoo is None:
        return {"within": None, "to_zoo_mean": None, "to_zoo_max_mean": None}
    seen = Behaviour.of(~correct, wrong_zoo)
    return {
        "within": seen.within,
        "to_zoo_mean": finite(seen.mean.mean()),
        "to_zoo_max_mean": finite(seen.max.mean()),
    }
