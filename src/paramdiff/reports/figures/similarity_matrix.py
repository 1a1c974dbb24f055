"""How alike networks are: originals, samples, and one with the other (the paper's Figure 3a)."""

import math
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from paramdiff.reports.finished_run import FinishedRun, Row
from paramdiff.reports.formatting import fraction, networks
from paramdiff.reports.plotting import COLOURS, DASHED, GREY, VERMILLION, Plot, canvas
from paramdiff.reports.wording import setting

BINS = 32
"""Error IoU is a ratio of small whole numbers: finer bins draw a comb that is not in the data."""


def draw_alike(run: FinishedRun) -> Plot:
    """Histograms of error IoU over pairs: among originals, among samples, between them, and to the nearest."""
    title, kinds = "How alike are the networks?", pairs(run)
    if not kinds:
        why = (
            "The similarities of single pairs were not kept"
            if run.has_similarity
            else "This task has no sets of mistakes to compare"
        )
        return Plot("alike", title, f"{why}, so there is no figure of how alike networks are.")
    low = min(float(values.min()) for values, _ in kinds.values())
    edges = torch.linspace(low, 1, BINS + 1, dtype=torch.float64)
    figure, axes = canvas(50 + 82 * len(kinds), len(kinds), sharex=True)
    for axis, (name, (values, colour)) in zip(axes[:, 0], kinds.items()):
        _histogram(axis, name, values, edges, colour)
    axes[-1, 0].set_xlabel("similarity of two networks (error IoU)")
    figure.supylabel("share of pairs", fontsize=12)
    caption = (
        f"Error IoU of pairs of networks: the {networks(run.originals.n, 'original')} and the"
        f" {networks(run.main.n, 'sample')} of {run.main.label}. Nearest: every network and the original it is"
        f" most like, itself left out. 1 means the same mistakes. Dashed lines: means. {setting(run)}"
    )
    return Plot("alike", title, caption, figure, paper="3a")


def pairs(run: FinishedRun) -> dict[str, tuple[Float64[Tensor, "p"], str]]:
    """Similarities of each kind of pair, with a colour; only those that are known and finite."""
    originals, samples = run.originals, run.main
    between, nearest = samples.scores.get("iou_between"), samples.values("to_zoo_max")
    if nearest is None and between is not None:
        nearest = [_finite(between.double().nan_to_num(-math.inf).amax(1))]
    own = originals.values("to_zoo_max")
    known = {
        "among originals": (_within(originals), GREY),
        "among samples": (_within(samples), VERMILLION),
        "samples and originals": (None if between is None else _finite(between.double()), COLOURS[0]),
        "samples, nearest original": (nearest[0] if nearest else None, COLOURS[0]),
        "originals, nearest other": (own[0] if own else None, GREY),
    }
    found = {
        name: (values, colour)
        for name, (values, colour) in known.items()
        if values is not None and len(values)
    }
    return found if {"among originals", "among samples", "samples and originals"} & found.keys() else {}


def _within(row: Row) -> Float64[Tensor, "p"] | None:
    """Of every pair of different networks, once."""
    matrix = row.scores.get("iou_within")
    if matrix is None:
        return None
    above = torch.ones_like(matrix, dtype=torch.bool).triu(1)
    return _finite(matrix.double()[above])


def _finite(values: Tensor) -> Float64[Tensor, "p"]:
    return values[values.isfinite()]


def _histogram(axis: Any, name: str, values: Tensor, edges: Tensor, colour: str) -> None:
    clipped = values.clamp(float(edges[0]), float(edges[-1]))
    share = (torch.histogram(clipped, edges).hist / len(values)).tolist()
    mean = float(values.mean())
    axis.stairs(share, edges.tolist(), fill=True, color=colour, alpha=0.35, linewidth=0)
    axis.stairs(share, edges.tolist(), color=colour, linewidth=1.3)
    axis.axvline(mean, color=colour, linewidth=1.5, linestyle=DASHED)
    axis.set_title(f"{name}: mean {fraction(mean)}")
    axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axis.locator_params(axis="y", nbins=2)
    axis.grid(False, axis="x")
