"""The accuracy-diversity front: every row in its place, curves of a sweep, and what lies far off."""

from pathlib import Path
from typing import Any

import pytest

from finished_runs import model, regression, results, spread, texts, unlabelled, write_run
from paramdiff.files import write_json
from paramdiff.reports.figures.tradeoff import draw_front, read_curves, worth_showing
from paramdiff.reports.finished_run import FinishedRun
from paramdiff.reports.formatting import Metric
from paramdiff.reports.page import render
from paramdiff.reports.plotting import Plot, style


def at(name: str, mean: float, within: float | None, n: int = 100) -> dict[str, Any]:
    similarity = {"within": within, "to_zoo_mean": 0.7, "to_zoo_max_mean": 0.8}
    return model(name, mean, n, similarity=similarity, test=spread(mean, 0.004))


ROWS = [at("original", 0.976, 0.74, 200), at("p-diff", 0.979, 0.83), at("gaussian", 0.978, 0.81)]


def curve(name: str, knob: str, *points: tuple[float, float | None, float | None]) -> dict[str, Any]:
    found = [
        {"value": v, "n": 25, "test_mean": y, "test_median": y, "test_std": 0.002, "test_ci95": None,
         "within": x, "to_zoo_mean": None, "to_zoo_max_mean": None}
        for v, x, y in points
    ]  # fmt: skip
    return {"name": name, "label": name, "knob": knob, "points": found}


SWEEP = {
    "schema": 1, "n": 25,
    "curves": [
        curve("p-diff", "contraction", (1.25, 0.7, 0.974), (0.0, 1.0, 0.98), (0.7, 0.83, 0.979)),
        curve("gaussian", "scale", (0.0, 1.0, 0.98), (1.5, 0.6, 0.4), (1.0, 0.8, 0.978)),
    ],
}  # fmt: skip


def drawn(folder: Path, found: dict[str, Any], sweep: dict[str, Any] | None = None) -> Plot:
    write_run(folder / "run", found)
    if sweep:
        write_json(folder / "run" / "sweep.json", sweep)
    with style():
        return draw_front(FinishedRun.read(folder / "run"))


def marks(figure: Any) -> list[tuple[float, float]]:
    """Where single large marks are."""
    lines = figure.axes[0].get_lines()
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in lines
        if line.get_marker() not in ("", "None", None) and len(line.get_xdata()) == 1
    ]  # fmt: skip


def test_every_row_is_a_mark_at_its_similarity_and_mean(tmp_path: Path):
    plot = drawn(tmp_path, results(*ROWS))
    found = [value for mark in sorted(marks(plot.figure)) for value in mark]
    assert found == pytest.approx([0.74, 97.6, 0.81, 97.8, 0.83, 97.9])
    assert unlabelled(plot.figure) == []
    assert "↖ better and more diverse" in texts(plot.figure) and "p-diff (100)" in texts(plot.figure)
    assert plot.caption.startswith("Up is better, left is more diverse.")
    assert "paramdiff sweep-temperature" in plot.caption and "K\u00a0=\u00a0200" in plot.caption


def test_marks_and_their_intervals_are_inside_the_axes(tmp_path: Path):
    axis = drawn(tmp_path, results(*ROWS)).figure.axes[0]
    bars = [line for line in axis.get_lines() if line.get_linewidth() == 1.6]
    assert len(bars) == 3
    low, high = axis.get_ylim()
    for bar in bars:
        first, last = bar.get_ydata()
        assert low < first < last < high
    assert bars[1].get_ydata()[1] - bars[1].get_ydata()[0] == pytest.approx(2 * 1.96 * 0.2 / 10)


def test_curves_run_along_their_knob_and_say_its_ends(tmp_path: Path):
    plot = drawn(tmp_path, results(*ROWS), SWEEP)
    (mine,) = [line for line in plot.figure.axes[0].get_lines() if list(line.get_xdata()) == [1.0, 0.83, 0.7]]
    assert list(mine.get_ydata()) == pytest.approx([98.0, 97.9, 97.4])
    written = [text.get_text() for text in plot.figure.axes[0].texts]
    assert sorted(written) == ["0", "1", "1.25"], (
        "one 0 for two curves that end in one point; 1.5 is far below"
    )
    assert "25 networks at each value" in plot.caption
    assert "p-diff: contraction 0 to 1.25; gaussian: scale 0 to 1.5" in plot.caption
    assert "at most ±0.1 points" in plot.caption and "sweep-temperature" not in plot.caption


def test_numbers_at_the_ends_do_not_overlap(tmp_path: Path):
    close = [
        curve(f"g{i}", "scale", (i, 0.80 + i / 2000, 0.978), (10 + i, 0.7, 0.977 + i / 1e4)) for i in range(5)
    ]
    figure = drawn(tmp_path, results(*ROWS), {"schema": 1, "n": 25, "curves": close}).figure
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 10
    overlaps = [a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert sum(overlaps) <= 1  # ten numbers on five curves within a millimetre


def test_what_is_not_known_is_left_out_of_a_curve(tmp_path: Path):
    sweep = {"schema": 1, "n": 25, "curves": [
        curve("p-diff", "contraction", (0.0, None, 0.98), (0.5, 0.9, None), (1.0, 0.8, 0.97)),
        curve("gaussian", "scale", (0.0, None, None)),
    ]}  # fmt: skip
    write_json(write_run(tmp_path / "run", results(*ROWS)) / "sweep.json", sweep)
    run = FinishedRun.read(tmp_path / "run")
    (only,) = read_curves(run, Metric.of(run))
    assert (only.name, only.values, only.x) == ("p-diff", [1.0], [0.8])
    with style():
        assert draw_front(run).figure is not None


def test_a_generator_far_below_stands_at_the_edge_with_its_score(tmp_path: Path):
    plot = drawn(tmp_path, results(*ROWS, at("noised", 0.312, 0.3)))
    axis = plot.figure.axes[0]
    assert axis.get_ylim()[0] > 95 and (0.3, 0.0) in marks(plot.figure)
    assert "31.2 ▾" in texts(plot.figure) and "At the edge" in plot.caption
    low, high = axis.get_xlim()
    assert low < 0.3 < high


def test_the_main_generator_is_always_in_sight(tmp_path: Path):
    axis = drawn(tmp_path, results(at("original", 0.976, 0.74), at("p-diff", 0.1, 0.9))).figure.axes[0]
    assert axis.get_ylim()[0] < 10


def test_lower_can_be_better(tmp_path: Path):
    task = {"name": "sine", "metric": "loss", "higher_is_better": False, "chance": None}
    rows = [at("original", 0.5, 0.7), at("p-diff", 0.49, 0.8), at("noised", 9.0, 0.6)]
    plot = drawn(tmp_path, results(*rows, task=task))
    assert "↙" in texts(plot.figure) and "9.0000 ▴" in texts(plot.figure)
    assert plot.caption.startswith("Down is better")
    run = FinishedRun.read(tmp_path / "run")
    assert worth_showing(run.originals, run.main, run.rows, Metric.of(run)) > 0.5


def test_without_similarities_there_is_one_line(tmp_path: Path):
    plot = drawn(tmp_path, regression())
    assert plot.figure is None and "knows which items are wrong" in plot.caption
    alone = drawn(tmp_path / "alone", results(at("original", 0.9, 0.5), at("p-diff", 0.9, None, 1)))
    assert alone.figure is None and "at least two" in alone.caption


def test_it_stands_right_below_the_table(tmp_path: Path):
    folder = write_run(tmp_path / "run", results(*ROWS))
    write_json(folder / "sweep.json", SWEEP)
    page = render(folder).read_text()
    headings = [part.split("</h2>")[0] for part in page.split("<h2>")[1:]]
    assert headings[headings.index("Scores") + 1] == "Accuracy against diversity"
    assert (folder / "figures/front.svg").stat().st_size < 200_000
    first = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    assert render(folder).read_text() == page
    assert first == {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
