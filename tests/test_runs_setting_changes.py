"""Other settings in the same folder: what they touch is redone, the rest is kept; zoos too small are refused first."""

import shutil
from pathlib import Path

import pytest

from finished_runs import QUICK_FIT
from paramdiff.cli import main
from paramdiff.errors import ConfigError, RunFolderError
from paramdiff.files import read_json
from paramdiff.runs import pipeline
from paramdiff.runs.config import build
from paramdiff.runs.configured import plan_of
from paramdiff.runs.launch import composed
from paramdiff.runs.pipeline import ORDER, Pipeline
from paramdiff.runs.setting_changes import ChangedStages, refusal

TINY = [
    "zoo.k=6", "zoo.pretrain.epochs=1", "n=5", *QUICK_FIT, "compare=none",
    "+generator@compare.average=average", "+generator@compare.noise=noised",
]  # fmt: skip
ZOO, MAIN = ["zoo/vectors.safetensors"], ["generator/model.safetensors"]
SAMPLES, SCORES = ["samples/samples.safetensors"], ["scores/p-diff.safetensors"]
BASELINE = [f"baselines/average/{name}" for name in (*MAIN, *SAMPLES)]


def begun(folder: Path, *words: str, force: bool = False) -> Pipeline:
    force_word = ["force=true"] if force else []
    config = build(composed(["name=digits", f"run_dir={folder}", *TINY, *words, *force_word]))
    return Pipeline(plan_of(config))


def go(folder: Path, *words: str, force: bool = False) -> list[str]:
    """All stages but the report; returns what was said of other settings."""
    said: list[str] = []
    run = begun(folder, *words, force=force)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "say", said.append)
        for group in ORDER[:5]:
            run.run(group)
    return [line.strip() for line in said if "other settings" in line]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("changes") / "r"
    assert go(path) == []
    return path


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "r")  # with the times of the files


def times(folder: Path) -> dict[str, int]:
    names = [*ZOO, *MAIN, *SAMPLES, *SCORES, *BASELINE, "scores/original.safetensors"]
    return {name: (folder / name).stat().st_mtime_ns for name in names}


def redone(folder: Path, before: dict[str, int]) -> list[str]:
    return [name for name, time in times(folder).items() if time != before[name]]


def rows(folder: Path) -> dict[str, int]:
    return {row["name"]: row["n"] for row in read_json(folder / "results.json")["models"]}


def test_other_settings_redo_what_they_touch_and_keep_the_rest(folder: Path):
    before = times(folder)
    (said,) = go(folder, "compare.noise.amplitude=0.5", "+generator@compare.gaussian=gaussian")
    assert redone(folder, before) == [], "another baseline touches nothing else"
    assert list(rows(folder)) == ["original", "p-diff", "average", "noised-0.5", "gaussian"]
    assert said == (
        "other settings than before (compare.noise.amplitude, compare.gaussian); "
        "kept: collect, fit, sample, score of the originals, score, map of latents; of average: fit, sample, score; "
        "new: noised-0.5, gaussian; left out: noised-0.3"
    )
    (said,) = go(folder, "n=4")
    assert redone(folder, before) == [*SAMPLES, *SCORES, BASELINE[1]]
    assert rows(folder) == {"original": 6, "p-diff": 4, "average": 4, "noised-0.3": 4}
    assert (
        "redone: sample, score, map of latents; of average, noised-0.3: sample, score; kept: collect, fit, "
        in said
    )
    before = times(folder)
    (said,) = go(folder, "n=4", "generator.diffusion.temperature=0.5")
    assert redone(folder, before) == [*SAMPLES, *SCORES]
    assert (
        "redone: sample, score, map of latents; kept: collect, fit, score of the originals; of average"
        in said
    )


def test_another_run_is_refused_in_one_line_that_says_what_force_redoes(folder: Path):
    before = times(folder)
    words = ["task.model_options={channels: [8, 8]}", "zoo.k=7"]
    with pytest.raises(RunFolderError) as refused:
        begun(folder, *words).run("collect")
    assert str(refused.value) == (
        f"{folder} was made by another configuration (it differs in task.model_options.channels, zoo.k); choose "
        "another run_dir; or add force=true, which redoes collect, fit, sample, score of the originals, score, map of "
        "latents; of average, noised-0.3: fit, sample, score and keeps nothing"
    )
    said = r"redoes fit, sample, score, map of latents and keeps collect, score of the originals; of average, noised"
    with pytest.raises(RunFolderError, match=rf"differs in generator.diffusion.steps.*{said}"):
        begun(folder, "generator.diffusion.steps=6").run("fit")
    assert redone(folder, before) == []
    go(folder, "generator.diffusion.steps=6", force=True)
    assert redone(folder, before) == [*MAIN, *SAMPLES, *SCORES]


def test_numbers_of_different_settings_do_not_meet_in_one_table(folder: Path):
    with pytest.raises(
        RunFolderError, match="^sample in .* run `paramdiff sample` first, or `paramdiff run`"
    ):
        begun(folder, "n=3").run("compare")
    assert rows(folder)["p-diff"] == 5 and read_json(folder / "manifest.json")["settings"]["n"] == 5


def test_a_zoo_too_small_for_a_generator_is_refused_before_anything_is_collected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = [f"run_dir={tmp_path / 'r'}", *TINY, "+generator@compare.mean=average_of_k", "compare.mean.k=7"]
    assert main(["run", *words]) == 2
    said = capsys.readouterr().err
    assert "compare.mean.k: a mean of 7 members; expected at most K = 6; lower it, leave it out, or" in said
    assert not (tmp_path / "r").exists()


def test_a_plug_in_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = begun(tmp_path / "r")

    def require(k: int, dim: int | None = None) -> None:
        raise ConfigError("degree", f"a polynomial through {k} members", expected="more")

    (noise,) = [one.generator for one in run.plan.generators if one.key == "compare.noise"]
    monkeypatch.setattr(noise, "require", require, raising=False)
    with pytest.raises(ConfigError, match="^compare.noise.degree: a polynomial through 6 members"):
        run.run("collect")


def test_the_message_without_anything_done():
    said = str(refusal(Path("r"), ["task.kind"], ChangedStages([], [], [], [])))
    assert said.endswith("which redoes nothing and keeps nothing")
