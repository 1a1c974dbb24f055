"""How the generated parameters are distributed while the network trains (the paper's Figure 1)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.devices import evenly_spaced
from paramdiff.reports.figures.shown_parameters import coordinates, kinds_of, steps_of, values
from paramdiff.reports.finished_run import FinishedRun
from paramdiff.reports.formatting import number
from paramdiff.reports.plotting import COLOURS, VERMILLION, Plot, canvas, plain_numbers
from paramdiff.reports.wording import setting
from paramdiff.zoo.zoo import Zoo

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BANDS = ((0, 6, 0.16), (1, 5, 0.25), (2, 4, 0.40))
"""Pairs of levels and how dense the band between them is drawn."""

MEMBERS, COORDINATES = 240, 4096


def draw_training(run: FinishedRun) -> Plot:
    """Quantiles of every kind of parameter along the zoo, and those of the samples beside them."""
    zoo = run.zoo
    if zoo is None:
        return Plot(
            "training", "How are the parameters distributed?",
            "This run folder holds no zoo, so there is no figure of its parameters.",
        )  # fmt: skip
    moving, kinds = zoo.trajectory, kinds_of(zoo)
    figure, axes = canvas(
        45 + 125 * len(kinds), len(kinds), 2, sharex="col", sharey="row", width_ratios=(6, 1)
    )
    rows, samples = evenly_spaced(zoo.k, MEMBERS).tolist(), run.samples(run.main)
    for (wide, narrow), (kind, names) in zip(axes, kinds.items()):
        columns = coordinates(zoo, names, COORDINATES)
        _bands(wide, _places(zoo, rows), quantiles(values(zoo.vectors, rows, columns)), COLOURS[0])
        if samples is not None:
            drawn = quantiles(values(samples, evenly_spaced(len(samples), MEMBERS).tolist(), columns)).mean(1)
            _bands(narrow, [0, 1], drawn[:, None].expand(-1, 2), VERMILLION)
        count = sum(zoo.spec.slices[name].stop - zoo.spec.slices[name].start for name in names)
        wide.set_title(f"{kind} ({number(count)})")
        wide.set_ylabel("value")
        wide.yaxis.set_major_formatter(plain_numbers())
        narrow.tick_params(left=False)
    _name_axes(axes[-1], zoo, run.main.label)
    title = "How do the parameters move in training?" if moving else "Do the originals differ?"
    return Plot("training", title, _caption(run, moving), figure, paper="1")


def _name_axes(axes: Any, zoo: Zoo, label: str) -> None:
    wide, narrow = axes
    along = "optimiser step" if steps_of(zoo) else "checkpoint, in order of training"
    wide.set_xlabel(along if zoo.trajectory else "original network")
    wide.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    wide.locator_params(axis="x", nbins=6, integer=True)
    narrow.set_xticks([0.5], ["samples"])


def _places(zoo: Zoo, rows: list[int]) -> list[int]:
    """Where on the axis some members are."""
    steps = steps_of(zoo)
    return [steps[i] if steps else i + 1 for i in rows]


def quantiles(networks: Float[Tensor, "n m"]) -> Float[Tensor, "q n"]:
    """The quantiles :data:`LEVELS` over the coordinates of every network."""
    return torch.quantile(networks, torch.tensor(LEVELS), dim=1)


def _bands(axis: Any, places: list[int], levels: Tensor, colour: str) -> None:
    for low, high, alpha in BANDS:
        axis.fill_between(
            places, levels[low].numpy(), levels[high].numpy(), color=colour, alpha=alpha, linewidth=0
        )
    axis.plot(places, levels[3].numpy(), color=colour, linewidth=1.6)
    axis.margins(x=0)


def _caption(run: FinishedRun, moving: bool) -> str:
    where = "Left: each checkpoint along the training." if moving else "Left: each of the original networks."
    return (
        f"Distribution of the values of the generated parameters, by kind of tensor. {where} Right: the samples of"
        f" {run.main.label}, averaged. Bands hold the middle 50, 90 and 98% of the values; line: median."
        f" {setting(run)}"
    )
