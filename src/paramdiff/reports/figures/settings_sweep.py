"""Scores and similarity against the setting that was swept, for a comparison of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paramdiff.reports.plotting import (
    COLOURS,
    DASHED,
    GREY,
    VERMILLION,
    Plot,
    canvas,
    plain_numbers,
    shortened,
)
from paramdiff.reports.run_comparison import Gathered, Line
from paramdiff.reports.varied_settings import Value, written

TITLE = "What the setting does"
PALETTE = (VERMILLION, *COLOURS, GREY)
APART = 0.12
"""Between marks of several series at one name."""
MARKERS = ("D", "o", "s", "^", "v", "P", "X", "<")  # not as many as colours: all pairs occur
FACTOR = 20
"""Values that span more than this lie on a logarithmic axis."""


@dataclass(frozen=True)
class Series:
    """Lines of the table that differ in nothing but the swept setting.

    Attributes:
        label: their other settings; empty if there are none.
        x: places on the axis.
        lines: one each.
    """

    label: str
    x: list[float]
    lines: list[Line]


def draw_swept(gathered: Gathered) -> Plot:
    """Two panels over the swept setting: a line through numbers, marks for names."""
    known = [line for line in gathered.lines if line.spread("test_mean")[0] is not None]
    key = swept_key(gathered, known)
    if key is None:
        return Plot("comparison", TITLE, "The runs differ in no setting, so there is no figure of one.")
    values = list(dict.fromkeys(gathered.values(line)[key] for line in known))
    numeric = all(_is_number(value) for value in values)
    places = {value: float(value) if numeric else float(i) for i, value in enumerate(values)}  # type: ignore[arg-type]
    series = _series(gathered, known, key, places)
    if not numeric:
        series = [_aside(one, i - (len(series) - 1) / 2) for i, one in enumerate(series)]
    alike = any(line.spread("within")[0] is not None for line in known)
    rows = 2 if alike else 1
    legend = len(series) if len(series) > 1 else 0
    figure, axes = canvas(60 + 210 * rows + 17 * (legend + 1), rows, sharex=True)
    _scores(axes[0, 0], gathered, series, numeric)
    if alike:
        _similarity(axes[1, 0], gathered, series, numeric)
    _scale(axes[-1, 0], places, numeric)
    for axis in axes[:, 0]:
        axis.grid(numeric, axis="x")
    axes[-1, 0].set_xlabel(gathered.columns[key].replace("_", " "))
    handles, labels = axes[-1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2, borderaxespad=0.2)
    return Plot("comparison", TITLE, _caption(gathered, len(series) == 1, alike), figure)


def swept_key(gathered: Gathered, lines: Sequence[Line]) -> str | None:
    """The setting for the axis: the numeric one with most values, else the one with most; None without any."""
    values = {key: {gathered.values(line)[key] for line in lines} for key in gathered.columns}
    rank = {key: (all(map(_is_number, own)), len(own)) for key, own in values.items() if len(own) > 1}
    return max(rank, key=lambda key: rank[key], default=None)


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _series(gathered: Gathered, lines: Sequence[Line], key: str, places: dict[Value, float]) -> list[Series]:
    grouped: dict[str, list[Line]] = {}
    for line in lines:
        others = {k: value for k, value in gathered.values(line).items() if k != key}
        names = [
            written(v) if k == "row" else f"{gathered.columns[k]} = {written(v)}" for k, v in others.items()
        ]
        grouped.setdefault(", ".join(names).replace("_", " "), []).append(line)
    return [
        Series(label, [places[gathered.values(line)[key]] for line in own], own)
        for label, own in grouped.items()
    ]


def _aside(one: Series, steps: float) -> Series:
    return Series(one.label, [x + APART * steps for x in one.x], one.lines)


def _draw(
    axis: Any, one: Series, quantity: str, scale: float, look: tuple[str, str], label: str, line: bool
) -> None:
    """A quantity with its deviation over seeds."""
    spreads = [each.spread(quantity) for each in one.lines]
    known = [
        (x, scale * mean, scale * (std or 0)) for x, (mean, std) in zip(one.x, spreads) if mean is not None
    ]
    if known:
        x, y, errors = (list(values) for values in zip(*sorted(known)))
        axis.errorbar(
            x, y, yerr=errors if any(errors) else None, color=look[0], marker=look[1], markersize=6.5, capsize=3,
            linewidth=1.8, linestyle="-" if line else "none", label=label,
        )  # fmt: skip


def _scores(axis: Any, gathered: Gathered, series: Sequence[Series], line: bool) -> None:
    metric = gathered.metric
    for i, one in enumerate(series):
        look = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
        label = shortened(one.label or "samples", 40)
        _draw(axis, one, "test_mean", metric.scale, look, label, line)
        if len(series) == 1:
            _extremes(axis, one, metric.scale)
    _reference(axis, gathered, series, "test_mean", metric.scale, line)
    axis.set_ylabel(f"test {metric.title}")
    axis.yaxis.set_major_formatter(plain_numbers())


def _extremes(axis: Any, one: Series, scale: float) -> None:
    """The best and the worst network at every place."""
    for quantity, marker in (("test_best", "^"), ("test_worst", "v")):
        found = [(x, each.spread(quantity)[0]) for x, each in zip(one.x, one.lines, strict=True)]
        known = [(x, scale * value) for x, value in found if value is not None]
        axis.plot(
            [x for x, _ in known], [y for _, y in known], linestyle="none", marker=marker, markersize=4.5,
            color=COLOURS[0], alpha=0.8,
        )  # fmt: skip


def _similarity(axis: Any, gathered: Gathered, series: Sequence[Series], line: bool) -> None:
    for i, one in enumerate(series):
        look = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
        _draw(axis, one, "within", 1.0, look, shortened(one.label or "samples", 40), line)
        if len(series) == 1:
            _draw(axis, one, "to_zoo_max_mean", 1.0, (COLOURS[0], "s"), "to the nearest original", line)
    _reference(axis, gathered, series, "within", 1.0, line)
    axis.set_ylabel("error similarity")


def _reference(
    axis: Any, gathered: Gathered, series: Sequence[Series], quantity: str, scale: float, line: bool
) -> None:
    """The originals, where there is one set of them at every place."""
    found: dict[float, set[float]] = {}
    for one in series:
        for x, each in zip(one.x if line else map(round, one.x), one.lines, strict=True):
            value = gathered.originals(each, quantity)
            if value is not None:
                found.setdefault(x, set()).add(scale * value)
    if found and all(len(values) == 1 for values in found.values()):
        spots = sorted(found)
        heights = [next(iter(found[spot])) for spot in spots]
        axis.plot(
            spots, heights, color=GREY, linewidth=1.3, linestyle=DASHED if line else "none", marker="_",
            markersize=12, label="originals", zorder=1,
        )  # fmt: skip


def _scale(axis: Any, places: dict[Value, float], numeric: bool) -> None:
    """Ticks at the values themselves; a logarithmic axis where they span much, linear near 0."""
    ticks = sorted(places.values())
    labels = {place: shortened(written(value), 16) for value, place in places.items()}
    positive = [place for place in ticks if place > 0]
    if numeric and positive and ticks[0] >= 0 and positive[-1] > FACTOR * positive[0]:
        axis.set_xscale("symlog", linthresh=positive[0]) if ticks[0] == 0 else axis.set_xscale("log")
    crowded = sum(len(label) for label in labels.values()) > 48
    slanted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axis.set_xticks(ticks, [labels[place] for place in ticks], **slanted)
    axis.set_xticks([], minor=True)
    if not numeric:
        axis.set_xlim(-0.5, len(ticks) - 0.5)


def _caption(gathered: Gathered, single: bool, alike: bool) -> str:
    metric = gathered.metric
    text = f"{'Up' if metric.higher else 'Down'} is better in the score"
    text += "; lower is more diverse in the similarity (error IoU among samples)." if alike else "."
    if single:
        text += " Small triangles: best and worst network."
    if gathered.replicated:
        text += " Bars: deviation over seeds."
    return f"{text} {gathered.sizes}."
