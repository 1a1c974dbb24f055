"""Score against similarity to the nearest original, for every generator (the paper's Figure 3b)."""

import math
from collections.abc import Iterable
from typing import Any

from paramdiff.reports.finished_run import FinishedRun, Row
from paramdiff.reports.formatting import Metric, number
from paramdiff.reports.plotting import (
    COLOURS,
    DASHED,
    GREY,
    PAPER,
    VERMILLION,
    Plot,
    canvas,
    plain_numbers,
    shortened,
)
from paramdiff.reports.wording import setting

MARKERS = ("s", "^", "v", "P", "X", "<", ">", "p", "h", "*")
MARKS = 1200
"""Single networks drawn as shapes; more of them become one picture, for thousands make a heavy page."""

Cloud = tuple[list[float], list[float]]
Look = tuple[str, str, bool]
"""Colour, marker, whether it is filled."""


def draw_similarity(run: FinishedRun) -> Plot:
    """Test score against similarity to the nearest original, every generator in its own colour and marker."""
    metric, title = Metric.of(run), "New networks, or copies?"
    clouds = {row.name: cloud for row in run.compared if (cloud := _cloud(row, metric))}
    if not set(clouds) - {run.originals.name}:
        why = (
            "Similarities of single networks were not kept"
            if run.has_similarity
            else "This task has no sets of mistakes to compare"
        )
        return Plot("similarity", title, f"{why}, so there is no figure of similarity to the originals.")
    looks = row_looks(run)
    reference = run.originals.values("test")
    window = None if reference is None else zoom((metric.scale * reference[0]).tolist(), clouds)
    figure, axes = canvas(
        (275 if window is None else 500) + 19 * math.ceil(len(clouds) / 2), 1 if window is None else 2
    )
    dense = sum(len(x) for x, _ in clouds.values()) > MARKS
    for axis in axes[:, 0]:
        for name in sorted(clouds, key=lambda name: (name == run.main.name, name != run.originals.name)):
            _scatter(axis, clouds[name], looks[name], dense)
        if run.originals.test["mean"] is not None:
            axis.axhline(
                metric.scale * run.originals.test["mean"],
                color=GREY,
                linewidth=1.2,
                linestyle=DASHED,
                zorder=1,
            )
        axis.set_ylabel(f"test {metric.title}")
        axis.yaxis.set_major_formatter(plain_numbers())
    axes[-1, 0].set_xlabel("similarity to the nearest original (error IoU)")
    if window is not None:
        axes[0, 0].set_title("all networks")
        axes[1, 0].set_title("the same, near the originals")
        _show(axes[1, 0], clouds.values(), window)
    handles = [_legend_handle(row, looks[row.name]) for row in run.compared if row.name in clouds]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, borderaxespad=0.2, handletextpad=0.3)
    return Plot(
        "similarity", title, _similarity_caption(run, run.originals.name in clouds), figure, paper="3b"
    )


def _similarity_caption(run: FinishedRun, originals: bool) -> str:
    own = "; an original is compared with the other originals" if originals else ""
    better = "Up" if Metric.of(run).higher else "Down"
    return (
        f"{better} is better, left is more different. Small marks: single networks; large marks: their mean."
        f" Similarity 1 means the same mistakes as one of the originals{own}. Dashed line: mean of the"
        f" originals. {setting(run)}"
    )


def _cloud(row: Row, metric: Metric) -> Cloud | None:
    """Similarity to the nearest original and test score, as shown, of every network of a row."""
    kept = row.values("to_zoo_max", "test")
    return None if kept is None else (kept[0].tolist(), (metric.scale * kept[1]).tolist())


def row_looks(run: FinishedRun) -> dict[str, Look]:
    """A colour and a marker for every row."""
    looks = {run.originals.name: (GREY, "o", True), run.main.name: (VERMILLION, "D", True)}
    for i, row in enumerate(run.baselines):
        filled = i // len(MARKERS) % 2 == 0
        looks[row.name] = (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], filled)
    return looks


def _scatter(axis: Any, cloud: Cloud, look: Look, dense: bool) -> None:
    (x, y), (colour, marker, filled) = cloud, look
    if len(x) > 1:
        axis.plot(
            x, y, linestyle="none", marker=marker, markersize=4.2, alpha=min(0.35, 4 / math.sqrt(len(x))),
            markerfacecolor=colour if filled else "none", markeredgecolor=colour,
            markeredgewidth=0 if filled else 0.8,
            rasterized=dense,
        )  # fmt: skip
    axis.plot([sum(x) / len(x)], [sum(y) / len(y)], linestyle="none", zorder=5, **mark(look))


def mark(look: Look) -> dict[str, Any]:
    """Matplotlib's words for a large mark of this look."""
    colour, marker, filled = look
    size = {"D": 8.5, "*": 12.5, "P": 10.5, "X": 10.5}.get(marker, 9.5)
    edge, width = (PAPER, 1.0) if filled else (colour, 1.8)
    face = colour if filled else PAPER
    return {
        "marker": marker,
        "markersize": size,
        "markerfacecolor": face,
        "markeredgecolor": edge,
        "markeredgewidth": width,
    }


def _legend_handle(row: Row, look: Look) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none", label=f"{shortened(row.label)} ({number(row.n)})", **mark(look))


def zoom(reference: list[float], clouds: dict[str, Cloud]) -> tuple[float, float] | None:
    """Scores worth a second look: around the originals, where far-off networks squash the first panel.

    None if that range fills two fifths of the first panel anyway.
    """
    scores = [score for _, y in clouds.values() for score in y]
    low, high = min(scores), max(scores)
    reach = max(max(reference) - min(reference), 0.02 * (high - low))
    window = max(low, min(reference) - reach), min(high, max(reference) + reach)
    return window if 0 < window[1] - window[0] < 0.4 * (high - low) else None


def _show(axis: Any, clouds: Iterable[Cloud], window: tuple[float, float]) -> None:
    """Limit an axis to a window of scores and to the similarities found in it."""
    low, high = window
    inside = [x for cloud in clouds for x, y in zip(*cloud) if low <= y <= high]
    axis.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    if inside and max(inside) > min(inside):
        pad = 0.04 * (max(inside) - min(inside))
        axis.set_xlim(min(inside) - pad, max(inside) + pad)
