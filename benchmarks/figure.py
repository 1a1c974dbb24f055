"""The growth curves: seconds against D, K and N on logarithmic axes, with the fitted exponents."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.rows import Curve, Row
from paramdiff.progress import say
from paramdiff.reports.plotting import COLOURS, Plot, canvas, save, style

OVER = {"D": "parameters D", "K": "members K", "N": "samples N"}


def curves_of(results: Mapping[str, Any]) -> list[Curve]:
    """All curves of a results file."""
    rows = [Row.from_json(row) for case in results["cases"].values() for row in case["rows"]]
    return [row.curve for row in rows if row.curve is not None]


def draw_growth(results: Mapping[str, Any], out: Path) -> None:
    """Write ``<out>-growth.png`` and ``.svg`` beside a results file that holds curves."""
    curves = curves_of(results)
    if not curves:
        return
    try:
        with style():
            figure = _figure(curves)
    except ModuleNotFoundError as error:
        say(f"no growth figure: {error.name} is not installed")
        return
    save(Plot(f"{out.stem}-growth", "Time against size", "", figure), out.parent)


def _figure(curves: list[Curve]) -> Any:
    shown = [over for over in OVER if any(curve.over == over for curve in curves)]
    figure, axes = canvas(20 + 215 * len(shown), len(shown), 1)
    for axis, over in zip(axes[:, 0], shown, strict=True):
        for colour, curve in zip(COLOURS, (curve for curve in curves if curve.over == over)):
            label = f"{curve.of}: exponent {curve.exponent:.2f}, at the end {curve.last:.2f}"
            axis.plot(curve.x, curve.seconds, "o-", color=colour, label=label, linewidth=1.6, markersize=4)
        axis.set(xscale="log", yscale="log", xlabel=OVER[over], ylabel="seconds")
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)
        _tick(axis, sorted({x for curve in curves if curve.over == over for x in curve.x}))
    return figure


def _tick(axis: Any, x: list[int]) -> None:
    """The sizes that were measured, and seconds in ones, twos and fives."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

    axis.xaxis.set_major_locator(FixedLocator(x))
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for one, text in ((axis.xaxis, short), (axis.yaxis, "{:g}".format)):
        one.set_minor_locator(NullLocator())
        one.set_major_formatter(lambda value, _, text=text: text(value))


def short(size: float) -> str:
    """``131,072`` as ``131k``."""
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if size >= factor:
            return f"{size / factor:.3g}{unit}"
    return f"{size:g}"
