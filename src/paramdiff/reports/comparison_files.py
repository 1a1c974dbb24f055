"""A comparison of runs as files: a page, a table, and data for programs.

``comparison.html`` (one self-contained page), ``comparison.md`` (a table to put into a text), ``comparison.csv`` and
``comparison.json``, and every figure as SVG and PNG.
"""

import csv
import html
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from paramdiff.errors import plain
from paramdiff.files import write_json, write_text
from paramdiff.reports import formatting, plotting
from paramdiff.reports.figures.settings_sweep import draw_swept
from paramdiff.reports.figures.zoo_size import draw_counts
from paramdiff.reports.finished_run import ORIGINAL
from paramdiff.reports.page import SIMILARITY, require_libraries, template
from paramdiff.reports.run_comparison import ALL, MAIN, QUANTITIES, Gathered, Line
from paramdiff.reports.varied_settings import written

SCHEMA = 1
COUNT = "zoo.k"
HEADINGS = {
    "original_mean": "originals", "test_best": "best", "test_mean": "mean", "test_median": "median",
    "test_worst": "worst", "test_selected": "selected", "within": "within", "to_zoo_mean": "to zoo",
    "to_zoo_max_mean": "nearest", "fit_s": "fit",
}  # fmt: skip


def table(gathered: Gathered) -> tuple[list[str], list[list[str]]]:
    """Headings and cells as text, without columns in which nothing is known."""
    shown = [key for key in HEADINGS if key != "original_mean" or gathered.row not in (ALL, ORIGINAL)]
    numbers = [HEADINGS[key] for key in shown]
    headings = [*gathered.columns.values(), *(["runs"] if gathered.replicated else []), *numbers, "verdict"]
    cells = [_cells(gathered, line, shown) for line in gathered.lines]
    first = len(gathered.columns)
    kept = [i for i in range(len(headings)) if i < first or any(row[i] != formatting.NONE for row in cells)]
    return [headings[i] for i in kept], [[row[i] for i in kept] for row in cells]


def _cells(gathered: Gathered, line: Line, quantities: Iterable[str]) -> list[str]:
    settings = [written(value) for value in gathered.values(line).values()]
    runs = [str(len(line.sources))] if gathered.replicated else []
    numbers = [_with_deviation(*line.spread(key), writer(gathered, key)) for key in quantities]
    return [*settings, *runs, *numbers, verdict(line)]


def writer(gathered: Gathered, quantity: str) -> Callable[[float | None], str]:
    """How a quantity is written."""
    if quantity == "fit_s":
        return formatting.duration
    return formatting.fraction if quantity in SIMILARITY else gathered.metric.plain


def _with_deviation(mean: float | None, deviation: float | None, write: Callable[[float | None], str]) -> str:
    if deviation is None or write is formatting.duration:
        return write(mean)
    return f"{write(mean)} ± {write(deviation)}"


def verdict(line: Line) -> str:
    """``interpolation``, or how often each was given: ``interpolation 2, replica 1``."""
    given = line.verdicts
    if len(given) < 2:
        return next(iter(given), formatting.NONE)
    return ", ".join(f"{name} {count}" for name, count in given.items())


def to_json(gathered: Gathered) -> dict[str, Any]:
    """Numbers as they are: scores are fractions of the metric, deviations are over seeds."""
    return {
        "schema": SCHEMA, "metric": gathered.metric.name, "higher_is_better": gathered.metric.higher,
        "row": gathered.row,
        "columns": [{"key": key, "name": name} for key, name in gathered.keys.items()],
        "lines": [
            {
                "settings": line.settings, "row": line.row,
                "runs": [str(source.run.folder) for source in line.sources],
                "seeds": [source.seed for source in line.sources],
                **{key: dict(zip(("mean", "std"), line.spread(key), strict=True)) for key in QUANTITIES},
                "verdicts": line.verdicts,
            }
            for line in gathered.lines
        ],
    }  # fmt: skip


def to_csv(gathered: Gathered) -> str:
    """One line each, numbers in full; a column ``_std`` beside every quantity."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n")
    quantities = [name for key in QUANTITIES for name in (key, f"{key}_std")]
    write.writerow([*gathered.keys.values(), "row", "runs", *quantities, "verdict"])
    for line in gathered.lines:
        numbers = [value for key in QUANTITIES for value in line.spread(key)]
        write.writerow([*line.settings.values(), line.row, len(line.sources), *numbers, verdict(line)])
    return text.getvalue()


def to_markdown(gathered: Gathered) -> str:
    """A table in Markdown."""
    headings, rows = table(gathered)
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(map(_markdown, line))} |\n" for line in lines)


def _markdown(cell: str) -> str:
    """Text that Markdown shows as it is: no HTML, no further cells or lines, no links."""
    text = html.escape(" ".join(plain(cell).split()), quote=False)
    return re.sub(r"([\\|`]|\](?=\())", r"\\\1", text)


def write_comparison(gathered: Gathered, folder: Path, command: str = "") -> Path:
    """Write all files into a folder; returns the path of the page.

    Raises:
        ParamdiffError: matplotlib or jinja2 is not installed.
    """
    require_libraries()
    with plotting.style():
        plots = [draw_swept(gathered), *_counts(gathered)]
    drawn = [(plot, plotting.save(plot, folder)) for plot in plots if plot.figure is not None]
    headings, rows = table(gathered)
    page = template("comparison.html.j2").render(
        title=title(gathered), subtitle=subtitle(gathered), headings=headings, rows=rows, drawn=drawn,
        labels=len(gathered.columns), runs=[str(source.run.folder) for source in gathered.sources], command=command,
        replicated=gathered.replicated, metric=gathered.metric,
    )  # fmt: skip
    write_text(folder / "comparison.md", to_markdown(gathered))
    write_text(folder / "comparison.csv", to_csv(gathered))
    write_json(folder / "comparison.json", to_json(gathered))
    write_text(folder / "comparison.html", page)
    return folder / "comparison.html"


def title(gathered: Gathered) -> str:
    """What was compared: ``digits by latent_noise``."""
    names = ", ".join(gathered.keys.values()) or ("seed" if gathered.replicated else "")
    experiments = {str(source.run.results.get("experiment")) for source in gathered.sources}
    subject = experiments.pop() if len(experiments) == 1 else "runs"
    return f"{subject} by {names}" if names else subject


def subtitle(gathered: Gathered) -> str:
    rows = {MAIN: "the main generator", ALL: "every row"}.get(gathered.row, gathered.row)
    runs = formatting.networks(len(gathered.sources), "run")
    return f"{runs}, {rows}: test {gathered.metric.title}, error similarity"


def _counts(gathered: Gathered) -> list[plotting.Plot]:
    """The paper's figure 4b, where K is what differs."""
    if COUNT not in gathered.keys or gathered.row == ALL:
        return []
    return [draw_counts(
        [
            (source.run.part("zoo")["k"], kept[0].tolist())
            for line in gathered.lines
            for source, row in zip(line.sources, line.rows, strict=True)
            if (kept := row.values("to_zoo_max"))
        ],
        note=f"{gathered.sizes}.",
    )]  # fmt: skip
