"""From memorising to generating: similarity to the nearest original against K (the paper's Figure 4b).

Needs several runs that differ in K, so it belongs to their comparison and not to one run's page.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from paramdiff.reports.plotting import GREY, VERMILLION, Plot, canvas

TITLE = "Copies while there are few originals?"
LABELLED = 10


def draw_counts(
    points: Iterable[tuple[int, Sequence[float]]], *, note: str = "", name: str = "counts"
) -> Plot:
    """Similarity of every sample to its nearest original, for every K.

    Args:
        points: K, and for every sample of that run its largest error-IoU with an original. Runs of one K, of
            several seeds say, are put together.
        note: end of the caption: N, D and the seeds of the runs.
        name: of the plot's files.

    Returns:
        A plot without a figure where fewer than two different K have a sample with a finite similarity.
    """
    groups: dict[int, list[float]] = {}
    for k, values in points:
        groups.setdefault(int(k), []).extend(v for v in values if math.isfinite(v))
    found = {k: sorted(values) for k, values in sorted(groups.items()) if values}
    if len(found) < 2:
        return Plot(
            name,
            TITLE,
            "Fewer than two different K were compared, so there is no figure of them.",
            paper="4b",
        )
    figure, axes = canvas(310)
    _boxes(axes[0, 0], found)
    counts = ", ".join(f"{len(values)} at K = {k}" for k, values in found.items())
    caption = (
        "Similarity (error IoU) of each sample to the original it resembles most; 1 means the same mistakes."
        f" Line: median; box: half of the samples; whiskers: all of them. Samples: {counts}. {note}"
    )
    return Plot(name, TITLE, caption.strip(), figure, paper="4b")


def _boxes(axis: Any, found: dict[int, list[float]]) -> None:
    """A box per K, evenly spaced: K grows by factors."""
    places = range(len(found))
    axis.boxplot(
        list(found.values()), positions=list(places), widths=0.55, whis=(0, 100), showfliers=False, patch_artist=True,
        boxprops={"facecolor": VERMILLION, "alpha": 0.35, "edgecolor": VERMILLION, "linewidth": 1.2},
        whiskerprops={"color": VERMILLION, "linewidth": 1.4}, capprops={"color": VERMILLION, "linewidth": 1.4},
        medianprops={"color": VERMILLION, "linewidth": 2.4},
    )  # fmt: skip
    axis.axhline(1.0, color=GREY, linewidth=1.0, zorder=1)
    axis.set_xticks(list(places), [f"{k:,}" for k in found], fontsize=11.5 if len(found) <= LABELLED else 9)
    axis.set_xlabel("K, originals the generator was fitted on")
    axis.set_ylabel("similarity to the nearest original")
    axis.grid(False, axis="x")
