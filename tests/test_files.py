import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paramdiff.artefacts import copy, sha256
from paramdiff.atomic import writing
from paramdiff.errors import CheckpointError, DiskError
from paramdiff.files import (
    load_state,
    load_tensors,
    read_json,
    save_state,
    save_tensors,
    write_json,
)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path):
    target = tmp_path / "a.json"
    write_json(target, {"kept": 1})
    with pytest.raises(RuntimeError), writing(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert read_json(target) == {"kept": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_replaced_only_at_the_end(tmp_path: Path):
    target = tmp_path / "zoo"
    for text in ("first", "second"):
        with writing(target, lambda path: None) as partial:
            partial.mkdir()
            (partial / "x").write_text(text)
            if text == "second":
                assert (target / "x").read_text() == "first"
    assert (target / "x").read_text() == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["zoo"]


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, monkeypatch):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DiskError, match="the disk is full while writing .*a.txt; free some space") as caught:
        write_json(target, {})
    assert caught.value.exit_code == 1
    assert target.read_bytes() == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_safetensors_on_a_full_disk(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(
        "paramdiff.files.save_file",
        lambda tensors, path, metadata: Path("/dev/full").write_bytes(b"x" * 10000),
    )
    with pytest.raises(DiskError, match="the disk is full"):
        save_tensors(tmp_path / "v.safetensors", {"v": torch.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_tied_and_strided_tensors_are_saved(tmp_path: Path):
    whole = torch.arange(12.0).reshape(3, 4)
    save_tensors(tmp_path / "t.safetensors", {"a": whole, "b": whole, "c": whole[:, 1], "d": whole.T})
    back = load_tensors(tmp_path / "t.safetensors")
    assert (
        torch.equal(back["b"], whole)
        and torch.equal(back["c"], whole[:, 1])
        and torch.equal(back["d"], whole.T)
    )


def test_truncated_and_missing_files_are_named(tmp_path: Path):
    path = tmp_path / "t.safetensors"
    save_tensors(path, {"a": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="t.safetensors is not a complete safetensors file .*truncated"):
        load_tensors(path)
    with pytest.raises(CheckpointError, match="none.safetensors does not exist; expected a safetensors file"):
        load_tensors(tmp_path / "none.safetensors")


def test_optimiser_state_round_trip(tmp_path: Path):
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.1, betas=(0.9, 0.95))
    for _ in range(3):
        net(torch.randn(4, 3)).sum().backward()
        optimiser.step()
    save_state(tmp_path / "s.safetensors", {"o": optimiser.state_dict(), "step": 3, "losses": [0.5, None]})
    state = load_state(tmp_path / "s.safetensors")
    other = torch.optim.AdamW(net.parameters(), lr=0.1)
    other.load_state_dict(state["o"])
    assert other.param_groups[0]["betas"] == [0.9, 0.95] or other.param_groups[0]["betas"] == (0.9, 0.95)
    for a, b in zip(optimiser.state.values(), other.state.values(), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert state["step"] == 3 and state["losses"] == [0.5, None]


def test_folder_hash_sees_names_and_contents(tmp_path: Path):
    (tmp_path / "a").write_text("1")
    first = sha256(tmp_path)
    (tmp_path / "a").write_text("2")
    second = sha256(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, sha256(tmp_path)}) == 3


def test_a_kill_during_a_write_leaves_the_old_file(tmp_path: Path):
    target = tmp_path / "a.json"
    write_json(target, {"kept": 1})
    code = (
        "import os, sys; from pathlib import Path; from paramdiff.atomic import writing\n"
        "with writing(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], env=os.environ, check=False)
    assert done.returncode == -9
    assert read_json(target) == {"kept": 1}


@pytest.mark.parametrize("linked", [True, False])
def test_copies_of_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool):
    def refuse(*given: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    if not linked:
        monkeypatch.setattr("os.link", refuse)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("text")
    copy(tmp_path / "a", tmp_path / "new" / "a")
    copy(tmp_path / "a" / "b" / "c", tmp_path / "new" / "c")
    assert (tmp_path / "new" / "a" / "b" / "c").read_text() == "text"
    assert (tmp_path / "new" / "c").samefile(tmp_path / "a" / "b" / "c") == linked


def test_the_filled_part_of_a_matrix_is_saved_without_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = torch.arange(12.0).reshape(4, 3)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("copied: for K x D numbers that is as much memory again")

    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "clone", refuse)
        save_tensors(tmp_path / "a.safetensors", {"vectors": whole[:2]})
    assert torch.equal(load_tensors(tmp_path / "a.safetensors")["vectors"], whole[:2])
