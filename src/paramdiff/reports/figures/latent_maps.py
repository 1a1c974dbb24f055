"""Latents on a map, and the reverse process from noise to a network (the paper's Figures 3c and 4a).

Both from ``evaluation/latents.safetensors``; :mod:`paramdiff.evaluation.latent_projection` says how its points are
made.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from paramdiff.reports.finished_run import FinishedRun
from paramdiff.reports.formatting import networks, number
from paramdiff.reports.plotting import COLOURS, DASHED, GREY, INK, PAPER, VERMILLION, Plot, canvas, shortened
from paramdiff.reports.wording import setting

FILE = "evaluation/latents.safetensors"
Points = dict[str, Tensor]
NOISED = COLOURS[0]


# --- the map ---------------------------------------------------------------------------------------


def draw_latents(run: FinishedRun) -> Plot:
    """Originals, samples and noised originals on one t-SNE map."""
    title, (points, about) = "Where do samples lie among the latents?", run.tensors(FILE)
    if "map.samples" not in points:
        return Plot("latents", title, f"{_why(run)}, so there is no map of latents.")
    figure, axes = canvas(420)
    axis = axes[0, 0]
    originals, samples, noised = (points[f"map.{name}"] for name in ("originals", "samples", "noised"))
    groups = (
        (originals, "originals", {"marker": "o", "markersize": 4, "color": GREY, "markeredgewidth": 0, "zorder": 3}),
        (noised, "originals + noise", {"marker": "x", "markersize": 6, "color": NOISED, "markeredgewidth": 1.0}),
        (samples, f"samples of {shortened(run.main.label)}",
         {"marker": "D", "markersize": 5.5, "color": VERMILLION, "markeredgecolor": PAPER, "zorder": 4}),
    )  # fmt: skip
    for where, name, look in groups:
        label = f"{name} ({number(len(where))})"
        axis.plot(*where.T.tolist(), linestyle="none", label=label, alpha=0.85, **look)
    axis.set_xlabel("t-SNE 1 (no unit)")
    axis.set_ylabel("t-SNE 2 (no unit)")
    axis.set_xticks([])
    axis.set_yticks([])
    figure.legend(loc="outside upper left", ncols=1, borderaxespad=0.2, handletextpad=0.3)
    some = f"{number(len(originals))} of the " if len(originals) < run.originals.n else ""
    caption = (
        f"Latents of {some}{networks(run.originals.n, 'original')}, of the samples, and of the same originals with"
        f" Gaussian noise of {about['amplitude']} of the latents’ deviation, on one t-SNE map of {about['latent']}"
        " dimensions: neighbours on the map are neighbours in truth, distances and directions mean nothing. Samples"
        f" are encoded like originals; {_drawn(about)}. {setting(run)}"
    )
    return Plot("latents", title, caption, figure, paper="3c")


def _drawn(about: Mapping[str, str]) -> str:
    """How samples were drawn; a file of an earlier version calls the contraction a temperature."""
    if "contraction" not in about:
        return f"contraction {about['temperature']}"
    return f"contraction {about['contraction']}, temperature {about['temperature']}"


def _why(run: FinishedRun) -> str:
    return f"{run.main.label} has no latents, or this run did not keep them"


# --- the way from noise ----------------------------------------------------------------------------


def draw_paths(run: FinishedRun) -> Plot:
    """Networks on the way from noise to a sample: where the originals vary most, and how far from them."""
    title, (points, about) = "The way from noise to a network", run.tensors(FILE)
    if "paths.plane" not in points:
        return Plot(
            "paths", title, f"{run.main.label} does not draw in steps, or this run did not keep them."
        )
    figure, axes = canvas(650, 2, gridspec_kw={"height_ratios": (3, 2)})
    _plane(axes[0, 0], points)
    _approach(axes[1, 0], points)
    for axis, place in ((axes[0, 0], "outside upper left"), (axes[1, 0], "outside lower left")):
        figure.legend(
            *axis.get_legend_handles_labels(), loc=place, ncols=2 - (axis is axes[1, 0]), borderaxespad=0.2
        )
    starts = points["paths.plane"].shape[1]
    first, second = (f"{100 * share:.0f}%" for share in points["paths.share"].tolist())
    caption = (
        f"{starts} starting noises, decoded at {len(points['paths.plane'])} points of the reverse process, at"
        f" {_drawn(about)}. Above: projected onto the two directions in which the originals"
        f" vary most ({first} and {second} of their variance); the paper uses t-SNE, on which a mean and a deviation"
        " have no meaning. Below: how far the networks on the way are from the originals. All lengths in units of"
        f" the variation between originals. {setting(run)}"
    )
    return Plot("paths", title, caption, figure, paper="4a")


def _plane(axis: Any, points: Points) -> None:
    from matplotlib.patches import Ellipse

    axis.plot(
        *points["paths.originals"].T.tolist(), linestyle="none", marker="o", markersize=3.6, color=GREY, alpha=0.7,
        markeredgewidth=0, label="originals",
    )  # fmt: skip
    axis.plot(
        [0], [0], linestyle="none", marker="*", markersize=15, color=INK, markeredgecolor=PAPER, label="their mean",
        zorder=6,
    )  # fmt: skip
    width, height = (2 * points["paths.deviation"]).tolist()
    axis.add_patch(
        Ellipse((0, 0), width, height, facecolor=GREY, alpha=0.16, edgecolor="none", label="their deviation")
    )
    for i, path in enumerate(points["paths.plane"].unbind(1)):
        x, y = path.T.tolist()
        named = {"label": "from noise"} if i == 0 else {}
        axis.plot(x, y, color=VERMILLION, linewidth=1.5, marker=".", markersize=5, zorder=4, **named)
        named = {"label": "to samples"} if i == 0 else {}
        axis.plot(
            x[-1:], y[-1:], linestyle="none", marker="^", markersize=9, color=VERMILLION, markeredgecolor=PAPER,
            zorder=5, **named,
        )  # fmt: skip
    axis.set_aspect("equal", adjustable="datalim")
    axis.set_xlabel("first principal component of the originals")
    axis.set_ylabel("second component")


def _approach(axis: Any, points: Points) -> None:
    nearest, centre, spread = (points[f"paths.{name}"] for name in ("nearest", "centre", "spread"))
    share = [100 * i / (len(nearest) - 1) for i in range(len(nearest))]
    mean, std = float(spread.mean()), float(spread.std(correction=0))
    for i, path in enumerate(nearest.unbind(1)):
        named = {"label": "each path to its nearest original"} if i == 0 else {}
        axis.plot(share, path.tolist(), color=VERMILLION, linewidth=1.4, **named)
    axis.plot(
        share,
        centre.mean(1).tolist(),
        color=NOISED,
        linewidth=2.4,
        label="paths to the originals’ mean (average)",
    )
    axis.axhline(
        mean, color=GREY, linewidth=1.4, linestyle=DASHED, label="originals to their mean (with deviation)"
    )
    axis.axhspan(max(0.0, mean - std), mean + std, color=GREY, alpha=0.16, linewidth=0)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("share of the reverse process done (%)")
    axis.set_ylabel("distance")
