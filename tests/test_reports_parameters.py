"""Figures of parameters: which of them are read, and what is drawn of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finished_runs import add_scores, results, texts, write_parameters, write_run
from paramdiff.files import save_tensors
from paramdiff.parameters.spec import ParameterSpec, TensorSpec
from paramdiff.reports.figures import shown_parameters
from paramdiff.reports.figures.heat_maps import chosen_first, draw_patterns
from paramdiff.reports.figures.norm_layers import draw_states
from paramdiff.reports.figures.parameter_evolution import LEVELS, draw_training, quantiles
from paramdiff.reports.finished_run import FinishedRun
from paramdiff.reports.plotting import style
from paramdiff.zoo.records import Record
from paramdiff.zoo.zoo import Zoo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_run(tmp_path / "run", results())
    write_parameters(tmp_path / "run")
    return tmp_path / "run"


# Which parameters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("conv.weight", (4, 2, 3, 3), "convolution kernels"),
        ("head.weight", (3, 6), "weight matrices"),
        ("norm.weight", (5,), "norm weights"),
        ("norm.bias", (5,), "norm biases"),
        ("head.bias", (3,), "biases"),
        ("norm.running_mean", (5,), "running means"),
        ("norm.running_var", (5,), "running variances"),
        ("q.lora_A.default", (8, 64), "weight matrices"),
        ("in_proj_weight", (9, 3), "weight matrices"),
        ("in_proj_bias", (9,), "other parameters"),
        ("pos_embed", (1, 5, 8), "other parameters"),
        ("block.gamma", (8,), "other parameters"),
    ],
)
def test_kind_of_a_tensor(name: str, shape: tuple[int, ...], kind: str) -> None:
    base = {"norm.weight": torch.ones(5), "head.weight": torch.ones(3, 6)}
    assert shown_parameters.kind_of(name, shape, base) == kind


def test_a_bias_is_told_from_the_frozen_weight_of_its_layer() -> None:
    base = {"norm.weight": torch.ones(5), "norm.bias": torch.zeros(5), "head.bias": torch.zeros(3)}
    spec = ParameterSpec.from_state_dict({name: v for name, v in base.items() if "bias" in name}, "all")
    zoo = Zoo(torch.zeros(2, 8), spec, base)
    assert shown_parameters.kinds_of(zoo) == {"norm biases": ["norm.bias"], "biases": ["head.bias"]}


@given(st.integers(1, 10**8), st.integers(1, 5000))
def test_spread_reaches_from_end_to_end(total: int, limit: int) -> None:
    found = shown_parameters.spread(total, limit)
    if total <= limit:
        assert found.tolist() == list(range(total))
        return
    assert len(found) <= limit
    assert (found.diff() > 0).all()
    assert int(found[0]) >= 0
    assert int(found[-1]) < total
    if limit >= 2 * shown_parameters.RUN:
        assert (int(found[0]), int(found[-1])) == (0, total - 1)


@given(st.integers(1, 40))
def test_coordinates_are_those_of_the_tensors(limit: int) -> None:
    base = {name: torch.zeros(size) for name, size in (("a", 7), ("b", 11), ("c", 5))}
    zoo = Zoo(torch.zeros(2, 23), ParameterSpec.from_state_dict(base, "all"), base)
    wanted = [*range(7), *range(18, 23)]
    found = shown_parameters.coordinates(zoo, ["a", "c"], limit).tolist()
    assert set(found) <= set(wanted)
    assert found == wanted or len(found) <= limit < len(wanted)


def test_a_zoo_of_many_parameters_is_not_read_as_a_whole(folder: Path) -> None:
    """300 networks of 11 million parameters: 13 GB if anything touched all of them."""
    dim = 11_000_000
    spec = ParameterSpec((TensorSpec("net.weight", (dim // 10, 10), "float32"),))
    zoo = Zoo(torch.ones(1, 1).expand(300, dim), spec, {"net.weight": torch.ones(1, 1).expand(dim // 10, 10)})
    run = FinishedRun.read(folder)
    run.__dict__["zoo"] = zoo
    assert run.zoo is zoo
    save_tensors(folder / "samples/samples.safetensors", {"samples": torch.ones(2, dim)})
    with style():
        drawn = [draw(run).figure for draw in (draw_training, draw_patterns, draw_states)]
    assert all(figure is not None for figure in drawn)


@pytest.mark.parametrize(
    ("records", "trajectory", "name"),
    [
        ([Record(0, 1000), Record(0, 2000)], True, "step 2,000"),
        ([Record(0, 2), Record(0, 1)], True, "member 2"),
        ([Record(3, 9), Record(4, 9)], False, "seed 4"),
        ([Record(), Record()], False, "member 2"),
    ],
)
def test_members_have_names(records: list[Record], trajectory: bool, name: str) -> None:
    base = {"w": torch.zeros(3)}
    spec = ParameterSpec.from_state_dict(base, "all")
    zoo = Zoo(torch.zeros(2, 3), spec, base, records, {"trajectory": trajectory})
    assert shown_parameters.member_name(zoo, 1) == name


def test_scaled_runs_from_least_to_greatest() -> None:
    assert shown_parameters.scaled(torch.tensor([[1.0, 3.0], [2.0, 5.0]])).tolist() == [[0, 0.5], [0.25, 1]]
    assert shown_parameters.scaled(torch.full((2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]


# Along the training ----------------------------------------------------------------------------------


def test_quantiles_are_those_of_each_network() -> None:
    found = quantiles(torch.stack([torch.arange(101.0), torch.zeros(101)]))
    assert torch.allclose(found[:, 0], 100 * torch.tensor(LEVELS))
    assert found[:, 1].tolist() == [0.0] * len(LEVELS)


def test_training_shows_every_kind_against_the_step(folder: Path) -> None:
    with style():
        plot = draw_training(FinishedRun.read(folder))
    written = texts(plot.figure)
    assert plot.title == "How do the parameters move in training?"
    for line in ("convolution kernels (72)", "norm weights (5)", "running variances (5)", "other parameters (4)",
                 "optimiser step", "samples"):  # fmt: skip
        assert line in written
    median = plot.figure.axes[0].lines[0]
    assert median.get_xdata().tolist() == [2 * i + 2 for i in range(12)]
    conv = FinishedRun.read(folder).zoo
    assert conv is not None
    kernel = conv.vectors[:, conv.spec.slices["conv.weight"]]
    assert torch.allclose(torch.tensor(median.get_ydata()), kernel.quantile(0.5, dim=1))


def test_samples_stand_beside_the_training(folder: Path) -> None:
    with style():
        plot = draw_training(FinishedRun.read(folder))
    zoo = FinishedRun.read(folder).zoo
    assert zoo is not None
    kernel = zoo.vectors[-6:, zoo.spec.slices["conv.weight"]]
    assert plot.figure.axes[1].lines[0].get_ydata()[0] == pytest.approx(float(kernel.quantile(0.5, 1).mean()))


def test_seeds_are_no_training(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", results())
    write_parameters(run, trajectory=False)
    with style():
        plot = draw_training(FinishedRun.read(run))
    assert plot.title == "Do the originals differ?"
    assert "original network" in texts(plot.figure)
    assert "optimiser step" not in texts(plot.figure)


# Heat maps -------------------------------------------------------------------------------------------


def test_patterns_show_originals_above_samples(folder: Path) -> None:
    with style():
        plot = draw_patterns(FinishedRun.read(folder))
    axis = plot.figure.axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["step 2", "step 14", "step 24", "sample 0", "sample 1", "sample 2"]
    shown = torch.tensor(axis.images[0].get_array())
    assert (float(shown.min()), float(shown.max())) == (0, 1)
    assert torch.equal(shown[2], shown[3])  # sample 0 is the last member
    assert "conv.weight [4 × 2 × 3 × 3]" in texts(plot.figure)


def test_the_chosen_sample_comes_first(folder: Path) -> None:
    row = FinishedRun.read(folder).main
    assert chosen_first(replace(row, selected={"index": 4}), 6) == [4, 0, 1]
    assert chosen_first(replace(row, selected={"index": None}), 2) == [0, 1]


def test_states_carry_what_is_known_of_each_network(folder: Path) -> None:
    run = FinishedRun.read(folder)
    assert run.zoo is not None
    norms = torch.cat(
        [run.zoo.vectors[-1, run.zoo.spec.slices[f"norm.{name}"]] for name in ("weight", "bias")]
    )
    with style():
        written = texts(draw_states(run).figure)
    assert "first member (step 2)" in written
    assert "average of the 12 members" in written
    assert "sample 0, the chosen one, of p-diff" in written
    score = f"{100 * float(run.main.scores['test'][0]):.1f}%"
    last = f"mean {norms.mean():.3f} · std {norms.std():.3f}"
    assert f"{last} · accuracy {score} · IoU 0.700" in written  # the sample is the last member
    assert written.count(last) == 2
    assert "initial" not in written


def test_states_of_a_row_without_scores(folder: Path) -> None:
    add_scores(folder, "average", test=torch.tensor([torch.nan]))
    (folder / "scores" / "p-diff.safetensors").unlink()
    with style():
        written = texts(draw_states(FinishedRun.read(folder)).figure)
    assert "nan" not in written
    assert written.count("accuracy") == 2


@pytest.mark.parametrize("draw", [draw_training, draw_patterns, draw_states])
def test_without_parameters_a_line_says_why(tmp_path: Path, draw) -> None:
    plot = draw(FinishedRun.read(write_run(tmp_path / "run", results())))
    assert plot.figure is None
    assert "so there " in plot.caption
    assert len(plot.caption) < 100
