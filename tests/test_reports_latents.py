"""Figures of latents, of the way from noise, of time and of K: what is drawn, and what is said where nothing is."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from finished_runs import results, texts, unlabelled, write_run
from paramdiff.evaluation.latent_projection import Paths
from paramdiff.files import save_tensors, write_json
from paramdiff.parameters.normaliser import Normaliser
from paramdiff.reports.figures.latent_maps import draw_latents, draw_paths
from paramdiff.reports.figures.time_to_accuracy import costs, draw_pace, drawing_line, training_line
from paramdiff.reports.figures.zoo_size import draw_counts
from paramdiff.reports.finished_run import FinishedRun
from paramdiff.reports.formatting import Metric
from paramdiff.reports.plotting import style
from toy_zoos import curve

ABOUT = {"amplitude": "0.1", "latent": "128", "contraction": "0.7", "temperature": "1", "items": "1000"}
SETTING = ("K\u00a0=\u00a0200", "N\u00a0=\u00a0100", "D\u00a0=\u00a02,048", "seed 7")


def write_points(folder: Path, steps: int = 6, paths: bool = True) -> None:
    """What a run keeps of the latents of 200 originals and 100 samples."""
    found = {
        "map.originals": torch.rand(180, 2), "map.samples": torch.rand(100, 2), "map.noised": torch.rand(180, 2)
    }  # fmt: skip
    if paths:
        zoo = curve(30, 40)
        networks = zoo[: steps * 5].reshape(-1, 5, 40)[:steps]
        seen = Paths.of(networks, zoo, Normaliser.fit(zoo))
        found |= {f"paths.{field.name}": getattr(seen, field.name) for field in fields(seen)}
        found["paths.score"] = torch.linspace(0.1, 0.9, steps, dtype=torch.float64)[:, None].expand(steps, 5)
    save_tensors(folder / "evaluation" / "latents.safetensors", found, ABOUT)


def write_training(folder: Path, *points: list[Any]) -> None:
    write_json(folder / "evaluation" / "training.json", {"items": 1000, "points": list(points)})


TRAINING = ([0, 0.001, 0.1], [1, 0.2, 0.15], [8, 0.9, None], [30, 3.0, 0.8], [100, 11.0, 0.97])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", results())


def draw(figure: Any, folder: Path) -> Any:
    with style():
        return figure(FinishedRun.read(folder))


@pytest.mark.parametrize(("figure", "paper"), [(draw_latents, "3c"), (draw_paths, "4a"), (draw_pace, "7")])
def test_axes_are_labelled_and_captions_carry_the_setting(folder: Path, figure: Any, paper: str):
    write_points(folder)
    write_training(folder, *TRAINING)
    plot = draw(figure, folder)
    assert unlabelled(plot.figure) == [] and plot.paper == paper
    assert all(part in plot.caption for part in SETTING)


def test_the_map_has_three_groups_and_says_what_noise(folder: Path):
    write_points(folder)
    plot = draw(draw_latents, folder)
    assert {len(line.get_xdata()) for line in plot.figure.axes[0].get_lines()} == {180, 100}
    for words in ("originals (180)", "originals + noise (180)", "samples of p-diff (100)"):
        assert words in texts(plot.figure)
    assert (
        "180 of the 200 originals" in plot.caption
        and "noise of 0.1 of the latents’ deviation" in plot.caption
    )
    assert "128 dimensions" in plot.caption and "contraction 0.7, temperature 1" in plot.caption


def test_paths_end_in_samples_and_come_near_the_originals(folder: Path):
    write_points(folder)
    plot = draw(draw_paths, folder)
    plane, approach = plot.figure.axes
    paths = [line for line in plane.get_lines() if len(line.get_xdata()) == 6]
    ends = [line for line in plane.get_lines() if line.get_marker() == "^"]
    assert len(paths) == len(ends) == 5
    assert [line.get_xdata()[-1] for line in paths] == [line.get_xdata()[0] for line in ends]
    assert approach.get_ylim()[0] == 0 and "5 starting noises, decoded at 6 points" in plot.caption
    assert "the paper uses t-SNE" in plot.caption


@pytest.mark.parametrize("kept", [True, False], ids=["drawn at once", "nothing kept"])
def test_without_steps_there_is_one_line(folder: Path, kept: bool):
    if kept:
        write_points(folder, paths=False)
    plot = draw(draw_paths, folder)
    assert plot.figure is None and plot.caption.startswith("p-diff does not draw in steps, or")
    assert (draw(draw_latents, folder).figure is not None) == kept


# Time ------------------------------------------------------------------------------------------------


def test_curves_of_time(folder: Path):
    write_points(folder)
    write_training(folder, *TRAINING)
    run = FinishedRun.read(folder)
    metric = Metric.of(run)
    assert training_line(run, metric) == ([0.2, 3.0, 11.0], pytest.approx([15, 80, 97]))
    seconds, scores = drawing_line(run, metric) or ([], [])
    assert seconds == pytest.approx([0.04 * i / 5 for i in range(1, 6)])
    assert scores[-1] == pytest.approx(90)
    assert [(cost.what, cost.seconds) for cost in costs(run)] == [
        ("train one network", 11.0), ("collect K = 200", 14.2), ("fit p-diff", 91.0), ("draw N = 100", 0.04),
    ]  # fmt: skip


def test_time_says_what_drawing_leaves_out(folder: Path):
    write_points(folder)
    write_training(folder, *TRAINING)
    plot = draw(draw_pace, folder)
    assert len(plot.figure.axes) == 2 and plot.figure.axes[1].get_xscale() == "log"
    assert "only once the zoo is collected and the generator fitted: 1 min 45 s here" in plot.caption
    assert "On the test set the originals reach 97.6%, the samples 97.9%" in plot.caption
    for words in ("11 s", "1 min 31 s", "40 ms", "training one network", "drawing 100 from p-diff"):
        assert words in texts(plot.figure)


def test_a_run_that_trained_nothing_says_so(folder: Path):
    write_points(folder)
    plot = draw(draw_pace, folder)
    assert plot.caption.startswith("No network was trained from scratch in this run")
    assert len(plot.figure.axes) == 2 and "train one network" not in texts(plot.figure)


def test_times_alone_are_drawn_alone(folder: Path, tmp_path: Path):
    assert len(draw(draw_pace, folder).figure.axes) == 1
    without = write_run(tmp_path / "without", results(timings_s={"collect": None}))
    assert draw(draw_pace, without).figure is None


# K ---------------------------------------------------------------------------------------------------


def boxes(plot: Any) -> list[tuple[float, float]]:
    """Least and greatest value of each box with its whiskers."""
    axis = plot.figure.axes[0]
    ends = [
        line.get_ydata()
        for line in axis.get_lines()
        if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
    ]
    return [(float(min(low)), float(max(high))) for low, high in zip(ends[::2], ends[1::2])]


def test_similarity_is_drawn_for_every_k_in_order():
    with style():
        plot = draw_counts(
            [(200, [0.5, 0.7, 0.9]), (1, [0.98, 1.0]), (200, [0.4])], note="N = 3, D = 8, seeds 0, 1."
        )
    assert plot.paper == "4b" and unlabelled(plot.figure) == []
    assert [label.get_text() for label in plot.figure.axes[0].get_xticklabels()] == ["1", "200"]
    assert boxes(plot) == [(0.98, 1.0), (0.4, 0.9)], "runs of one K are put together"
    assert "2 at K = 1, 4 at K = 200" in plot.caption and plot.caption.endswith("N = 3, D = 8, seeds 0, 1.")


@pytest.mark.parametrize(
    "points", [[], [(5, [0.5])], [(5, [0.5]), (5, [0.6])], [(5, [0.5]), (9, [float("nan")])]]
)
def test_one_k_makes_no_figure(points: list[Any]):
    plot = draw_counts(points)
    assert plot.figure is None and "Fewer than two different K" in plot.caption
