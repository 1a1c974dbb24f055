"""What holds for every figure, and the figure of how alike networks are."""

from pathlib import Path
from typing import Any

import pytest
import torch

from finished_runs import add_scores, model, results, texts, undrawn, unlabelled, write_parameters, write_run
from paramdiff.reports import page
from paramdiff.reports.figures.similarity_matrix import draw_alike, pairs
from paramdiff.reports.figures.similarity_scatter import draw_similarity
from paramdiff.reports.finished_run import FinishedRun
from paramdiff.reports.plotting import save, style

DRAW = [draw for group in page.FIGURES.values() for draw in group]


def similar(n: int, m: int) -> torch.Tensor:
    """A made-up matrix of similarities in half precision, 1 on the diagonal."""
    found = 0.5 + 0.4 * torch.rand(n, m, generator=torch.Generator().manual_seed(0))
    return found.fill_diagonal_(1).half()


def write_full(folder: Path, found: dict[str, Any], k: int, n: int) -> Path:
    """A run folder with everything in it that figures show."""
    write_run(folder, found)
    write_parameters(folder, k)
    add_scores(folder, "original", iou_within=similar(k, k))
    add_scores(folder, "p-diff", iou_within=similar(n, n), iou_between=similar(n, k))
    return folder


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return page.render(folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = results(model("original", 0.976, 20), model("average", 0.981, 1), model("p-diff", 0.979, 10))
    return write_full(tmp_path_factory.mktemp("runs") / "run", found, 20, 10)


# Every figure ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", DRAW, ids=lambda draw: draw.__name__)
def test_axes_are_labelled_and_captions_carry_the_setting(folder: Path, draw: Any) -> None:
    with style():
        plot = draw(FinishedRun.read(folder))
    if plot.figure is None:
        assert plot.caption
        return
    assert unlabelled(plot.figure) == []
    assert plot.title
    for number in ("K = 200", "N = 10", "D = 2,048", "seed 7"):
        assert number in plot.caption.replace("\u00a0", " ")


def test_names_of_figures_differ(folder: Path) -> None:
    with style():
        names = [draw(FinishedRun.read(folder)).name for draw in DRAW]
    assert len(names) == len(set(names))


def test_figures_of_the_paper_are_on_the_page_and_files(folder: Path, html: str) -> None:
    more = html[html.index("<h2>More figures</h2>") :]
    for name, paper in (("alike", "3a"), ("training", "1"), ("patterns", "5"), ("states", "6b")):
        assert (folder / "figures" / f"{name}.svg").is_file()
        assert (folder / "figures" / f"{name}.png").is_file()
        assert f"After Figure {paper} of the paper." in more
    for name, paper in (("scores", "6a"), ("similarity", "3b")):
        assert (folder / "figures" / f"{name}.png").is_file()
        assert f"After Figure {paper} of the paper." in html[: html.index("<h2>More figures</h2>")]


def test_what_could_not_be_drawn_is_said(tmp_path: Path) -> None:
    with undrawn():
        html = page.render(write_run(tmp_path / "run", results())).read_text(encoding="utf-8")
    assert (
        '<p class="aside">This run folder holds no zoo, so there is no figure of its parameters.</p>' in html
    )
    assert "<h3>Parameters</h3>" not in html
    assert "<h3>Training</h3>" in html


def test_figures_with_pictures_give_the_same_bytes(folder: Path, html: str) -> None:
    files = [folder / "report.html", *sorted((folder / "figures").iterdir())]
    before = [file.read_bytes() for file in files]
    page.render(folder)
    assert [file.name for file in files if file.read_bytes() != before[files.index(file)]] == []


def test_a_page_of_many_networks_is_light(tmp_path: Path) -> None:
    others = [model(f"g{i}", 0.97, 200) for i in range(14)]
    found = results(model("original", 0.976, 200), *others, model("p-diff", 0.979, 200))
    path = page.render(write_full(tmp_path / "run", found, 200, 200))
    assert path.stat().st_size < 1_500_000
    assert (tmp_path / "run/figures/similarity.svg").stat().st_size < 250_000


def test_few_networks_stay_shapes(folder: Path, tmp_path: Path) -> None:
    def pictures(run: Path) -> int:
        return save(draw_similarity(FinishedRun.read(run)), tmp_path).count("<image")

    many = write_run(tmp_path / "many", results(model("original", 0.9, 1000), model("p-diff", 0.9, 1000)))
    with style():
        assert pictures(folder) == 0
        assert pictures(many) > 0


# How alike -------------------------------------------------------------------------------------------


def test_pairs_are_counted_once_and_without_themselves(folder: Path) -> None:
    found = {name: values for name, (values, _) in pairs(FinishedRun.read(folder)).items()}
    assert [(name, len(values)) for name, values in found.items()] == [
        ("among originals", 190), ("among samples", 45), ("samples and originals", 200),
        ("samples, nearest original", 10), ("originals, nearest other", 20),
    ]  # fmt: skip
    assert float(found["among originals"].max()) < 1
    above = similar(20, 20).double()[tuple(torch.triu_indices(20, 20, 1))]
    assert torch.equal(found["among originals"].sort().values, above.sort().values)


def test_nearest_is_found_where_it_was_not_kept(folder: Path, tmp_path: Path) -> None:
    gone = {"within": None, "to_zoo_mean": None, "to_zoo_max_mean": None}
    run = write_run(tmp_path / "run", results(model("original", 0.9, 3, similarity=gone),
                                              model("p-diff", 0.9, 2, similarity=gone)))  # fmt: skip
    between = torch.tensor([[0.25, 0.5, torch.nan], [0.75, 0.125, 0.5]]).half()
    add_scores(run, "p-diff", iou_between=between)
    found = pairs(FinishedRun.read(run))
    assert found["samples, nearest original"][0].tolist() == [0.5, 0.75]
    assert found["samples and originals"][0].tolist() == [0.25, 0.5, 0.75, 0.125, 0.5]
    assert "among samples" not in found


def test_alike_says_the_means(folder: Path) -> None:
    with style():
        plot = draw_alike(FinishedRun.read(folder))
    mean = float(similar(10, 20).double().mean())
    assert f"samples and originals: mean {mean:.3f}" in texts(plot.figure)
    assert "the 20 originals and the 10 samples of p-diff" in plot.caption


@pytest.mark.parametrize(("similarity", "why"), [(True, "were not kept"), (False, "has no sets of mistakes")])
def test_alike_without_matrices(tmp_path: Path, similarity: bool, why: str) -> None:
    gone = (
        {} if similarity else {"similarity": {"within": None, "to_zoo_mean": None, "to_zoo_max_mean": None}}
    )
    run = write_run(
        tmp_path / "run", results(model("original", 0.9, 3, **gone), model("p-diff", 0.9, 2, **gone))
    )
    plot = draw_alike(FinishedRun.read(run))
    assert plot.figure is None
    assert why in plot.caption


def test_fine_tuned_and_noised_rows_are_told_apart(tmp_path: Path) -> None:
    rows = [
        model(name, 0.97, 5) for name in ("original", "p-diff", "noised-0.01", "noised-0.1", "fine-tuned")
    ]
    with style():
        plot = draw_similarity(FinishedRun.read(write_run(tmp_path / "run", results(*rows))))
    legend = plot.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [f"{row['name']} (5)" for row in rows]
    looks = {(handle.get_marker(), handle.get_markerfacecolor()) for handle in legend.legend_handles}
    assert len(looks) == 5
