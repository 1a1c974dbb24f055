"""The figures: histograms of scores, and score against similarity (the paper's Figure 3b)."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from paramdiff.report.canvas import COLOURS, GREY, INK, PAPER, VERMILLION, Plot, canvas, shortened
from paramdiff.report.finished import ORIGINAL, FinishedRun, Row
from paramdiff.report.words import Metric, networks, number, setting

MARKERS = ("s", "^", "v", "P", "X", "<", ">", "p", "h", "*")
DASHED, DOTTED = (0, (5, 2)), (0, (1, 1.6))
Cloud = tuple[list[float], list[float]]
Look = tuple[str, str, bool]
"""Colour, marker, whether it is filled."""


def _plain_numbers() -> Any:
    """Ticks with as many decimals as they need, without an offset to be added in one's head."""
    from matplotlib.ticker import ScalarFormatter

    return ScalarFormatter(useOffset=False)


# --- histograms ------------------------------------------------------------------------------------


def draw_scores(run: FinishedRun) -> Plot:
    """Score histograms of originals and samples, training set above test set, on one scale."""
    metric, title = Metric.of(run), "How good are the samples?"
    rows = [run.originals, run.main]
    if any(row.values("train", "test") is None for row in rows):
        return Plot(
            "scores", title, "The scores of the single networks were not kept, so there is no histogram."
        )
    figure, axes = canvas(410, 2, sharex=True)
    for axis, split in zip(axes[:, 0], ("train", "test")):
        _histogram(axis, rows, split, metric, run.part("n_items").get(split))
    axes[1, 0].set_xlabel(metric.title)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2, borderaxespad=0.2
    )
    chance = f" Dotted line: chance, {metric(metric.chance)}." if _chance_in_sight(rows, metric) else ""
    originals, samples = networks(rows[0].n, "original"), networks(rows[1].n, "sample")
    caption = (
        f"{metric.name.capitalize()} of the {originals} and {samples} of {rows[1].label}, on the training set"
        f" and on the test set. Dashed lines: means.{chance} {setting(run)}"
    )
    return Plot("scores", title, caption, figure)


def _histogram(axis: Any, rows: list[Row], split: str, metric: Metric, items: int | None) -> None:
    values = [kept[split == "test"] for row in rows if (kept := row.values("train", "test"))]
    bins = min(28, max(14, 2 * math.isqrt(min(len(v) for v in values))))
    edges = bin_edges(torch.cat(values), items if metric.percent else None, bins)
    shown = [metric.scale * edge for edge in edges]
    for row, v, (colour, alpha) in zip(rows, values, ((GREY, 0.30), (VERMILLION, 0.38))):
        share = (torch.histogram(v, torch.tensor(edges, dtype=v.dtype)).hist / len(v)).tolist()
        label = f"{shortened(row.label)} ({number(row.n)})"
        axis.stairs(share, shown, fill=True, color=colour, alpha=alpha, linewidth=0, label=label)
        axis.stairs(share, shown, color=colour, linewidth=1.4)
        axis.axvline(metric.scale * float(v.mean()), color=colour, linewidth=1.5, linestyle=DASHED)
    if metric.chance is not None and _chance_in_sight(rows, metric):
        axis.axvline(metric.scale * metric.chance, color=INK, linewidth=1.5, linestyle=DOTTED)
    axis.set_title({"train": "training set", "test": "test set"}[split])
    axis.set_ylabel("share of networks")
    axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axis.xaxis.set_major_formatter(_plain_numbers())
    axis.grid(False, axis="x")


def _chance_in_sight(rows: Iterable[Row], metric: Metric) -> bool:
    """Whether scores come near enough to chance for it to lie inside the axis."""
    scores = [row.test[key] for row in rows for key in ("worst", "best") if row.test[key] is not None]
    if metric.chance is None or not scores:
        return False
    reach = 0.15 * (max(scores) - min(scores))
    return min(scores) - reach <= metric.chance <= max(scores) + reach


def bin_edges(values: Tensor, items: int | None, bins: int) -> list[float]:
    """Edges of equal bins over all values.

    A score over ``items`` items takes only multiples of 1/items; bins that are no whole number of such
    steps wide would hold now one, now two of them and draw a comb that is not in the data.
    """
    low, high = float(values.min()), float(values.max())
    if items:
        step = max(1, math.ceil((high - low) * items / bins))
        first = round(low * items) - 0.5
        count = max(1, math.ceil((round(high * items) + 0.5 - first) / step))
        return [min(first + i * step, items + 0.5) / items for i in range(count + 1)]
    if high <= low:
        low, high = low - 0.01 * max(abs(low), 1e-6), high + 0.01 * max(abs(high), 1e-6)
    return [low + (high - low) * i / bins for i in range(bins)] + [high]


# --- score against similarity ----------------------------------------------------------------------


def draw_similarity(run: FinishedRun) -> Plot:
    """Test score against similarity to the nearest original, every generator in its own colour and marker."""
    metric, title = Metric.of(run), "New networks, or copies?"
    clouds = {row.name: cloud for row in run.rows if (cloud := _cloud(row, metric))}
    if not set(clouds) - {ORIGINAL}:
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
    for axis in axes[:, 0]:
        for name in sorted(clouds, key=lambda name: (name == run.main.name, name != ORIGINAL)):
            _scatter(axis, clouds[name], looks[name])
        if run.originals.test["mean"] is not None:
            axis.axhline(
                metric.scale * run.originals.test["mean"],
                color=GREY,
                linewidth=1.2,
                linestyle=DASHED,
                zorder=1,
            )
        axis.set_ylabel(f"test {metric.title}")
        axis.yaxis.set_major_formatter(_plain_numbers())
    axes[-1, 0].set_xlabel("similarity to the nearest original (error IoU)")
    if window is not None:
        axes[0, 0].set_title("all networks")
        axes[1, 0].set_title("the same, near the originals")
        _show(axes[1, 0], clouds.values(), window)
    handles = [_legend_handle(row, looks[row.name]) for row in run.rows if row.name in clouds]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, borderaxespad=0.2, handletextpad=0.3)
    return Plot("similarity", title, _similarity_caption(run, ORIGINAL in clouds), figure)


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
    looks = {ORIGINAL: (GREY, "o", True), run.main.name: (VERMILLION, "D", True)}
    for i, row in enumerate(run.baselines):
        filled = i // len(MARKERS) % 2 == 0
        looks[row.name] = (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], filled)
    return looks


def _scatter(axis: Any, cloud: Cloud, look: Look) -> None:
    (x, y), (colour, marker, filled) = cloud, look
    if len(x) > 1:
        axis.plot(
            x, y, linestyle="none", marker=marker, markersize=4.2, alpha=min(0.35, 4 / math.sqrt(len(x))),
            markerfacecolor=colour if filled else "none", markeredgecolor=colour,
            markeredgewidth=0 if filled else 0.8,
            rasterized=len(x) > 400,  # thousands of marks would make a heavy page
        )  # fmt: skip
    axis.plot([sum(x) / len(x)], [sum(y) / len(y)], linestyle="none", zorder=5, **_large(look))


def _large(look: Look) -> dict[str, Any]:
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

    return Line2D([], [], linestyle="none", label=f"{shortened(row.label)} ({number(row.n)})", **_large(look))


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
