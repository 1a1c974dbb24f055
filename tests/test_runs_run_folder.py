import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from paramdiff.errors import DiskError, RunFolderError
from paramdiff.runs.manifest import Stage, differing_keys
from paramdiff.runs.run_folder import RunFolder


class Recorder:
    """Two stages, b after a, that count how often they work."""

    def __init__(self, path: Path) -> None:
        self.path, self.done = path, []

    def stage(
        self, name: str, settings: object = 0, needs: tuple[str, ...] = (), text: str = "", chain: str = ""
    ) -> Stage:
        def work(scratch: Path) -> None:
            self.done.append(name)
            (self.path / name).write_text(text or name)

        return Stage(name, settings, needs, [name], work, chain=chain)


def run(path: Path, *stages: Stage, settings: dict | None = None) -> None:
    with RunFolder(path, settings or {"k": 1}).opened() as folder:
        for stage in stages:
            folder.run(stage)


def test_unchanged_stages_are_skipped_and_changed_inputs_redo_what_follows(tmp_path: Path):
    r = Recorder(tmp_path)
    run(tmp_path, r.stage("a"), r.stage("b", needs=("a",)))
    run(tmp_path, r.stage("a"), r.stage("b", needs=("a",)))
    assert r.done == ["a", "b"]
    run(tmp_path, r.stage("a", settings=1, text="new"), r.stage("b", needs=("a",)))
    assert r.done == ["a", "b", "a", "b"]
    run(tmp_path, r.stage("a", settings=2, text="new"), r.stage("b", needs=("a",)))
    assert r.done[4:] == ["a"], "b's input has the same content, so b is kept"


def test_what_a_sibling_has_done_is_copied(tmp_path: Path):
    first, second = Recorder(tmp_path / "1"), Recorder(tmp_path / "2")
    run(first.path, first.stage("a"), first.stage("b", 1, needs=("a",)))
    with RunFolder(second.path, {"k": 2}, siblings=[first.path]).opened() as folder:
        folder.run(second.stage("a"))
        folder.run(second.stage("b", 2, needs=("a",)))
    assert second.done == ["b"], "a has the same settings, b has others"
    assert (second.path / "a").read_text() == "a"
    stages = [json.loads((r.path / "manifest.json").read_text())["stages"]["a"] for r in (first, second)]
    assert stages[0] == stages[1], "with the time that it took"
    run(second.path, second.stage("a"), settings={"k": 2})
    assert second.done == ["b"], "and kept from then on"


def test_the_subfolder_of_the_version_before_is_recognised_and_renamed(tmp_path: Path):
    name, own, later = "evaluation/latents", Recorder(tmp_path / "1"), Recorder(tmp_path / "2")

    def stages(r: Recorder) -> list[Stage]:
        def work(scratch: Path) -> None:
            (r.path / "evaluation").mkdir()
            again.work(scratch)

        again = r.stage(name)
        return [replace(again, name="map", work=work), r.stage("a")]

    run(own.path, *stages(own))
    text = (own.path / "manifest.json").read_text()
    (own.path / "manifest.json").write_text(text.replace("evaluation/", "study/"))
    (own.path / "evaluation").rename(own.path / "study")
    with RunFolder(later.path, {"k": 1}, siblings=[own.path]).opened() as folder:
        folder.run(stages(later)[0])
    assert later.done == [] and (later.path / name).is_file(), "copied from a sibling of the version before"
    assert RunFolder(own.path, {"k": 1}).is_current(stages(own)[0]), "before anything is written there"
    run(own.path, *stages(own))
    assert own.done == [name, "a"], "once each"
    assert (own.path / name).is_file() and not (own.path / "study").exists()
    assert "study/" not in (own.path / "manifest.json").read_text()


def test_a_damaged_sibling_is_not_copied(tmp_path: Path):
    first, second = Recorder(tmp_path / "1"), Recorder(tmp_path / "2")
    run(first.path, first.stage("a"))
    (first.path / "a").write_text("damaged")
    with RunFolder(second.path, {}, siblings=[first.path]).opened() as folder:
        folder.run(second.stage("a"))
    assert second.done == ["a"]


def test_a_damaged_or_missing_file_is_made_again(tmp_path: Path):
    r = Recorder(tmp_path)
    run(tmp_path, r.stage("a"))
    (tmp_path / "a").write_text("damaged")
    run(tmp_path, r.stage("a"))
    (tmp_path / "a").unlink()
    run(tmp_path, r.stage("a"))
    assert r.done == ["a", "a", "a"]


def test_chains_apart_are_kept_and_what_a_killed_rank_did_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    r = Recorder(tmp_path)
    all_of_them = r.stage("all", needs=("b", "d"))
    one = [r.stage("a", chain="1"), r.stage("b", needs=("a",), chain="1")]
    other = [r.stage("c", chain="2"), r.stage("d", needs=("c",), chain="2")]
    with RunFolder(tmp_path, {"k": 1}).opened():
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        killed = RunFolder(tmp_path, {"k": 1})
        for stage in other:
            killed.run(stage)
    monkeypatch.undo()
    assert set(json.loads((tmp_path / "manifest.json").read_text())["stages"]) == set()
    for _ in range(2):
        with RunFolder(tmp_path, {"k": 1}).opened() as folder:
            folder.run_all([all_of_them, *one, *other])
        assert r.done == ["c", "d", "a", "b", "all"]
        assert list(tmp_path.glob(".state/*")) == []


def test_other_settings_are_told_by_their_keys_and_kept_when_they_run(tmp_path: Path):
    r = Recorder(tmp_path)
    run(tmp_path, r.stage("a"), settings={"zoo": {"k": 200}, "seed": 0})
    before, other = (tmp_path / "manifest.json").read_text(), {"zoo": {"k": 50}, "seed": 0}
    folder = RunFolder(tmp_path, other)
    assert folder.changed == ["zoo.k"] and folder.done == ["a"]
    assert (tmp_path / "manifest.json").read_text() == before
    run(tmp_path, r.stage("a"), settings=other)
    assert RunFolder(tmp_path, other).changed == []


def test_a_run_that_kept_nothing_leaves_the_folder_free(tmp_path: Path):
    def fail(scratch: Path) -> None:
        raise RunFolderError("a misspelt selection")

    def fail_later(scratch: Path) -> None:
        scratch.mkdir(parents=True)
        fail(scratch)

    with pytest.raises(RunFolderError, match="misspelt"):
        run(tmp_path, Stage("a", 1, [], ["a"], fail), settings={"select": "norm9"})
    assert RunFolder(tmp_path, {"select": "norm2"}).changed == []
    with pytest.raises(RunFolderError, match="misspelt"):
        run(tmp_path, Stage("a", 2, [], ["a"], fail_later), settings={"select": "norm99"})
    assert RunFolder(tmp_path, {"select": "norm2"}).changed == ["select"]


@pytest.mark.parametrize("name", ["", "new"])
def test_a_folder_that_cannot_be_written_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    folder = RunFolder(tmp_path / name, {"k": 1})
    monkeypatch.setattr(Path, "touch" if name == "" else "mkdir", refuse)
    with pytest.raises(DiskError, match=r"cannot write .*Read-only file system\); .*choose another run_dir"):
        folder.opened().__enter__()


def test_a_stage_without_its_inputs_says_what_to_run(tmp_path: Path):
    r = Recorder(tmp_path)
    with pytest.raises(RunFolderError, match="b needs .*a, which is not there; run the earlier stages first"):
        run(tmp_path, r.stage("b", needs=("a",)))


def test_strangers_and_files_are_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunFolderError, match="holds thesis.tex but no manifest.json"):
        RunFolder(tmp_path, {})
    with pytest.raises(RunFolderError, match="is a file"):
        RunFolder(tmp_path / "thesis.tex", {})


def test_two_processes_do_not_share_a_folder(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from paramdiff.runs.run_folder import RunFolder\n"
        "from paramdiff.errors import RunFolderError\n"
        "try:\n    RunFolder(Path(sys.argv[1]), {'k': 1}).opened().__enter__()\n"
        "except RunFolderError as error: print(error)"
    )
    with RunFolder(tmp_path, {"k": 1}).opened():
        words = [sys.executable, "-c", code, str(tmp_path)]
        other = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "another process is working in" in other.stdout


def test_the_state_of_other_settings_is_not_resumed(tmp_path: Path):
    seen = []

    def stage(settings: int) -> Stage:
        def work(scratch: Path) -> None:
            seen.append(scratch)
            (tmp_path / "a").write_text("x")

        return Stage("a", settings, [], ["a"], work)

    run(tmp_path, stage(1))
    run(tmp_path, stage(2))
    assert seen[0] != seen[1]


def test_a_finished_stage_leaves_no_state(tmp_path: Path):
    """Not even that of settings it was begun with before."""

    def stage(settings: int, fail: bool) -> Stage:
        def work(scratch: Path) -> None:
            scratch.mkdir(parents=True)
            if fail:
                raise KeyboardInterrupt
            (tmp_path / "a").write_text("x")

        return Stage("a", settings, [], ["a"], work)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stage(1, fail=True))
    assert len(list((tmp_path / ".state").iterdir())) == 1
    run(tmp_path, stage(2, fail=False))
    assert not list((tmp_path / ".state").iterdir())


def test_differing_keys_are_dotted():
    assert differing_keys({"a": {"b": 1, "c": 2}}, {"a": {"b": 2, "c": 2}, "d": 1}) == ["a.b", "d"]
