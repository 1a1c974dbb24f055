"""Tables in any width: every name and every number is whole, on a terminal and in a file."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from paramdiff.reports.formatting import Metric
from paramdiff.runs.console import WIDE, SafeConsole
from paramdiff.runs.summary_table import summary_sheet, sweep_sheet
from paramdiff.runs.text_table import TextTable

NAMES = ["original", "p-diff", "autoencoder-kde", "low-rank-gaussian-0.7", "matched-noise", "[/bold]odd[red]"]
WIDTHS = (40, 60, 80, 100, 120, 200)


def row(name: str, n: int) -> dict[str, Any]:
    a = 0.9 + n / 1e4
    spread = {"best": a + 0.05, "mean": a, "median": a - 0.01, "worst": a - 0.3, "std": 0.0123}
    return {
        "name": name, "n": n, "test": spread, "selected": {"test": a + 0.001, "test_ci95": [a - 0.02, a + 0.02]},
        "similarity": {"within": a - 0.1, "to_zoo_mean": a - 0.2, "to_zoo_max_mean": a - 0.05},
        "recalibration": {"items": 2000, "before": {"mean": a - 0.02}} if n > 100 else None,
    }  # fmt: skip


RESULTS = {
    "experiment": "digits", "generator": "p-diff", "task": {"metric": "accuracy"}, "zoo": {"k": 200, "dim": 2048},
    "models": [row(name, 100 + i) for i, name in enumerate(NAMES)],
}  # fmt: skip
POINT = {"test_mean": 0.9123, "test_ci95": [0.9012, 0.9234], "test_median": 0.9, "test_std": 0.0123} | {
    "within": 0.7,
    "to_zoo_mean": 0.6,
    "to_zoo_max_mean": 0.8,
}
SWEEP = {
    "n": 25,
    "curves": [
        {"label": name, "knob": "temperature", "points": [{"value": v, **POINT} for v in (0.0, 0.5, 1.3)]}
        for name in NAMES
    ],
}
SHEETS = {"summary": summary_sheet(RESULTS), "sweep": sweep_sheet(RESULTS, SWEEP)}


def printed(sheet: TextTable, width: int, **kind: Any) -> str:
    file = io.StringIO()
    sheet.print(Console(file=file, width=width, highlight=False, **kind))
    return file.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SHEETS)
def test_every_name_and_number_is_whole_in_every_width(name: str, width: int):
    sheet = SHEETS[name]
    text = printed(sheet, width)
    lines = text.splitlines()
    assert "…" not in text
    for cells in sheet.rows:
        for cell in filter(None, cells):
            assert any(re.search(rf"(?<![\w.]){re.escape(cell)}(?![\w.])", line) for line in lines), cell
    assert all(heading in text for heading in sheet.headings[sheet.named :])
    if width >= 60:
        assert max(map(len, lines)) <= width


@pytest.mark.parametrize("name", SHEETS)
def test_what_matters_most_comes_first(name: str):
    sheet = SHEETS[name]
    assert len(sheet.blocks(200)) == 1 and len(sheet.blocks(80)) > 1
    first = [sheet.headings[i] for i in sheet.blocks(80)[0]]
    assert first[: sheet.named] == list(sheet.headings[: sheet.named])
    assert {"mean", "mean [95%]"} & set(first) and "worst" not in first
    for width in WIDTHS:
        shown = {i for block in sheet.blocks(width) for i in block}
        assert not shown or shown == set(range(len(sheet.headings))), "all columns or the paragraphs"


def test_rows_are_paragraphs_where_no_table_fits():
    sheet = TextTable("", ["tensor", "shape"], [["a.very.long.name.of.a.tensor.weight", "[64, 64, 3, 3]"]])
    assert sheet.blocks(40) == []
    assert printed(sheet, 40) == "a.very.long.name.of.a.tensor.weight\n  shape: [64, 64, 3, 3]\n"


def test_nothing_in_a_cell_is_obeyed():
    sheet = TextTable("[bold]t[/]", ["a", "b"], [["[/bold]x", "\x1b[31mred\n2"]])
    for width in (20, 100):
        text = printed(sheet, width, force_terminal=True, color_system=None)
        assert "[/bold]x" in text and "red 2" in text and "\x1b" not in text and "[bold]t[/]" in text


def test_without_a_terminal_there_is_a_sensible_width(monkeypatch: pytest.MonkeyPatch):
    for said, width in (("", WIDE), ("72", 72), ("0", WIDE), ("x", WIDE), ("9" * 30, WIDE)):
        monkeypatch.setenv("COLUMNS", said)
        assert SafeConsole().width == width


@pytest.mark.parametrize(("name", "shown"), [("accuracy", "50.00"), ("mean_iou", "50.00"), ("nll", "0.5")])
def test_a_score_is_in_per_cent_where_the_page_is(name: str, shown: str):
    results = RESULTS | {"task": {"metric": name}}
    models = [row | {"test": dict.fromkeys(row["test"], 0.5)} for row in RESULTS["models"]]
    sheet = summary_sheet(results | {"models": models})
    assert {row[sheet.headings.index("mean")] for row in sheet.rows} == {shown}
    assert Metric.of_results(results | {"models": models}).percent == (shown != "0.5")
