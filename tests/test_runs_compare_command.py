"""``paramdiff compare RUN RUN ...`` as it is typed."""

from pathlib import Path

import pytest

from paramdiff.cli import main
from paramdiff.files import write_json
from paramdiff.runs.compare_command import find_runs, found_runs
from paramdiff.runs.launch import gathering
from test_reports_comparison_files import run, scoring


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two finished runs with the names that a sweep gives them, and an unfinished one."""
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "runs/digits,zoo.k=99/manifest.json", {"stages": {}})
    return [
        run(tmp_path / f"runs/digits,zoo.k={k}", scoring(mean), zoo__k=k).relative_to(tmp_path)
        for k, mean in ((10, 0.91), (50, 0.95))
    ]


def test_runs_in_one_table(runs: list[Path], capsys: pytest.CaptureFixture[str]):
    assert main(["compare", *map(str, runs)]) == 0
    printed = capsys.readouterr().out
    assert "digits by k" in printed and "91.0" in printed and "95.0" in printed
    assert "runs/comparison-digits-k/comparison.html" in printed
    assert Path("runs/comparison-digits-k/comparison.md").is_file()


def test_a_glob_takes_what_is_finished(runs: list[Path], capsys: pytest.CaptureFixture[str]):
    """And the folder of an earlier comparison is no run."""
    assert main(["compare", "runs/*", "--row", "all", "--out", "here"]) == 0
    assert main(["compare", "runs/digits,zoo.k=*", "--row=gaussian"]) == 0
    assert Path("here/comparison.json").is_file() and Path("runs/comparison-digits-k-gaussian").is_dir()
    assert find_runs("runs/*") == sorted(runs) and "95.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is no folder; expected a finished run folder"),
        (
            ["runs/digits,zoo.k=99"],
            "results.json does not exist; expected a finished run folder; run `paramdiff compare",
        ),
        (["nothing*"], "no finished run matches nothing*; expected paths of finished run folders"),
        (["--row", "all"], "no run to compare; expected paths of finished run folders"),
        (["runs/*", "--row"], "--row: no value; give --row NAME"),
        (["runs/*", "--rows=all"], "--rows: not a flag of compare; expected key=value; did you mean --row"),
        (["runs/*", "--row=p-dif"], "--row: no run has a row 'p-dif'; did you mean p-diff"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, runs: list[Path], capsys: pytest.CaptureFixture[str]
):
    assert main(["compare", *words]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert message in line


def test_settings_still_make_it_a_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", f"run_dir={tmp_path / 'r'}", "compare=none"]) == 2
    assert "needs" in capsys.readouterr().err, "the stage misses the earlier ones"
    assert main(["compare", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "[RUN | key=value ...]" in shown and "--row NAME" in shown and "digits_full" in shown


def test_every_run_counts_once(runs: list[Path]):
    assert found_runs([str(runs[0]), "runs/*"]) == [runs[0], runs[1]]


def test_a_sweep_says_how_its_runs_are_compared(runs: list[Path]):
    assert gathering(runs) == "paramdiff compare runs/digits,zoo.k=10 runs/digits,zoo.k=50", "k=99 is another"
    Path("runs/digits,zoo.k=99").rename("elsewhere")
    assert gathering(runs) == "paramdiff compare 'runs/digits,*'"
