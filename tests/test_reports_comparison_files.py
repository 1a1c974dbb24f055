"""Runs beside each other: which settings differ, which runs are one line, the files and the figure."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from finished_runs import model, regression, results, text_of, texts, unlabelled, write_run
from paramdiff.errors import ConfigError, RunFolderError
from paramdiff.files import read_json, write_json
from paramdiff.reports import plotting
from paramdiff.reports.comparison_files import table, to_csv, to_markdown, write_comparison
from paramdiff.reports.figures.settings_sweep import draw_swept, swept_key
from paramdiff.reports.run_comparison import Gathered, gather
from paramdiff.reports.varied_settings import differing, short_names

SETTINGS: dict[str, Any] = {
    "name": "digits", "seed": 0, "n": 100, "task": {"kind": "ImageTask", "data": "digits"},
    "zoo": {"kind": "Subset", "k": 200, "lr": 0.02, "seed": 0},
    "generator": {"kind": "ParameterDiffusion", "latent_noise": 0.1, "lr": 1e-3, "seed": 0, "device": "auto"},
    "compare": {"gaussian": {"kind": "Gaussian", "scale": 1.0}},
}  # fmt: skip


def with_(settings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Changed settings; ``generator__latent_noise=0`` goes one level down, a seed goes everywhere."""
    made = json.loads(json.dumps(settings))
    for key, value in changes.items():
        group, _, inner = key.rpartition("__")
        (made[group] if group else made)[inner] = value
        if key == "seed":
            made["zoo"]["seed"] = made["generator"]["seed"] = value
    return made


def run(folder: Path, found: dict[str, Any] | None = None, **changes: Any) -> Path:
    write_run(folder, found or results(), curves=False)
    stages = {"fit": {"seconds": 4.0}, "compare:gaussian:fit": {"seconds": 0.5}}
    write_json(folder / "manifest.json", {"settings": with_(SETTINGS, **changes), "stages": stages})
    return folder


def scoring(mean: float) -> dict[str, Any]:
    return results(model("original", 0.9), model("gaussian", 0.8), model("p-diff", mean))


@pytest.fixture
def noises(tmp_path: Path) -> Gathered:
    """Two values, one of them from two seeds."""
    return gather([
        run(tmp_path / "a", scoring(0.96), generator__latent_noise=0.1),
        run(tmp_path / "b", scoring(0.90), generator__latent_noise=0.0),
        run(tmp_path / "c", scoring(0.94), generator__latent_noise=0.0, seed=1),
    ])  # fmt: skip


# --- what differs --------------------------------------------------------------------------------------


def test_seeds_are_one_line_with_mean_and_deviation(noises: Gathered):
    assert noises.keys == {"generator.latent_noise": "latent_noise"}
    assert [line.settings["generator.latent_noise"] for line in noises.lines] == [0.0, 0.1]
    both, one = noises.lines
    assert both.spread("test_mean") == (pytest.approx(0.92), pytest.approx(0.02 * 2**0.5))
    assert one.spread("test_mean") == (pytest.approx(0.96), None)
    assert [source.seed for source in both.sources] == [0, 1]
    assert both.verdicts == {"interpolation": 2} and both.spread("fit_s")[0] == 4.0
    assert noises.originals(both, "test_mean") == pytest.approx(0.9)


def test_a_run_that_repeats_another_is_no_second_seed(tmp_path: Path):
    twice = gather([run(tmp_path / "a", seed=3), run(tmp_path / "b", seed=3)])
    assert len(twice.lines) == 1 and [s.run.folder.name for s in twice.lines[0].sources] == ["a"]
    assert twice.keys == {} and not twice.replicated


def test_names_explain_what_follows_from_them():
    runs: list[dict[str, Any]] = [
        {"generator": "vae", "generator.width": 64, "generator.noise": 0.0, "n": 5, "zoo.k": 10},
        {"generator": "p-diff", "generator.width": 256, "generator.noise": 0.0, "n": 5, "zoo.k": 10},
        {"generator": "p-diff", "generator.width": 256, "generator.noise": 0.1, "n": 5, "generator.new": 1},
    ]
    assert differing(runs) == ["generator", "generator.noise"]
    named = [
        {"experiment": "a", "zoo.k": 1},
        {"experiment": "b", "zoo.k": 2},
        {"experiment": "b", "zoo.k": 3},
    ]
    assert differing(named) == ["experiment", "zoo.k"] and differing(named[:2]) == ["experiment"]


def test_settings_of_baselines_count_only_alone():
    base = {"zoo.k": 1, "compare.gaussian.scale": 1.0}
    assert differing([base, base | {"compare.gaussian.scale": 2.0}]) == ["compare.gaussian.scale"]
    assert differing([base, {"zoo.k": 2, "compare.gaussian.scale": 2.0}]) == ["zoo.k"]


def test_short_names_stay_apart():
    assert short_names(["zoo.lr", "generator.lr", "zoo.pretrain.lr", "n"]) == {
        "zoo.lr": "zoo.lr", "generator.lr": "generator.lr", "zoo.pretrain.lr": "pretrain.lr", "n": "n",
    }  # fmt: skip


def test_lines_are_in_natural_order(tmp_path: Path):
    values = ["a10", "a9", None, 2, 10, 1e-3]
    runs = [run(tmp_path / str(i), generator__latent_noise=value) for i, value in enumerate(values)]
    found = [line.settings["generator.latent_noise"] for line in gather(runs).lines]
    assert found == [None, 1e-3, 2, 10, "a9", "a10"]


# --- rows ----------------------------------------------------------------------------------------------


def test_any_row_and_all_of_them(tmp_path: Path):
    runs = [run(tmp_path / "a", zoo__k=10), run(tmp_path / "b", zoo__k=50)]
    gaussian = gather(runs, "gaussian")
    assert [line.row for line in gaussian.lines] == ["gaussian"] * 2
    assert gaussian.lines[0].spread("fit_s")[0] == 0.5 and gaussian.lines[0].verdicts == {}
    everything = gather(runs, "all")
    assert [line.row for line in everything.lines] == ["original", "average", "gaussian", "p-diff"] * 2
    assert list(everything.columns.values()) == ["k", "row"]
    with pytest.raises(ConfigError, match=r"^--row: no run has a row 'gausian'; did you mean gaussian"):
        gather(runs, "gausian")


def test_runs_that_do_not_fit_together(tmp_path: Path):
    accuracy, error = run(tmp_path / "a"), run(tmp_path / "b", regression())
    with pytest.raises(
        RunFolderError, match=r"b is scored by mean_squared_error; expected accuracy as in .*a; "
    ):
        gather([accuracy, error])


def test_what_is_no_finished_run(tmp_path: Path):
    with pytest.raises(RunFolderError, match=r"nowhere is no folder; expected a finished run folder"):
        gather([tmp_path / "nowhere"])
    with pytest.raises(RunFolderError, match=r"results.json does not exist; expected a finished run folder"):
        gather([tmp_path])
    bare = write_run(tmp_path / "bare", results())
    with pytest.raises(
        RunFolderError, match=r"bare/manifest.json does not exist; expected a run folder with its"
    ):
        gather([bare])


# --- files ---------------------------------------------------------------------------------------------


def test_the_table_in_markdown(noises: Gathered):
    head, rule, first, second = to_markdown(noises).splitlines()
    assert head.startswith(
        "| latent_noise | runs | originals | best | mean | median | worst | selected | within |"
    )
    assert set(rule) <= set("|- ")
    assert (
        first.startswith("| 0 | 2 | 90.0 ± 0.0 | 93.0 ± 2.8 | 92.0 ± 2.8 |")
        and "| 4.0 s | interpolation |" in first
    )
    assert second.startswith("| 0.1 | 1 | 90.0 | 97.0 | 96.0 |")


def test_numbers_for_programs(noises: Gathered, tmp_path: Path):
    write_comparison(noises, tmp_path / "out")
    found = read_json(tmp_path / "out/comparison.json")
    assert found["schema"] == 1 and found["metric"] == "accuracy" and found["row"] == "main"
    assert found["columns"] == [{"key": "generator.latent_noise", "name": "latent_noise"}]
    first = found["lines"][0]
    assert first["settings"] == {"generator.latent_noise": 0.0} and first["seeds"] == [0, 1]
    assert first["test_mean"]["mean"] == pytest.approx(0.92) and first["within"] == {
        "mean": 0.898,
        "std": 0.0,
    }
    (read, other) = csv.DictReader(io.StringIO(to_csv(noises)))
    assert read["latent_noise"] == "0.0" and float(read["test_mean_std"]) == first["test_mean"]["std"]
    assert other["test_mean_std"] == "" and other["verdict"] == "interpolation" and other["runs"] == "1"


def test_the_page_holds_everything_and_asks_for_nothing(noises: Gathered, tmp_path: Path):
    page = write_comparison(noises, tmp_path / "out", "paramdiff compare a b c").read_text()
    shown = text_of(page)
    assert "digits by latent_noise" in shown and "92.0 ± 2.8" in shown and "paramdiff compare a b c" in shown
    assert "<script" not in page and not re.search(r'(src|href)="(?!#)', page)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "comparison.csv", "comparison.html", "comparison.json", "comparison.md", "comparison.png", "comparison.svg",
    ]  # fmt: skip
    assert write_comparison(noises, tmp_path / "again", "paramdiff compare a b c").read_text() == page


def test_k_brings_the_papers_figure(tmp_path: Path):
    by_k = gather([run(tmp_path / str(k), results(zoo={"k": k, "dim": 9}), zoo__k=k) for k in (10, 50)])
    page = write_comparison(by_k, tmp_path / "out").read_text()
    assert "Figure 4b of the paper." in text_of(page) and (tmp_path / "out/counts.svg").is_file()


def test_nothing_differs(tmp_path: Path):
    alone = gather([run(tmp_path / "a")])
    page = write_comparison(alone, tmp_path / "out").read_text()
    assert "<svg" not in page and "97.9" in page and not (tmp_path / "out/comparison.svg").exists()
    assert table(alone)[0][0] == "originals"


def test_a_task_without_mistakes(tmp_path: Path):
    runs = [run(tmp_path / str(k), regression(), zoo__k=k) for k in (10, 50)]
    found = gather(runs)
    assert "within" not in table(found)[0] and "verdict" not in table(found)[0]
    with plotting.style():
        plot = draw_swept(found)
    assert len(plot.figure.axes) == 1 and plot.caption.startswith("Down is better in the score.")


# --- the figure ----------------------------------------------------------------------------------------


def drawn(gathered: Gathered) -> Any:
    with plotting.style():
        return draw_swept(gathered).figure


def test_numbers_are_joined_and_names_are_not(noises: Gathered, tmp_path: Path):
    figure = drawn(noises)
    assert not unlabelled(figure) and "latent noise" in texts(figure)
    (line, *_) = [bar[0] for bar in figure.axes[0].containers]
    assert line.get_linestyle() == "-" and list(line.get_ydata()) == pytest.approx([92, 96])
    names = [run(tmp_path / f"n{i}", generator__norm=norm) for i, norm in enumerate(("group", "none"))]
    figure = drawn(gather(names))
    assert figure.axes[0].containers[0][0].get_linestyle() == "None"
    assert {"group", "none"} <= set(texts(figure).splitlines())


def test_two_settings_are_an_axis_and_a_legend(tmp_path: Path):
    runs = [
        run(tmp_path / f"{k}{norm}", zoo__k=k, generator__norm=norm)
        for k in (10, 50, 200)
        for norm in ("a", "b")
    ]
    found = gather(runs)
    assert swept_key(found, found.lines) == "zoo.k"
    shown = texts(drawn(found)).splitlines()
    assert {"norm = a", "norm = b", "k", "10", "50", "200"} <= set(shown)


@pytest.mark.parametrize(
    ("values", "scale"), [((0, 1e-3, 1), "symlog"), ((1, 1000), "log"), ((0.5, 1), "linear")]
)
def test_the_axis_follows_the_values(tmp_path: Path, values: tuple[float, ...], scale: str):
    runs = [run(tmp_path / f"r{i}", generator__latent_noise=value) for i, value in enumerate(values)]
    assert drawn(gather(runs)).axes[-1].get_xscale() == scale
