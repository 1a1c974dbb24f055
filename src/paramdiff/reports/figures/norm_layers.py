"""What norm layers hold at the start, after training, on average and in a sample (the paper's Figure 6b).

The paper's start is a network before training. A run folder holds no such network: the start is the
first member of the zoo, and is called so.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.reports.figures.shown_parameters import (
    NORM,
    SHIFT,
    beginning,
    colour_bar,
    coordinates,
    heat_map,
    kinds_of,
    member_name,
    scaled,
    values,
)
from paramdiff.reports.finished_run import FinishedRun, Row
from paramdiff.reports.formatting import Metric, fraction
from paramdiff.reports.plotting import MUTED, Plot, canvas, shortened
from paramdiff.reports.wording import setting
from paramdiff.zoo.zoo import Zoo

AVERAGE = "average"
TENSORS, COLUMNS, COUNTED = 4, 128, 16_384


@dataclass(frozen=True)
class Shown:
    """One network of the figure.

    Attributes:
        read: its values at some coordinates.
        score, nearest: test score and error IoU to the nearest original, where known.
    """

    name: str
    read: Callable[[Tensor], Float[Tensor, "m"]]
    score: float | None = None
    nearest: float | None = None

    def facts(self, columns: Tensor, metric: Metric) -> str:
        """``mean 0.370 · std 0.220 · accuracy 76.5% · IoU 0.870``."""
        v = self.read(columns)
        parts = [f"mean {fraction(float(v.mean()))}", f"std {fraction(float(v.std()))}"]
        if self.score is not None:
            parts.append(f"{metric.name} {metric(self.score)}")
        if self.nearest is not None:
            parts.append(f"IoU {fraction(self.nearest)}")
        return " · ".join(parts)


def draw_states(run: FinishedRun) -> Plot:
    """A few tensors of the first and the last member, the average, and the chosen sample."""
    title, zoo, samples = "What does a sample look like?", run.zoo, run.samples(run.main)
    if zoo is None or samples is None:
        return Plot("states", title, "Parameters were not kept, so there is no heat map of a sample.")
    names, shown = shown_tensors(zoo), networks_of(run, zoo, samples)
    figure, axes = canvas(60 + len(shown) * (54 + 16 * len(names)), len(shown), sharex=True)
    figure.get_layout_engine().set(hspace=0.1)
    parts = [beginning(zoo, name, COLUMNS) for name in names]
    tensors = [scaled(torch.stack([network.read(part) for network in shown])) for part in parts]
    counted = coordinates(zoo, shown_kinds(zoo), COUNTED)
    for i, (axis, network) in enumerate(zip(axes[:, 0], shown)):
        rows = [torch.nn.functional.pad(t[i], (0, COLUMNS - t.shape[1]), value=torch.nan) for t in tensors]
        width = max(map(len, parts))
        image = heat_map(axis, torch.stack(rows)[:, :width], [shortened(name, 16) for name in names])
        axis.set_title(network.name, pad=20)
        axis.annotate(
            network.facts(counted, Metric.of(run)), (0, 1), (0, 5),
            xycoords="axes fraction", textcoords="offset points", color=MUTED,
        )  # fmt: skip
    axes[-1, 0].set_xlabel("parameter")
    colour_bar(figure, image, axes[:, 0])
    return Plot("states", title, _caption(run, zoo), figure, paper="6b")


def shown_kinds(zoo: Zoo) -> list[str]:
    """Names of all tensors of norm layers; without such, of all tensors."""
    kinds = kinds_of(zoo)
    return kinds.get(NORM, []) + kinds.get(SHIFT, []) or zoo.spec.names


def shown_tensors(zoo: Zoo) -> list[str]:
    """The last of them, in the order of the network."""
    return [name for name in zoo.spec.names if name in set(shown_kinds(zoo))][-TENSORS:]


def networks_of(run: FinishedRun, zoo: Zoo, samples: Float[Tensor, "n D"]) -> list[Shown]:
    """First and last member, average, chosen sample."""
    chosen = run.main.selected["index"]
    sample = "first sample" if chosen is None else f"sample {chosen}, the chosen one"
    known = {row.name: row for row in run.rows}
    average = known.get(AVERAGE)
    return [
        _one(f"first member ({member_name(zoo, 0)})", zoo.vectors, 0, run.originals),
        _one(f"last member ({member_name(zoo, zoo.k - 1)})", zoo.vectors, zoo.k - 1, run.originals),
        Shown(f"average of the {zoo.k} members", lambda columns: _mean(zoo, columns), *_scored(average, 0)),
        _one(f"{sample}, of {run.main.label}", samples, chosen or 0, run.main),
    ]


def _one(name: str, vectors: Float[Tensor, "n D"], index: int, row: Row) -> Shown:
    return Shown(name, lambda columns: values(vectors, [index], columns)[0], *_scored(row, index))


def _mean(zoo: Zoo, columns: Tensor) -> Float[Tensor, "m"]:
    return values(zoo.vectors, range(zoo.k), columns).mean(0)


def _scored(row: Row | None, index: int) -> tuple[float | None, float | None]:
    """Test score and error IoU to the nearest original of one network of a row."""

    def kept(name: str) -> float | None:
        scores = None if row is None else row.scores.get(name)
        value = float(scores[index]) if scores is not None and index < len(scores) else math.nan
        return value if math.isfinite(value) else None

    return kept("test"), kept("to_zoo_max")


def _caption(run: FinishedRun, zoo: Zoo) -> str:
    norms = "norm layers" if {NORM, SHIFT} & kinds_of(zoo).keys() else "generated tensors"
    return (
        f"The last {norms} of four networks, at most the first {COLUMNS} parameters of a tensor; each tensor"
        " runs from its least to its greatest value in the four. Mean and standard deviation: over all of them. IoU: of"
        f" mistakes with the nearest other original. {setting(run)}"
    )
