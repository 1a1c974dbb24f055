"""What a kill leaves, at every step; and that nothing of anybody else's is ever removed."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from paramdiff import atomic
from paramdiff.atomic import LEFT, exchange, writing
from paramdiff.errors import GeneratorError, ParamdiffError, ZooError
from paramdiff.files import load_tensors, read_json, save_tensors, write_json
from paramdiff.generators import make
from paramdiff.generators.generator import Generator
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.zoo.zoo import Zoo


def zoo_of(value: float, k: int = 3) -> Zoo:
    base = {"w": torch.full((4,), value)}
    vectors = base["w"] + torch.arange(k)[:, None]
    return Zoo(vectors, ParameterSpec.from_state_dict(base), base)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dies(code: str, *words: object) -> None:
    """Run code in a process that kills itself, without torch, so that it starts fast."""
    prelude = (
        "import os, signal, sys; from pathlib import Path; from paramdiff import atomic\n"
        "from paramdiff.atomic import writing\n"
        "die = lambda *given, **more: os.kill(os.getpid(), signal.SIGKILL)\n"
        "path = Path(sys.argv[1])\n"
        "def folder(text, replaces=lambda path: None):\n"
        "    with writing(path, replaces) as partial:\n"
        "        partial.mkdir(); (partial / 'x').write_text(text)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + code, *map(str, words)], check=False, env=os.environ
    )
    assert done.returncode == -signal.SIGKILL


KILLS = {
    "while it is written": "with writing(path) as partial:\n"
    "    partial.mkdir(); (partial / 'x').write_text('half'); die()",
    "before the exchange": "atomic._take_place = die; folder('new')",
    "between two renames": "atomic.exchange = lambda a, b: False\nPath.rename = (lambda rename: lambda self, to: "
    "die() if self.parent.name.endswith('.partial') and to == path else rename(self, to))(Path.rename)\nfolder('new')",
    "before the cleaning": "atomic._sync = (lambda sync: lambda p: die() if p == path.parent and "
    "(path / 'x').read_text() == 'new' else sync(p))(atomic._sync); folder('new')",
}


@pytest.mark.parametrize("when", KILLS)
def test_a_kill_at_any_step_leaves_one_whole_folder_and_is_swept(when: str, tmp_path: Path):
    path = tmp_path / "zoo"
    path.mkdir()
    (path / "x").write_text("old")
    dies(KILLS[when], path)
    assert [name for name in names(tmp_path) if LEFT.fullmatch(name)]
    atomic.settle(tmp_path)
    assert names(tmp_path) == ["zoo"]
    assert (path / "x").read_text() == (
        "new" if when in ("between two renames", "before the cleaning") else "old"
    )


def test_a_reused_process_id_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Containers start with the same one; leftovers of a version without locks carried it in their names."""
    pid = os.getpid()
    for leftover in (f".zoo.{pid}.partial", f".zoo.{pid}.old"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "x").write_text("left")
    zoo_of(1.0).save(tmp_path / "zoo")
    zoo_of(2.0).save(tmp_path / "zoo")
    assert names(tmp_path) == ["zoo"] and float(Zoo.load(tmp_path / "zoo").vectors[0, 0]) == 2.0


def test_a_zoo_that_an_older_version_lost_between_its_renames_is_back(tmp_path: Path):
    zoo_of(1.0).save(tmp_path / "zoo")
    (tmp_path / "zoo").rename(tmp_path / ".zoo.999999999.old")
    atomic._settled.clear()  # as in another process
    assert float(Zoo.load(tmp_path / "zoo").vectors[0, 0]) == 1.0
    assert names(tmp_path) == ["zoo"]


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path):
    with writing(tmp_path / "a") as partial:
        partial.write_text("a")
        write_json(tmp_path / "b.json", {})
        atomic.settle(tmp_path)  # its lock is asked for as another process would
        assert partial.read_text() == "a"
    assert names(tmp_path) == ["a", "b.json"]


def test_without_locks_leftovers_go_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As on some network file systems: whether their writer lives cannot be asked."""
    monkeypatch.setattr(atomic, "_lock", lambda file: False)
    left = tmp_path / ".zoo.0123456789abcdef.partial"
    left.mkdir()
    write_json(tmp_path / "a.json", {})
    assert left.exists()
    os.utime(left, (0, 0))
    atomic._settled.clear()  # as in another process: clocks of file systems are too coarse to see a quick change
    write_json(tmp_path / "a.json", {})
    assert not left.exists()


def test_folders_are_exchanged_in_one_step_here(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot")
    assert names(tmp_path / "a") == ["b"] and names(tmp_path / "b") == ["a"]
    assert not exchange(tmp_path / "a", tmp_path / "missing")


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    zoo_of(1.0).save(tmp_path / "zoo")
    rename = Path.rename

    def refuse(self: Path, to: Path) -> Path:
        if self.name == "zoo" and LEFT.fullmatch(self.parent.name):
            raise OSError(5, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(ParamdiffError, match="cannot write .*zoo"):
        zoo_of(2.0).save(tmp_path / "zoo")
    monkeypatch.undo()
    assert Zoo.load(tmp_path / "zoo").k == 3


def test_contents_and_names_are_on_the_disk_before_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def seen(file: int) -> None:
        done.append(Path(f"/proc/self/fd/{file}").readlink().name)
        sync(file)

    monkeypatch.setattr(os, "fsync", seen)
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("rename"), replace(self, to))[1])
    write_json(tmp_path / "new" / "a.json", {})
    assert done == [tmp_path.name, "a.json", "rename", "new"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_have_the_mode_that_the_system_gives(mask: int, tmp_path: Path):
    before = os.umask(mask)
    try:
        zoo_of(1.0).save(tmp_path / "zoo")
        save_tensors(tmp_path / "v.safetensors", {"v": torch.zeros(2)})
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~mask, path


# --- whose folder it is ------------------------------------------------------------------------------------


def save_zoo(folder: Path) -> None:
    zoo_of(5.0).save(folder)


def save_generator(folder: Path) -> None:
    make("gaussian").fit(zoo_of(5.0)).save(folder)


SAVERS = pytest.mark.parametrize("save", [save_zoo, save_generator])


def strangers(folder: Path, what: str) -> None:
    """Something that ``save`` must leave as it is."""
    if what == "file":
        folder.write_text("thesis")
        return
    folder.mkdir()
    if what == "checkpoints":
        save_tensors(folder / "epoch_1.safetensors", {"w": torch.zeros(4)})
        (folder / "thesis.tex").write_text("thesis")
    elif what == "manifest of something else":
        (folder / "manifest.json").write_text('{"name": "a web app"}')
        (folder / "generator.json").write_text('{"name": "a web app"}')
    elif what == "files of the same names":
        for name in ("vectors", "base", "state"):
            save_tensors(folder / f"{name}.safetensors", {"w": torch.zeros(4)})
    elif what == "hidden":
        (folder / ".git").mkdir()
    else:  # one of ours with something added
        folder.rmdir()
        (save_zoo if "zoo" in what else save_generator)(folder)
        (folder / "notes.txt").write_text("notes")


@SAVERS
@pytest.mark.parametrize("what", ["file", "checkpoints", "manifest of something else", "files of the same names",
                                  "hidden", "zoo and notes", "generator and notes"])  # fmt: skip
def test_save_removes_nothing_of_anybody_else(save: Callable[[Path], None], what: str, tmp_path: Path):
    place = tmp_path / "place"
    strangers(place, what)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        (ZooError, GeneratorError), match="expected a new or empty folder, or a saved .* choose another"
    ):
        save(place)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@SAVERS
def test_a_zoo_is_no_generator_and_a_generator_no_zoo(save: Callable[[Path], None], tmp_path: Path):
    (save_generator if save is save_zoo else save_zoo)(tmp_path / "place")
    with pytest.raises(ParamdiffError, match="choose another folder"):
        save(tmp_path / "place")


@SAVERS
def test_save_replaces_its_own_kind_be_it_damaged_and_follows_links(
    save: Callable[[Path], None], tmp_path: Path
):
    (tmp_path / "real").mkdir()  # empty
    (tmp_path / "link").symlink_to("real")
    for marker in (None, "manifest.json", "generator.json"):
        if marker and (tmp_path / "real" / marker).exists():
            (tmp_path / "real" / marker).write_text("")
        save(tmp_path / "link")
        assert (tmp_path / "link").is_symlink() and len(names(tmp_path / "real")) in (2, 3)
    assert names(tmp_path) == ["link", "real"]
    (Zoo.load if save is save_zoo else Generator.load)(tmp_path / "link")


def test_a_mapped_zoo_is_saved_onto_itself(tmp_path: Path):
    zoo_of(1.0).save(tmp_path / "zoo")
    mapped = Zoo.load(tmp_path / "zoo")
    mapped.about["notes"] = ["again"]
    mapped.save(tmp_path / "zoo")
    again = Zoo.load(tmp_path / "zoo")
    assert torch.equal(again.vectors, zoo_of(1.0).vectors) and again.about["notes"] == ["again"]
    assert torch.equal(mapped.vectors, again.vectors)


def test_verify_sees_a_changed_manifest(tmp_path: Path):
    zoo_of(1.0).save(tmp_path / "zoo")
    Zoo.verify(tmp_path / "zoo")
    manifest = read_json(tmp_path / "zoo" / "manifest.json")
    write_json(tmp_path / "zoo" / "manifest.json", manifest | {"about": {"trajectory": True}})
    with pytest.raises(ParamdiffError, match=r"manifest.json is not the file that was saved"):
        Zoo.verify(tmp_path / "zoo")
    del manifest["sha256"]["manifest"]  # as older versions saved
    write_json(tmp_path / "zoo" / "manifest.json", manifest)
    Zoo.verify(tmp_path / "zoo")
    assert load_tensors(tmp_path / "zoo" / "vectors.safetensors")["vectors"].shape == (3, 4)
