"""What a criterion of the verdict is, and the words in which it says what samples do."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from paramdiff.evaluation.evidence import Evidence

Class = Literal["replica", "interpolation", "novel", "broken"]

GAP = 2.0
"""Denoising loss on held-out members over that on members, from which the denoiser has memorised its members."""


@dataclass(frozen=True)
class Criterion:
    """What some of the samples do.

    Attributes:
        kind: the class it puts them into.
        rows: [N], which; all False for a criterion that only the set as a whole meets.
        says: (of several, of one), what they do.
        share: of the samples; for a criterion of the set the excess over what members show.
    """

    kind: Class
    rows: Bool[Tensor, "N"]
    says: tuple[str, str]
    share: float


def sample_criterion(kind: Class, rows: Tensor, several: str, one: str) -> Criterion:
    return Criterion(kind, rows, (several, one), float(rows.double().mean()))


def set_criterion(e: Evidence, text: str, share: float, kind: Class = "interpolation") -> Criterion:
    return Criterion(kind, torch.zeros(len(e.samples.nearest), dtype=torch.bool), (text, text), share)


def nearest_words(e: Evidence) -> str:
    near, held_out = medians(e, "nearest")
    return f"typically {near:.2f} away from the nearest, where an original left out of the zoo is {held_out:.2f} away"


def typical(e: Evidence, name: str) -> str:
    mine, theirs = medians(e, name)
    if name == "outside":
        return f"{mine:.2g} of their variation is something else, {theirs:.2g} for an original left out of the zoo"
    what = {"line": "from the nearest line", "centre": "from the average", "nearest": "from the nearest original",
            "ratio": "times the distance of the second nearest original"}[name]  # fmt: skip
    return f"typically {mine:.2f} {what}, {theirs:.2f} for an original left out of the zoo"


def memorised(e: Evidence) -> str:
    """What the denoising loss adds where samples are near single members.

    It never decides: a denoiser can have memorised its members and still be sampled far from them (at a low
    temperature, through a codec that blurs), and held-out members of a dense trajectory are nearly the same as fitted
    ones.
    """
    if e.gap is None or not e.gap >= GAP:
        return ""
    return f", and the denoiser has memorised the originals: on unseen ones its loss is {e.gap:.2g} times as high"


def medians(e: Evidence, name: str) -> tuple[float, float]:
    """Of the samples and of held-out members."""
    return median(getattr(e.samples, name)), median(getattr(e.members, name))


def median(values: Float64[Tensor, "N"] | None) -> float:
    """Of those that are known; NaN if none is."""
    known = values[values.isfinite()] if values is not None else torch.zeros(0)
    return float(known.quantile(0.5)) if len(known) else math.nan
