"""The accuracy-diversity front: how well networks do against how alike they are.

The figure the paper lacks. Averaging gains accuracy at the expense of diversity, and most generators have a setting
for how much, so a single point says little: what counts is which curve lies above the others. The curves are those of
    ``sweep.json`` (``paramdiff sweep-temperature``); without one, every generator is the point of its row.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from paramdiff.reports.figures.similarity_scatter import Look, mark, row_looks
from paramdiff.reports.finished_run import FinishedRun, Row
from paramdiff.reports.formatting import Metric, number
from paramdiff.reports.plotting import (
    COLOURS,
    DASHED,
    GREY,
    INK,
    MUTED,
    Plot,
    canvas,
    plain_numbers,
    shortened,
)
from paramdiff.reports.wording import setting

TITLE = "Accuracy against diversity"
NORMAL_95 = 1.96
Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in units of the figure."""


@dataclass(frozen=True)
class TradeoffCurve:
    """One generator at several values of its knob, as shown.

    Attributes:
        name: of its row, if it has one.
        label, knob: for people.
        values: of the knob, rising.
        x, y: similarity within the set and mean test score at each.
        error: half the width of the 95% interval of such a mean, over the networks, at most.
    """

    name: str
    label: str
    knob: str
    values: list[float]
    x: list[float]
    y: list[float]
    error: float


def draw_front(run: FinishedRun) -> Plot:
    """Mean test score against similarity within the set: rows as points, swept generators as curves."""
    metric = Metric.of(run)
    rows = [row for row in run.compared if None not in (row.similarity["within"], row.test["mean"])]
    if len(rows) < 2:
        why = "Similarity within a set of networks needs" + (
            " at least two of them" if run.has_similarity else " a task that knows which items are wrong"
        )
        return Plot("front", TITLE, f"{why}, so there is no figure of accuracy against diversity.")
    curves, looks = read_curves(run, metric), row_looks(run)
    figure, axes = canvas(325 + 19 * math.ceil(len(rows) / 2))
    axis = axes[0, 0]
    floor = worth_showing(run.originals, run.main, rows, metric)
    outside = [row for row in rows if metric.better(floor, row.test["mean"])]
    near = [row for row in rows if row not in outside]
    for curve in curves:
        _curve(
            axis,
            curve,
            looks.get(curve.name, (COLOURS[0], "o", False)),
            2.6 if curve.name == run.main.name else 1.5,
        )
    for row in near:
        _point(axis, row, looks[row.name], metric)
    _limits(axis, near, outside, curves, floor, metric)
    axis.axhline(
        metric.scale * run.originals.test["mean"], color=GREY, linewidth=1.2, linestyle=DASHED, zorder=1
    )
    axis.set_title(
        f"{'↖' if metric.higher else '↙'} better and more diverse", color=MUTED, fontweight="normal"
    )
    axis.set_xlabel("similarity within the set (error IoU); left is more diverse")
    axis.set_ylabel(f"mean test {metric.title}")
    axis.yaxis.set_major_formatter(plain_numbers())
    axis.locator_params(axis="y", nbins=7)
    figure.legend(
        handles=[_handle(row, looks[row.name], curves) for row in rows], loc="outside lower left", ncols=2,
        borderaxespad=0.2, handletextpad=0.4,
    )  # fmt: skip
    for place, row in enumerate(outside):
        _below(axis, row, looks[row.name], metric, place)
    _number_ends(axis, curves, near, metric)
    return Plot("front", TITLE, _caption(run, curves, outside, metric), figure)


def read_curves(run: FinishedRun, metric: Metric) -> list[TradeoffCurve]:
    """The curves of ``sweep.json``, without points of which something is not known."""
    found = []
    for entry in (run.json("sweep.json") or {}).get("curves", []):
        points = [p for p in entry["points"] if None not in (p.get("within"), p.get("test_mean"))]
        points.sort(key=lambda point: point["value"])
        x, y = [p["within"] for p in points], [metric.scale * p["test_mean"] for p in points]
        errors = [NORMAL_95 * metric.scale * (p.get("test_std") or 0) / math.sqrt(p["n"]) for p in points]
        values = [p["value"] for p in points]
        if points:
            found.append(
                TradeoffCurve(entry["name"], entry["label"], entry["knob"], values, x, y, max(errors))
            )
    return found


def worth_showing(originals: Row, main: Row, rows: Iterable[Row], metric: Metric) -> float:
    """The score below which a generator would squash the others; never above that of the main one."""
    sign, middle = 1 if metric.higher else -1, originals.test["mean"]
    gains = [sign * (row.test["mean"] - middle) for row in rows]
    loss = max(0.0, sign * (middle - main.test["mean"])) if main.test["mean"] is not None else 0.0
    return middle - sign * max(
        4 * (originals.test["std"] or 0), 2 * max(gains), 0.005 * abs(middle), 1.001 * loss
    )


def _place(row: Row, metric: Metric) -> tuple[float, float, float]:
    """Similarity within, mean score and half the width of its interval, as shown."""
    error = NORMAL_95 * (row.test["std"] or 0) / math.sqrt(row.n)
    return row.similarity["within"], metric.scale * row.test["mean"], metric.scale * error


def _point(axis: Any, row: Row, look: Look, metric: Metric) -> None:
    x, y, error = _place(row, metric)
    axis.plot([x, x], [y - error, y + error], color=look[0], linewidth=1.6, zorder=4)
    axis.plot([x], [y], linestyle="none", zorder=5, **mark(look))


def _curve(axis: Any, curve: TradeoffCurve, look: Look, width: float) -> None:
    colour, marker, _ = look
    axis.plot(
        curve.x, curve.y, color=colour, linewidth=width, marker=marker, markersize=5, markeredgewidth=0,
        zorder=2 + width / 10,
    )  # fmt: skip


def _limits(
    axis: Any, near: list[Row], outside: list[Row], curves: list[TradeoffCurve], floor: float, metric: Metric
) -> None:
    """Show the scores of every row that is near the originals, and of every curve the part that is."""
    swept = [point for curve in curves for point in zip(curve.x, curve.y)]
    swept = [(x, y) for x, y in swept if not metric.better(metric.scale * floor, y)]
    places = [_place(row, metric) for row in near]
    x = [x for x, *_ in (*places, *swept)] + [row.similarity["within"] for row in outside]
    y = [y + side * error for _, y, error in places for side in (-1, 1)] + [y for _, y in swept]
    for values, limit in ((x, axis.set_xlim), (y, axis.set_ylim)):
        pad = 0.09 * (max(values) - min(values)) or 0.01 * (abs(max(values)) or 1)
        limit(min(values) - pad, max(values) + pad)


def _below(axis: Any, row: Row, look: Look, metric: Metric, place: int) -> None:
    """A generator far off: at the edge of the figure, with its score."""
    x, edge, away = row.similarity["within"], 0.0 if metric.higher else 1.0, "▾" if metric.higher else "▴"
    across = axis.get_xaxis_transform()
    axis.plot([x], [edge], transform=across, clip_on=False, linestyle="none", **mark(look))
    side, shift = ("left", 9) if x < sum(axis.get_xlim()) / 2 else ("right", -9)
    up = (8 + 13 * place) * (1 if metric.higher else -1)
    axis.annotate(
        f"{metric.plain(row.test['mean'])} {away}", (x, edge), (shift, up), xycoords=across,
        textcoords="offset points", ha=side, va="center", fontsize=10.5, color=INK,
    )  # fmt: skip


def _number_ends(axis: Any, curves: list[TradeoffCurve], rows: list[Row], metric: Metric) -> None:
    """The knob's value at both visible ends of every curve, beyond the end or where no mark is."""
    axis.figure.draw_without_rendering()  # settles the layout, so that there are places to measure
    points = [_place(row, metric)[:2] for row in rows] + [point for c in curves for point in zip(c.x, c.y)]
    scale = 72 / axis.figure.dpi
    marks: list[Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in axis.transData.transform(points) * scale]
    texts: list[tuple[str, Box]] = []
    for curve in curves:
        ends = axis.transData.transform(list(zip(curve.x, curve.y))) * scale
        seen = [i for i, point in enumerate(zip(curve.x, curve.y)) if _inside(axis, *point)]
        for i in dict.fromkeys((seen[0], seen[-1])) if seen else []:
            text, before = (
                f"{curve.values[i]:g}",
                ends[max(0, i - 1) if i == seen[-1] else min(len(ends) - 1, i + 1)],
            )
            if any(text == other and _near(ends[i], box) for other, box in texts):
                continue  # several curves end in one point
            box = _free_place(ends[i], ends[i] - before, 6.4 * len(text), marks + [box for _, box in texts])
            texts.append((text, box))
            middle = ((box[0] + box[2]) / 2 - ends[i][0], (box[1] + box[3]) / 2 - ends[i][1])
            axis.annotate(
                text, (curve.x[i], curve.y[i]), middle, textcoords="offset points", ha="center",
                va="center_baseline", fontsize=10, color=INK, zorder=6,
            )  # fmt: skip


def _inside(axis: Any, x: float, y: float) -> bool:
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    return bool(left <= x <= right and low <= y <= high)


def _near(point: Any, box: Box) -> bool:
    return bool(abs(point[0] - (box[0] + box[2]) / 2) < 24 and abs(point[1] - (box[1] + box[3]) / 2) < 24)


def _free_place(end: Any, direction: Any, width: float, taken: list[Box]) -> Box:
    """A box for a text of this width beside the end of a line, straight on if there is room."""
    straight = math.atan2(direction[1], direction[0])
    boxes = []
    for turn in (0, 45, -45, 90, -90, 135, -135):
        angle = straight + math.radians(turn)
        x, y = end[0] + (8 + width / 2) * math.cos(angle), end[1] + 12 * math.sin(angle)
        boxes.append((x - width / 2, y - 5.5, x + width / 2, y + 5.5))
    free = (
        b
        for b in boxes
        if not any(b[0] < t[2] and t[0] < b[2] and b[1] < t[3] and t[1] < b[3] for t in taken)
    )
    return next(free, boxes[0])


def _handle(row: Row, look: Look, curves: list[TradeoffCurve]) -> Any:
    from matplotlib.lines import Line2D

    swept = any(curve.name == row.name for curve in curves)
    label = f"{shortened(row.label)} ({number(row.n)})"
    return Line2D([], [], linestyle="-" if swept else "none", color=look[0], label=label, **mark(look))


def _caption(run: FinishedRun, curves: list[TradeoffCurve], outside: list[Row], metric: Metric) -> str:
    up = "Up" if metric.higher else "Down"
    text = (
        f"{up} is better, left is more diverse. Large marks: all N networks of a generator, with the 95% interval"
        f" of their mean; dashed line: mean of the originals."
    )
    if curves:
        n = (run.json("sweep.json") or {}).get("n")
        knobs = "; ".join(f"{c.label}: {c.knob} {c.values[0]:g} to {c.values[-1]:g}" for c in curves)
        error = max(c.error for c in curves) / metric.scale
        text += (
            f" Curves: {number(n)} networks at each value of a generator’s knob, numbered at its ends ({knobs}); the"
            f" interval of such a mean is at most ±{metric.plain(error)}{metric.points}."
        )
    else:
        text += " The command paramdiff sweep-temperature adds the curve of every generator that has a knob."
    if outside:
        away = "below" if metric.higher else "above"
        text += f" At the edge: generators that lie far {away}, with their score."
    return f"{text} {setting(run)}"
