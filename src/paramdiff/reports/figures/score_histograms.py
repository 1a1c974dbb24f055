"""How good the samples are: histograms of scores (the paper's Figure 6a)."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from paramdiff.reports.finished_run import FinishedRun, Row
from paramdiff.reports.formatting import Metric, networks, number
from paramdiff.reports.plotting import (
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
from paramdiff.reports.wording import setting


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
    return Plot("scores", title, caption, figure, paper="6a")


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
    axis.xaxis.set_major_formatter(plain_numbers())
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
