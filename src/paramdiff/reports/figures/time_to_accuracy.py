"""Accuracy against time, training against drawing (the paper's Figure 7), and what every stage takes.

A drawn network costs a fraction of a second, but only after a zoo was collected and a generator fitted. So the
upper panel repeats the paper's comparison, and the lower one says what it leaves out. Both curves are scores on
the same training items (:mod:`paramdiff.collectors.learning_curve`): the test set is read for reporting only.
"""

from dataclasses import dataclass
from typing import Any

from paramdiff.reports.figures.latent_maps import FILE as LATENTS
from paramdiff.reports.finished_run import FinishedRun
from paramdiff.reports.formatting import Metric, duration, number
from paramdiff.reports.plotting import COLOURS, DASHED, GREY, VERMILLION, Plot, canvas, plain_numbers
from paramdiff.reports.wording import setting

FILE = "evaluation/training.json"
Line = tuple[list[float], list[float]]
"""Seconds and scores, as shown."""


@dataclass(frozen=True)
class Cost:
    """How long something took.

    Attributes:
        what: in words.
        seconds: of wall clock.
        colour: of its mark.
    """

    what: str
    seconds: float
    colour: str


def draw_pace(run: FinishedRun) -> Plot:
    """Score against time of one training and of drawing samples; below, the time of every stage."""
    title, metric = "How long does a network take?", Metric.of(run)
    training, drawing, spent = training_line(run, metric), drawing_line(run, metric), costs(run)
    if len(spent) < 2:
        return Plot("pace", title, "This run did not keep its times, so there is no figure of them.")
    curves = [line for line in (training, drawing) if line is not None]
    height, low = 55 + 25 * len(spent), 260 if curves else 0
    figure, axes = canvas(
        height + low, 2 if curves else 1, sharex=True,
        gridspec_kw={"height_ratios": (low, height)} if curves else None,
    )  # fmt: skip
    if curves:
        _race(axes[0, 0], run, training, drawing, metric)
        figure.legend(loc="outside upper left", ncols=2, borderaxespad=0.2)
    _stages(axes[-1, 0], spent)
    return Plot("pace", title, _caption(run, training, drawing, spent, metric), figure, paper="7")


def training_line(run: FinishedRun, metric: Metric) -> Line | None:
    """Score of one network while it is trained; time zero has no place on a log scale."""
    points = [(s, y) for step, s, y in (run.json(FILE) or {}).get("points", []) if step and y is not None]
    return ([s for s, _ in points], [metric.scale * y for _, y in points]) if len(points) > 1 else None


def drawing_line(run: FinishedRun, metric: Metric) -> Line | None:
    """Mean score of networks on the way from noise; the steps of the reverse process take equal times."""
    points, seconds = run.tensors(LATENTS)[0], run.part("timings_s").get("sample")
    if "paths.score" not in points or not seconds:
        return None
    score = points["paths.score"].double().mean(1)
    known = [i for i in range(1, len(score)) if score[i].isfinite()]
    times = [seconds * i / (len(score) - 1) for i in known]
    return (times, [metric.scale * float(score[i]) for i in known]) if known else None


def costs(run: FinishedRun) -> list[Cost]:
    """What is known of the time of this run, in its order."""
    times, points = run.part("timings_s"), (run.json(FILE) or {}).get("points")
    found = [
        ("train one network", points[-1][1] if points else None, COLOURS[0]),
        (f"collect K = {number(run.part('zoo').get('k'))}", times.get("collect"), GREY),
        (f"fit {run.main.label}", times.get("fit"), VERMILLION),
        (f"draw N = {number(run.main.n)}", times.get("sample"), VERMILLION),
    ]
    return [Cost(what, seconds, colour) for what, seconds, colour in found if seconds]


def _race(axis: Any, run: FinishedRun, training: Line | None, drawing: Line | None, metric: Metric) -> None:
    if training is not None:
        axis.plot(
            *training, color=COLOURS[0], linewidth=2, marker="o", markersize=4, label="training one network"
        )
    if drawing is not None:
        axis.plot(
            *drawing, color=VERMILLION, linewidth=2, marker="D", markersize=4,
            label=f"drawing {number(run.main.n)} from {run.main.label}",
        )  # fmt: skip
    if run.originals.train["mean"] is not None:
        axis.axhline(metric.scale * run.originals.train["mean"], color=GREY, linewidth=1.2, linestyle=DASHED)
    axis.set_ylabel(f"training {metric.title}")
    axis.yaxis.set_major_formatter(plain_numbers())


def _stages(axis: Any, spent: list[Cost]) -> None:
    """A mark for every stage, with its time in words beside it."""
    axis.set_xscale("log")
    seconds = [cost.seconds for cost in spent]
    left, right = axis.get_xlim()
    left, right = min(left, min(seconds) / 2), max(right, max(seconds) * 2)
    axis.set_xlim(left, right)
    for place, cost in enumerate(spent):
        beyond = (cost.seconds / left) ** 2 > right / left  # in the right half: the text goes to its left
        axis.plot([cost.seconds], [place], linestyle="none", marker="s", markersize=8, color=cost.colour)
        axis.annotate(
            f"{duration(cost.seconds) if cost.seconds >= 0.1 else f'{1000 * cost.seconds:.0f} ms'}",
            (cost.seconds, place), (-9 if beyond else 9, 0), textcoords="offset points",
            ha="right" if beyond else "left", va="center", fontsize=11,
        )  # fmt: skip
    axis.set_yticks(range(len(spent)), [cost.what for cost in spent])
    axis.set_ylim(len(spent) - 0.5, -0.5)
    axis.grid(False, axis="y")
    axis.set_xlabel("seconds (log scale)")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(lambda value, _: "")


def _caption(
    run: FinishedRun, training: Line | None, drawing: Line | None, spent: list[Cost], metric: Metric
) -> str:
    items = number(float((run.json(FILE) or {}).get("items") or run.tensors(LATENTS)[1].get("items") or 0))
    parts = []
    if training is not None:
        parts.append(f"One network while it is trained from scratch, scored on {items} training items.")
    else:
        parts.append("No network was trained from scratch in this run, so there is no curve of a training.")
    if drawing is not None:
        same = "the same items" if training is not None else f"{items} training items"
        parts.append(
            f"{run.main.label}: mean score, on {same}, of networks decoded on the way from noise to samples; time is"
            f" that of drawing all {number(run.main.n)} at once."
        )
    parts.append("Dashed line: mean of the originals on the training set.")
    times = {cost.what: cost.seconds for cost in spent}
    before = sum(run.part("timings_s").get(key) or 0 for key in ("collect", "fit"))
    if before and len(times) > 1:
        parts.append(
            f"Drawing is fast only once the zoo is collected and the generator fitted: {duration(before)} here."
        )
    originals, samples = metric(run.originals.test["mean"]), metric(run.main.test["mean"])
    ends = f"On the test set the originals reach {originals}, the samples {samples}."
    return " ".join([*parts, ends, setting(run)])
