"""Score, and NLL of networks together, against gradient steps per network: what a generator is worth.

Every curve is one start, trained for more and more steps: an untrained network, the average, an original, samples. A
curve begins at what its start has cost, the share of the fit included; hollow marks add that of the zoo's training.
"""

import math
from dataclasses import dataclass
from typing import Any

from paramdiff.reports.figures.similarity_scatter import MARKERS, Look, mark
from paramdiff.reports.finished_run import FinishedRun
from paramdiff.reports.formatting import Metric, number
from paramdiff.reports.plotting import (
    COLOURS,
    DASHED,
    DOTTED,
    GREY,
    INK,
    VERMILLION,
    Plot,
    canvas,
    plain_numbers,
    shortened,
)
from paramdiff.reports.wording import sentence, setting

TITLE = "What is it worth at an equal bill?"


@dataclass(frozen=True)
class BillCurve:
    """One start as it is drawn.

    Attributes:
        name: in words.
        look: of its marks.
        points: as in ``results.json``, by growing steps.
    """

    name: str
    look: Look
    points: list[dict[str, Any]]

    def line(self, bill: str, value: str, scale: float) -> tuple[list[float], list[float]]:
        """Places of the points for which both are known."""
        known = [(p.get(bill), p.get(value)) for p in self.points]
        found = [(x, scale * y) for x, y in known if x is not None and y is not None]
        return [x for x, _ in found], [y for _, y in found]


def has_bill(run: FinishedRun) -> bool:
    """Whether the run compared bills."""
    return bool(run.results.get("bill"))


def draw_bill(run: FinishedRun) -> Plot:
    """A panel for the score, and one for the NLL of networks together if it is known."""
    bill, metric, curves = run.part("bill"), Metric.of(run), read_bill(run)
    if not any(len(curve.points) > 1 for curve in curves):
        return Plot("bill", TITLE, "No networks were trained further, so there is no figure of their bill.")
    nll = any(curve.line("gradient_steps", "nll", 1.0)[0] for curve in curves)
    rows = math.ceil(len(curves) / 2)
    figure, axes = canvas((520 if nll else 300) + 19 * rows, 2 if nll else 1, sharex=True)
    _panel(axes[0, 0], curves, "mean", metric.scale)
    axes[0, 0].set_ylabel(f"mean test {metric.title}")
    axes[0, 0].set_ylim(*_window(curves, metric.scale * run.originals.test["mean"], metric))
    axes[0, 0].axhline(
        metric.scale * run.originals.test["mean"], color=GREY, linewidth=1.2, linestyle=DASHED, zorder=1
    )
    if nll:
        _panel(axes[1, 0], curves, "nll", 1.0)
        axes[1, 0].set_yscale("log")
        axes[1, 0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes[1, 0].yaxis.set_minor_formatter(_some)
        axes[1, 0].set_ylabel(f"NLL of {bill.get('m')} together (log scale)")
    _steps(axes[-1, 0], curves)
    figure.legend(
        handles=[_handle(curve) for curve in curves], loc="outside lower left", ncols=2, borderaxespad=0.2,
        handletextpad=0.4,
    )  # fmt: skip
    return Plot("bill", TITLE, _caption(run, bill, metric), figure)


def read_bill(run: FinishedRun) -> list[BillCurve]:
    """The curves of ``results.json``, the run's own generator last, above the others."""
    found = [one for one in run.part("bill").get("curves") or [] if one.get("points")]
    found.sort(key=lambda one: one.get("kind") == "main")
    own = {"main": (VERMILLION, "D", True), "scratch": (INK, "X", True), "member": (GREY, "o", True)}
    others = iter(range(len(found)))
    return [
        BillCurve(one["name"], own.get(str(one.get("kind"))) or _look(next(others)), one["points"]) for one in found
    ]  # fmt: skip


def _look(place: int) -> Look:
    return COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)], place < len(MARKERS)


def _panel(axis: Any, curves: list[BillCurve], value: str, scale: float) -> None:
    for curve in curves:
        (x, y), (total, paid) = (curve.line(bill, value, scale) for bill in ("gradient_steps", "with_zoo"))
        style = mark(curve.look) | {"markersize": 6.5}
        axis.plot(x, y, color=curve.look[0], linewidth=1.8, zorder=3, **style)
        if total != x:
            hollow = style | {
                "markerfacecolor": "none",
                "markeredgecolor": curve.look[0],
                "markeredgewidth": 1.2,
            }
            axis.plot(total, paid, color=curve.look[0], linewidth=1.0, linestyle=DOTTED, zorder=2, **hollow)
    axis.yaxis.set_major_formatter(plain_numbers())


def _window(curves: list[BillCurve], originals: float, metric: Metric) -> tuple[float, float]:
    """Scores around the ends of all curves: untrained networks would squash the rest."""
    ends = [y for curve in curves for y in curve.line("gradient_steps", "mean", metric.scale)[1][-2:]]
    low, high = min(ends, default=originals), max(ends, default=originals)
    low, high = min(low, originals), max(high, originals)
    room = (high - low) or 0.01 * (abs(high) or 1)
    below, above = (1.0, 0.15) if metric.higher else (0.15, 1.0)
    return low - below * room, high + above * room


def _some(value: float, _: int) -> str:
    """Numbers between powers of ten that get a label."""
    return f"{value:g}" if f"{value:e}"[0] in "235" else ""


def _steps(axis: Any, curves: list[BillCurve]) -> None:
    """Gradient steps on a scale that has a place for none."""
    bills = [
        x
        for curve in curves
        for name in ("gradient_steps", "with_zoo")
        for x in curve.line(name, "mean", 1)[0]
    ]
    least = min((x for x in bills if x >= 1), default=1.0)
    axis.set_xscale("symlog", linthresh=least, linscale=0.5)
    axis.set_xlim(-0.1 * least, 1.3 * max(*bills, least))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.xaxis.set_minor_formatter(lambda value, _: "")
    axis.set_xlabel("gradient steps per network")


def _handle(curve: BillCurve) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], color=curve.look[0], label=shortened(curve.name, 30), **mark(curve.look) | {"markersize": 7}
    )


def _caption(run: FinishedRun, bill: dict[str, Any], metric: Metric) -> str:
    up = "Up" if metric.higher else "Down"
    down = " (NLL: down)" if bill.get("m") else ""
    n = number(bill.get("n"))
    text = (
        f"{sentence(bill.get('why'))} {up}{down} and left is better. Each curve: {n} networks of one start, trained for"
        " more and more steps; it begins at what the start has cost, its share of the fit included. Dotted, hollow:"
        " with its share of the zoo’s training. Dashed line: mean of the originals. Scores far off are left out."
    )
    return f"{text} {setting(run)}"
