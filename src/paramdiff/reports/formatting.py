"""Numbers as a person reads them.

A score is written in per cent only where it is a fraction such as an accuracy; every other metric
keeps its own unit. Differences carry a sign and, in per cent, count *points*.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from paramdiff.evaluation.results_schema import Results
from paramdiff.evaluation.summary import ORIGINAL, ORIGINALS
from paramdiff.reports.finished_run import FinishedRun

FRACTIONS = {"accuracy", "acc", "top1", "top5", "iou", "precision", "recall", "f1", "ap", "map"}

NONE = "–"


def _is_fraction(metric: str) -> bool:
    """Whether a metric is one that is written in per cent, by a word of its name."""
    return bool(set(re.split(r"[^a-z0-9]+", metric.lower().replace("-", ""))) & FRACTIONS)


@dataclass(frozen=True)
class Metric:
    """How the task's first metric is written.

    Attributes:
        name: as the task calls it.
        higher: whether more is better.
        percent: whether it is a fraction, shown in per cent.
        digits: decimals shown; a test set of 360 items does not resolve hundredths of a per cent.
        chance: score of a network that knows nothing, if there is such a thing.
    """

    name: str
    higher: bool
    percent: bool
    digits: int
    chance: float | None

    @classmethod
    def of(cls, run: FinishedRun) -> Self:
        return cls.of_results(run.results)

    @classmethod
    def of_results(cls, results: Results) -> Self:
        """From ``results.json``, with gaps or without."""
        task: Mapping[str, Any] = results.get("task") or {}
        tests: dict[str, Mapping[str, Any]] = {
            row["name"]: row.get("test") or {} for row in results["models"]
        }
        name, higher = str(task.get("metric") or "score"), task.get("higher_is_better") is not False
        known = [
            test[key] for test in tests.values() for key in ("best", "worst") if test.get(key) is not None
        ]
        percent = higher and _is_fraction(name) and all(0 <= value <= 1 for value in known)
        items = (results.get("n_items") or {}).get("test") or 0
        usual = tests.get(results.get("reference") or ORIGINAL, {}).get("mean")
        digits = (2 if items >= 2000 else 1) if percent else decimals(usual)
        return cls(name.replace("_", " "), higher, percent, digits, task.get("chance"))

    @property
    def title(self) -> str:
        """For a heading or an axis: ``test accuracy`` is then ``f"test {metric.title}"``."""
        return f"{self.name} (%)" if self.percent else self.name

    @property
    def scale(self) -> float:
        """Factor from the score to the number that is shown."""
        return 100.0 if self.percent else 1.0

    def plain(self, value: float | None) -> str:
        """Without a unit, for cells and ticks whose heading names it: ``97.6``."""
        if value is None or not math.isfinite(value):
            return NONE
        return minus(f"{self.scale * value:.{self.digits}f}")

    def __call__(self, value: float | None) -> str:
        """With its unit, for sentences: ``97.6%``."""
        text = self.plain(value)
        return f"{text}%" if self.percent and text != NONE else text

    def signed(self, value: float | None) -> str:
        """A difference with its sign: ``+0.4``."""
        if value is None or not math.isfinite(value):
            return NONE
        text = f"{self.scale * value:+.{self.digits}f}"
        return minus(text) if float(text) else text.replace("-", "±").replace("+", "±")

    def better(self, value: float, other: float) -> bool:
        return value > other if self.higher else value < other

    @property
    def points(self) -> str:
        return " points" if self.percent else ""


def decimals(typical: float | None) -> int:
    """Decimals that leave about four significant digits of a typical value."""
    if not typical:
        return 3
    return min(max(3 - math.floor(math.log10(abs(typical))), 0), 10)


def minus(text: str) -> str:
    return text.replace("-", "−")


def number(value: float | None) -> str:
    """Thousands apart: ``2,048``."""
    return NONE if value is None else f"{value:,.0f}"


def steps(value: float | None) -> str:
    """Gradient steps per network, of which a fit's share may be a fraction: ``1,240``, ``16``, ``0.8``."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def priced(models: Iterable[Mapping[str, Any]]) -> bool:
    """Whether any generator took gradient steps, so that what a network costs is worth a column."""
    costs = (row.get("cost") or {} for row in models if row["name"] not in ORIGINALS)
    return any(cost.get("gradient_steps") for cost in costs)


def fraction(value: float | None, digits: int = 3) -> str:
    """A similarity or distance: ``0.898``."""
    return NONE if value is None or not math.isfinite(value) else minus(f"{value:.{digits}f}")


def percent(value: float | None) -> str:
    """A share: ``93.1%``."""
    return NONE if value is None or not math.isfinite(value) else minus(f"{100 * value:.1f}%")


def duration(seconds: float | None) -> str:
    """``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds is None:
        return NONE
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(whole / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(value: float | None) -> str:
    """Bytes as ``512 MB`` or ``1.4 GB``."""
    if value is None:
        return NONE
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def networks(n: int, kind: str) -> str:
    """``100 sampled networks``, ``1 sampled network``."""
    return f"{number(n)} {kind}{'' if n == 1 else 's'}"
