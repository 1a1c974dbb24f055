"""What all figures have in common: sizes, colours, and saving them from matplotlib to files and pages.

A figure is drawn once, 440 units wide with 12-unit text, so that the same drawing is legible on a phone
(10 px text at a width of 375 px) and in print. Colours are Okabe and Ito's. Drawing touches no global
state of matplotlib and gives the same bytes every time.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paramdiff.atomic import writing
from paramdiff.files import write_text

WIDTH = 440 / 72  # inches; matplotlib counts 72 units to the inch in an SVG
PNG_DPI = 200
FONT = "'DejaVu Sans'"  # comes with matplotlib, so that text is measured alike everywhere
INK, MUTED, GRID, PAPER = "#24292f", "#6a737d", "#e7e9ec", "#ffffff"
GREY, VERMILLION = "#59626d", "#d55e00"
DASHED, DOTTED = (0, (5, 2)), (0, (1, 1.6))
COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
SCHEME = {
    INK: "ink",
    MUTED: "muted",
    GRID: "line",
    PAPER: "paper",
    GREY: "grey",
    VERMILLION: "vermillion",
    COLOURS[0]: "blue",
}
"""Colours that follow the page's light or dark scheme, and the variables of its style sheet they become."""

STYLE: Any = {
    "font.family": ["DejaVu Sans"], "font.size": 12, "text.parse_math": False, "text.color": INK,
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "axes.titlesize": 12.5, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.titlecolor": INK, "axes.labelsize": 12, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.facecolor": "none",
    "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.8,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "xtick.labelsize": 11.5, "ytick.labelsize": 11.5, "legend.frameon": False, "legend.fontsize": 11.5,
    "figure.facecolor": PAPER, "svg.fonttype": "none", "svg.hashsalt": "paramdiff",
}  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """One figure of the page.

    Attributes:
        name: file name, and what keeps its ids apart from those of other figures.
        title: heading.
        caption: what is seen, with K, N, D and the seed; or why there is nothing to see.
        figure: a matplotlib figure, None where the run lacks what it shows.
        paper: the figure of the paper it corresponds to, e.g. ``"3b"``; empty if there is none.
    """

    name: str
    title: str
    caption: str
    figure: Any = None
    paper: str = ""


def plain_numbers() -> Any:
    """Ticks with as many decimals as they need, without a common offset."""
    from matplotlib.ticker import ScalarFormatter

    return ScalarFormatter(useOffset=False)


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's settings for drawing and saving, put back afterwards."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


def canvas(height: float, rows: int = 1, columns: int = 1, **kwargs: Any) -> tuple[Any, Any]:
    """A figure of ``height`` units with its axes ``[rows, columns]``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height / 72), layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=6 / 72, h_pad=5 / 72, hspace=0.04, wspace=0.04)
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def shortened(text: str, length: int = 22) -> str:
    """A name that fits a legend: the middle goes, for what tells names apart is often their end."""
    if len(text) <= length:
        return text
    return f"{text[: length // 2 - 1]}…{text[-(length - length // 2) :]}"


def save(plot: Plot, folder: Path) -> str:
    """Write ``<name>.png`` and ``<name>.svg`` into a folder; returns the SVG to be put into a page."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with style():
        with writing(folder / f"{plot.name}.png") as partial:
            plot.figure.savefig(partial, format="png", dpi=PNG_DPI, metadata={"Software": None})
        plot.figure.savefig(buffer, format="svg", dpi=PNG_DPI, metadata=nothing)
    svg = buffer.getvalue()
    write_text(folder / f"{plot.name}.svg", svg.replace(FONT, f"{FONT}, Verdana, Arial, sans-serif"))
    return inline(svg, plot.name, plot.title)


def inline(svg: str, name: str, title: str) -> str:
    """An SVG file as an element of a page: ids of its own, the page's font and colour scheme."""
    from markupsafe import escape

    body = svg[svg.index("<svg") :]
    body = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(rf"{FONT}[^;\"]*", "var(--sans)", body)
    for colour, variable in SCHEME.items():
        body = re.sub(rf"\b(fill|stroke): {colour}\b", rf"\1: var(--{variable}, {colour})", body)
    opening, rest = body.split(">", 1)
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    return f'{opening} role="img" aria-label="{escape(title)}">{rest}'
