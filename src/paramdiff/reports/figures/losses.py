"""The figure of the losses of every training of a run."""

import math
from typing import Any

from paramdiff.reports.finished_run import FinishedRun, LossCurve
from paramdiff.reports.plotting import COLOURS, Plot, canvas, shortened
from paramdiff.reports.wording import setting

BLOCKS = 240
"""Points of a curve: a path through 30,000 steps weighs half a megabyte, its envelope looks the same."""


def draw_losses(run: FinishedRun) -> Plot:
    """A panel per training: every step faint, smoothed on top, on a log scale where losses allow it."""
    title, count = "Did the training settle?", len(run.curves)
    if not count:
        return Plot("losses", title, "This run kept no stats.jsonl, so there are no loss curves.")
    columns = 1 if count == 1 else 2
    figure, axes = canvas(40 + 155 * math.ceil(count / columns), math.ceil(count / columns), columns)
    for axis, curve in zip(axes.flat, run.curves):
        _curve(axis, curve)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("loss")
    for axis in axes.flat[count - columns : count]:
        axis.set_xlabel("step")
    scales = " Scales differ between panels." if count > 1 else ""
    lines = "Faint: all steps; line: their running mean."
    caption = f"Loss of every training of this run. {lines}{scales} {setting(run)}"
    return Plot("losses", title, caption, figure)


def _curve(axis: Any, curve: LossCurve) -> None:
    steps, low, high, middle = blocks(curve)
    axis.fill_between(steps, low, high, color=COLOURS[0], alpha=0.22, linewidth=0.6)
    axis.plot(steps, middle, color=COLOURS[0], linewidth=1.8)
    axis.set_title(shortened(curve.name))
    if min(curve.losses) > 0:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(_log_ticks(*axis.get_ylim()))
        axis.yaxis.set_minor_locator(_fixed([]))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}".replace("-", "−"))
    axis.xaxis.set_major_formatter(
        lambda value, _: f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"
    )
    axis.locator_params(axis="x", nbins=4, integer=True)


def blocks(curve: LossCurve) -> tuple[list[int], list[float], list[float], list[float]]:
    """A curve in at most ``BLOCKS`` blocks: step, least, greatest loss of each, and a running mean."""
    width = max(1, math.ceil(len(curve.losses) / BLOCKS))
    parts = [curve.losses[i : i + width] for i in range(0, len(curve.losses), width)]
    means = [sum(part) / len(part) for part in parts]
    reach = max(1, len(parts) // 40)
    around = [means[max(0, i - reach) : i + reach + 1] for i in range(len(means))]
    smooth = [sum(near) / len(near) for near in around]
    return curve.steps[::width], [min(part) for part in parts], [max(part) for part in parts], smooth


def _log_ticks(low: float, high: float) -> Any:
    """Round values inside a log axis: decades where enough, else 1-3, else 1-2-5, else even steps."""
    from matplotlib.ticker import MaxNLocator

    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5)):
        ticks = [d * 10.0**e for e in decades for d in digits if low <= d * 10.0**e <= high]
        if len(ticks) >= 3:
            return _fixed(ticks[:: math.ceil(len(ticks) / 5)])
    return MaxNLocator(4)


def _fixed(ticks: list[float]) -> Any:
    from matplotlib.ticker import FixedLocator

    return FixedLocator(ticks)
