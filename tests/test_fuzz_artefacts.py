"""Mutated zoos, generators and run folders: one line, exit code 2 (or a result), nothing lost, within seconds.

Few hundred inputs run with the other tests; ``PARAMDIFF_FUZZ=20000 pytest tests/test_fuzz_artefacts.py`` tries that
many of every kind. A failure names its seed: ``PARAMDIFF_FUZZ_FROM=seed PARAMDIFF_FUZZ=1`` repeats it.
"""

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch

from finished_runs import results, write_parameters, write_run
from hostile import attempt, contents, mutated_file, refused
from paramdiff.cli import main
from paramdiff.errors import ParamdiffError
from paramdiff.files import read_json, save_tensors, write_json, write_text
from paramdiff.generators import make
from paramdiff.generators.generator import Generator
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.reports import page
from paramdiff.reports.figures.time_to_accuracy import costs, training_line
from paramdiff.reports.figures.tradeoff import read_curves
from paramdiff.reports.finished_run import FinishedRun
from paramdiff.reports.formatting import Metric
from paramdiff.reports.plotting import Plot
from paramdiff.runs.manifest import Stage
from paramdiff.runs.run_folder import RunFolder
from paramdiff.runs.summary_table import print_summary
from paramdiff.training import Training
from paramdiff.zoo.records import make_records
from paramdiff.zoo.zoo import Zoo

TRIES, FIRST = int(os.environ.get("PARAMDIFF_FUZZ") or 0), int(os.environ.get("PARAMDIFF_FUZZ_FROM") or 0)

SWEEP = {"schema": 1, "n": 4, "curves": [{"name": "p-diff", "label": "p-diff", "knob": "temperature", "points": [
    {"value": v, "n": 4, "within": 0.8 + v / 10, "test_mean": 0.9, "test_std": 0.01, "test_median": 0.9,
     "test_ci95": [0.8, 0.95], "to_zoo_mean": 0.7, "to_zoo_max_mean": 0.8} for v in (0.0, 0.5, 1.0)]}]}  # fmt: skip
TRAINING = {"items": 100, "points": [[0, 0.1, 0.1], [1, 0.2, 0.5], [4, 0.9, None], [9, 1.5, 0.8]]}
SMALL = {
    "autoencoder": {"latent": 4, "channels": [4], "strides": [4], "steps": 2},
    "diffusion": {"steps": 2, "width": 8},
    "reconstruction_check": {"action": "off"},
}
SECONDS = {"collect": 14.2, "fit": 91.0, "sample": 0.04, "total": 105.3}
SETTINGS = {
    "seed": 0,
    "zoo": {"kind": "Subset", "k": 12},
    "generator": {"kind": "ParameterDiffusion", "lr": 0.1},
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a file of every kind; tiny, and made without training a network."""
    folder = tmp_path_factory.mktemp("original") / "run"
    write_run(folder, results(generator="p-diff", timings_s=SECONDS))
    zoo = write_parameters(folder)
    make("p-diff", **SMALL).fit(zoo).save(folder / "generator")
    make("gaussian").fit(zoo).save(folder / "baselines" / "gaussian" / "generator")
    write_json(folder / "sweep.json", SWEEP)
    write_json(folder / "evaluation" / "training.json", TRAINING)
    save_tensors(
        folder / "evaluation" / "latents.safetensors", {"map.samples": torch.zeros(3, 2)}, {"items": "100"}
    )
    with RunFolder(folder.with_name("other"), SETTINGS).opened() as run:
        for name, made in (("collect", ["a.json"]), ("fit", ["b.json"])):
            work = lambda scratch, made=made: write_json(run.path / made[0], 1)
            run.run(Stage(name, {"a": 1}, [], made, work))
    shutil.copy(folder.with_name("other") / "manifest.json", folder)
    return folder


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


# --- what reads which file ---------------------------------------------------------------------------------


@cache
def report_template() -> Any:
    return page.template("report.html.j2")


def read_page(run: Path) -> None:
    """All that the page says in words, and the numbers of two figures."""
    found = FinishedRun.read(run)
    report_template().render(page.view(found), plots=[FIGURE], more={}, drawings={})
    metric = Metric.of(found)
    read_curves(found, metric), training_line(found, metric), costs(found), found.zoo


def load_zoo(run: Path) -> None:
    zoo = Zoo.load(run / "zoo")
    zoo.require_usable()
    zoo.state_dict(zoo.vectors[0])
    repr(zoo), zoo.trajectory, zoo.conditions if hasattr(zoo, "conditions") else None


def load_generator(run: Path) -> None:
    Generator.load(run / "generator").sample(1)


def load_baseline(run: Path) -> None:
    Generator.load(run / "baselines" / "gaussian" / "generator").sample(1)


def open_run(run: Path) -> None:
    with RunFolder(run, SETTINGS).opened() as folder:
        for name, made in (("collect", ["a.json"]), ("fit", ["b.json"])):
            folder.run(
                Stage(name, {"a": 1}, [], made, lambda scratch, made=made: write_json(run / made[0], 1))
            )
        folder.seconds("fit"), folder.peak_rss_bytes()


def summarise(run: Path) -> None:
    print_summary(run)


READERS: dict[str, tuple[list[str], list[Callable[[Path], None]]]] = {
    "results": (["results.json"], [read_page, summarise]),
    "manifest": (["manifest.json"], [open_run]),
    "zoo": (["zoo/manifest.json", "zoo/manifest.json", "zoo/vectors.safetensors", "zoo/base.safetensors"], [load_zoo]),
    "generator": (["generator/config.json", "generator/model.safetensors"], [load_generator]),
    "baseline": (["baselines/gaussian/generator/config.json",
                  "baselines/gaussian/generator/model.safetensors"], [load_baseline]),
    "extras": (["stats.jsonl", "config.yaml", "sweep.json", "evaluation/training.json",
                "evaluation/latents.safetensors", "scores/p-diff.safetensors",
                "scores/original.safetensors"], [read_page]),
}  # fmt: skip
FIGURE = Plot("front", "A figure", "without a drawing")
USUAL = {"results": 80, "manifest": 100, "zoo": 140, "generator": 60, "baseline": 50, "extras": 60}
"""Inputs of each kind in ``make test``."""


@pytest.mark.parametrize("kind", READERS)
def test_mutated_files_are_read_or_refused_in_one_line(kind: str, run: Path):
    files, readers = READERS[kind]
    wrong: list[str] = []
    for seed in range(FIRST, FIRST + (TRIES or USUAL[kind])):
        rng = random.Random(seed)
        file = run / rng.choice(files)
        sound = file.read_bytes()
        file.write_bytes(mutated_file(file, rng))
        kept = contents(run) if kind != "manifest" else {}
        wrong += [f"{seed} {file.name} {read.__name__}: {said}" for read in readers
                  if (said := refused(partial(read, run), ParamdiffError))]  # fmt: skip
        if kept != (contents(run) if kind != "manifest" else {}):
            wrong.append(f"{seed} {file.name}: files were changed by reading")
        file.write_bytes(sound)
    assert not wrong, "\n".join([f"{len(wrong)} of them:", *wrong[:40]])


def test_mutated_runs_on_the_command_line(
    run: Path, original: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """``compare`` (without drawing) and ``inspect``, the manifest's own hash taken out so that it is read."""
    monkeypatch.setattr(
        "paramdiff.runs.compare_command.write_comparison", lambda gathered, out, command: out / "x.html"
    )
    manifest = read_json(run / "zoo" / "manifest.json")
    del manifest["sha256"]["manifest"]
    write_json(run / "zoo" / "manifest.json", manifest)
    files = ["results.json", "results.json", "manifest.json", "generator/config.json", "zoo/manifest.json"]
    wrong: list[str] = []
    for seed in range(FIRST, FIRST + (TRIES or 60)):
        rng = random.Random(seed)
        file = run / rng.choice(files)
        sound = file.read_bytes()
        file.write_bytes(mutated_file(file, rng))
        mutated = contents(run)
        words = ["inspect", str(run)] if file.parent.name == "zoo" else ["compare", str(run), str(original)]
        said = attempt(words, capsys)
        if said or contents(run) != mutated:
            wrong.append(f"{seed} {file.name}: {said or 'files were changed'}")
        file.write_bytes(sound)
    assert not wrong, "\n".join([f"{len(wrong)} of them:", *wrong[:40]])


# --- single cases ------------------------------------------------------------------------------------------


def test_a_whole_page_of_a_damaged_run(run: Path, monkeypatch: pytest.MonkeyPatch):
    """Figures of what is damaged stay away; the rest of the page is there."""
    for name in (
        "evaluation/latents.safetensors",
        "evaluation/training.json",
        "sweep.json",
        "scores/p-diff.safetensors",
    ):
        (run / name).write_bytes((run / name).read_bytes()[:-30])
    save_tensors(run / "samples" / "samples.safetensors", {"samples": torch.zeros(2)})
    text = page.render(run).read_text()
    assert "This figure cannot be drawn from what the run folder holds." in text and "p-diff" in text


def test_pipes_devices_and_folders_in_place_of_files(run: Path):
    for name, read in (("results.json", read_page), ("zoo/manifest.json", load_zoo),
                       ("generator/config.json", load_generator), ("manifest.json", open_run)):  # fmt: skip
        sound = (run / name).read_bytes()
        for put in (
            os.mkfifo,
            lambda path: path.mkdir(),
            lambda path: path.symlink_to("/dev/zero"),
        ):
            (run / name).unlink()
            put(run / name)
            with pytest.raises(ParamdiffError):
                read(run)
            (run / name).rmdir() if (run / name).is_dir() else (run / name).unlink()
            (run / name).write_bytes(sound)


def test_a_file_of_a_gigabyte_is_not_read(tmp_path: Path):
    with (tmp_path / "results.json").open("wb") as file:
        file.truncate(1 << 30)
    assert not refused(lambda: FinishedRun.read(tmp_path), ParamdiffError)
    with pytest.raises(ParamdiffError, match=r"has 1,074 MB; expected at most 67 MB"):
        read_json(tmp_path / "results.json")


@pytest.mark.parametrize("content", ["", "   ", "{", "[]", "{}", "null"])
def test_a_run_folder_with_a_damaged_manifest_says_how_to_go_on(run: Path, content: str):
    write_text(run / "manifest.json", content)
    with pytest.raises(ParamdiffError, match=r"manifest.json.*zoo=import zoo.path=.*/zoo run_dir=.*run-2"):
        RunFolder(run, SETTINGS)
    (run / "manifest.json").unlink()
    with pytest.raises(
        ParamdiffError, match=r"no manifest.json; .*zoo=import zoo.path=.*/zoo run_dir=.*run-2"
    ):
        RunFolder(run, SETTINGS)
    shutil.rmtree(run / "zoo")
    with pytest.raises(ParamdiffError, match=r"choose another run_dir$"):
        RunFolder(run, SETTINGS)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_a_zoo_without_a_sound_manifest_says_what_to_do(
    run: Path, content: str | None, capsys: pytest.CaptureFixture[str]
):
    (run / "zoo" / "manifest.json").unlink()
    if content is not None:
        write_text(run / "zoo" / "manifest.json", content)
    for path in (run, run / "zoo"):
        assert main(["inspect", str(path)]) == 2
        assert re.search(
            r"paramdiff: error: .*zoo.*(copy the zoo again|version of paramdiff)", capsys.readouterr().err
        )


@pytest.mark.parametrize("content", ["", "{", "[]", '{"items": 1}', '{"items": 1, "points": [[1]]}'])
def test_a_damaged_curve_of_the_training_heals(tmp_path: Path, content: str):
    def collected() -> RunFolder:
        folder = RunFolder(tmp_path / "run", SETTINGS)
        with folder.opened():
            folder.run(Stage("collect", {}, [], ["a.json"], work))
        return folder

    def work(scratch: Path) -> None:
        write_json(tmp_path / "run" / "a.json", 1)
        write_json(tmp_path / "run" / "evaluation" / "training.json", TRAINING)

    collected()
    write_text(tmp_path / "run" / "evaluation" / "training.json", content)
    collected()
    assert read_json(tmp_path / "run" / "evaluation" / "training.json") == TRAINING


def test_a_generator_may_not_ask_for_terabytes(run: Path):
    """Sizes in its settings and in its state, before memory is taken."""
    path = run / "generator" / "config.json"
    sound = path.read_text()
    for part, key, size in (
        ("diffusion", "width", 10**6), ("autoencoder", "latent", 10**6), ("autoencoder", "channels", [10**6]),
    ):  # fmt: skip
        about = json.loads(sound)
        about["settings"][part][key] = size
        write_json(path, about)
        assert not refused(lambda: Generator.load(run / "generator"), ParamdiffError)
        with pytest.raises(ParamdiffError):
            Generator.load(run / "generator")


@pytest.mark.parametrize("name", ["seed_99999999999999999999999.pt", "step_1\udcff.pt"])
def test_what_is_saved_can_be_loaded(name: str, tmp_path: Path):
    """Numbers beyond 64 bits and names that are no text come from file names."""
    found = make_records([tmp_path / name])
    base = {"w": torch.zeros(3)}
    Zoo(torch.zeros(1, 3), ParameterSpec.from_state_dict(base), base, found, {"source": name}).save(
        tmp_path / "zoo"
    )
    Zoo.load(tmp_path / "zoo")


def test_a_damaged_state_of_a_training_is_named_with_what_to_do(tmp_path: Path):
    save_tensors(tmp_path / "state.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(ParamdiffError, match=r"state.safetensors is a damaged state .*remove it"):
        Training("net", 3, {}, tmp_path / "state.safetensors")
