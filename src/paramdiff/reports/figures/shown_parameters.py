"""Which of the generated parameters a figure shows: by kind of tensor, evenly subsampled where there are many.

A zoo may hold 11 million parameters of 300 networks on disk: figures read only the coordinates they draw.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from paramdiff.zoo.zoo import Zoo

KERNEL, MATRIX, NORM, SHIFT, BIAS = (
    "convolution kernels", "weight matrices", "norm weights", "norm biases", "biases",
)  # fmt: skip
RUNNING, OTHER = {"running_mean": "running means", "running_var": "running variances"}, "other parameters"
PALETTE = "viridis"
KINDS = (KERNEL, MATRIX, NORM, SHIFT, BIAS, *RUNNING.values(), OTHER)
"""Kinds of tensors, those with the most structure first."""

RUN = 64
"""Neighbouring coordinates read together: one page of the disk holds 1024."""


def kind_of(name: str, shape: Sequence[int], base: Mapping[str, Tensor]) -> str:
    """The kind of a tensor, from its name and shape; a bias belongs to a norm layer if its weight does."""
    layer, _, last = name.rpartition(".")
    if last in RUNNING:
        return RUNNING[last]
    if last == "bias" and len(shape) == 1:
        weight = base.get(f"{layer}.weight" if layer else "weight")
        return SHIFT if weight is not None and weight.ndim == 1 else BIAS
    if "weight" not in last and "lora" not in name:
        return OTHER
    return {1: NORM, 2: MATRIX}.get(len(shape), KERNEL if len(shape) > 2 else OTHER)


def kinds_of(zoo: Zoo) -> dict[str, list[str]]:
    """Names of the generated tensors by kind, in the order of :data:`KINDS`."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for tensor in zoo.spec.tensors:
        found[kind_of(tensor.name, tensor.shape, zoo.base)].append(tensor.name)
    return {kind: names for kind, names in found.items() if names}


def coordinates(zoo: Zoo, names: Sequence[str], limit: int) -> Int64[Tensor, "m"]:
    """Where some tensors lie in the vector: all their coordinates, or about ``limit`` of them, evenly spread."""
    parts = [zoo.spec.slices[name] for name in names]
    starts = torch.tensor([part.start for part in parts])
    sizes = torch.tensor([part.stop - part.start for part in parts])
    ends = sizes.cumsum(0)
    at = spread(int(ends[-1]), limit)
    which = torch.searchsorted(ends, at, right=True)
    return starts[which] + at - (ends - sizes)[which]


def beginning(zoo: Zoo, name: str, limit: int) -> Int64[Tensor, "m"]:
    """Where the first ``limit`` values of a tensor lie in the vector."""
    part = zoo.spec.slices[name]
    return torch.arange(part.start, min(part.stop, part.start + limit))


def spread(total: int, limit: int) -> Int64[Tensor, "m"]:
    """Indices below ``total``: all of them, or runs of neighbours evenly spread, ``limit`` in all."""
    if total <= limit:
        return torch.arange(total)
    run = min(RUN, limit)
    count = limit // run
    first = torch.arange(count) * (total - run) // max(1, count - 1)
    return (first[:, None] + torch.arange(run)).reshape(-1)


def values(
    vectors: Float[Tensor, "n D"], rows: Sequence[int] | Int64[Tensor, "r"], columns: Int64[Tensor, "m"]
) -> Float[Tensor, "r m"]:
    """Some coordinates of some networks; nothing else is read from the disk."""
    return vectors[torch.as_tensor(rows)[:, None], columns].float()


def steps_of(zoo: Zoo) -> list[int] | None:
    """Optimiser steps at which the members were saved; None if they are no trajectory or it is not known."""
    steps = [record.step for record in zoo.records]
    known = [step for step in steps if step is not None]
    growing = all(a < b for a, b in pairwise(known))
    return known if zoo.trajectory and growing and len(known) == len(steps) else None


def member_name(zoo: Zoo, index: int) -> str:
    """A member for people: ``step 120``, ``seed 3``, or ``member 5``."""
    record, steps = zoo.records[index], steps_of(zoo)
    if steps:
        return f"step {steps[index]:,}"
    seeds = [other.seed for other in zoo.records]
    if record.seed is not None and len(set(seeds)) == len(seeds):
        return f"seed {record.seed}"
    return f"member {index + 1}"


def colour_bar(figure: Any, image: Any, axes: Any) -> None:
    """The scale of heat maps in which every tensor runs from its least to its greatest value."""
    bar = figure.colorbar(image, ax=axes, location="bottom", ticks=[0, 1], aspect=40, pad=0.02)
    bar.ax.set_xticklabels(["least", "greatest value of its tensor"])
    left, right = bar.ax.get_xticklabels()
    left.set_horizontalalignment("left")
    right.set_horizontalalignment("right")
    bar.outline.set_visible(False)


def scaled(rows: Float[Tensor, "r m"]) -> Float[Tensor, "r m"]:
    """From least to greatest as 0 to 1; a constant is 0."""
    low, high = rows.min(), rows.max()
    return (rows - low) / (high - low) if high > low else torch.zeros_like(rows)


def heat_map(axis: Any, rows: Float[Tensor, "r m"], labels: Sequence[str]) -> Any:
    """A row of colours per network or tensor; NaN stays empty."""
    image = axis.imshow(rows.numpy(), cmap=PALETTE, vmin=0, vmax=1, aspect="auto", interpolation="none")
    axis.set_yticks(range(len(labels)), labels)
    axis.tick_params(left=False)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.locator_params(axis="x", nbins=6, integer=True)
    return image
