"""One checkpoint file: whatever wraps the state dict comes off, and no code is run."""

import os
import pickle

import pytest
import torch
from torch import nn

from paramdiff.errors import CheckpointError
from paramdiff.files import save_tensors
from paramdiff.zoo.state_dicts import read_state, strip_prefixes


def fails(message: str):
    return pytest.raises(CheckpointError, match=message)


class Malicious:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("writer", ["torch", "legacy", "pickle"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path, writer):
    proof, file = tmp_path / "it_ran", tmp_path / "bad.pt"
    value = {"w": torch.ones(2), "x": Malicious(str(proof))}
    if writer == "pickle":
        file.write_bytes(pickle.dumps({"x": Malicious(str(proof))}))
    else:
        torch.save(value, file, _use_new_zipfile_serialization=writer == "torch")
    with fails(
        r"bad.pt was refused: it holds .*expected a state dict of plain tensors; if you trust its author, "
        r"convert it once outside paramdiff: .*torch.save\(model.state_dict\(\), 'clean.pt'\)"
    ):
        read_state(file)
    assert not proof.exists()
    torch.load(file, weights_only=False) if writer != "pickle" else pickle.loads(file.read_bytes())
    assert proof.exists()  # the test can fail: unpickled, it does run


def test_whole_modules_and_torchscript_are_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with fails(r"was refused: it holds a whole nn.Module \(torch.nn.modules.linear.Linear\)"):
        read_state(tmp_path / "module.pt")
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    with fails("was refused: it holds a TorchScript archive"):
        read_state(tmp_path / "script.pt")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "old.pt"])
def test_truncated_files_are_named(tmp_path, name):
    if name == "old.pt":
        torch.save({"w": torch.ones(1000)}, tmp_path / name, _use_new_zipfile_serialization=False)
    else:
        write = save_tensors if name == "a.safetensors" else lambda path, value: torch.save(value, path)
        write(tmp_path / name, {"w": torch.ones(1000)})
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[:-200])
    with fails(rf"{name} is not a complete .*probably truncated: copy it again or remove it"):
        read_state(file)


def test_missing_files_and_folders_are_named(tmp_path):
    with fails(r"a.pt does not exist; expected a checkpoint file"):
        read_state(tmp_path / "a.pt")
    with fails(r"is a folder, not a file; expected a checkpoint file"):
        read_state(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02garbage", b"PK\x03\x04"])
def test_garbage_is_an_error_of_the_family(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with fails(r"a\.pt (is not a complete checkpoint file|was refused)"):
        read_state(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("value", "found"),
    [([1, 2], "list"), ({"epoch": 3, "best": 0.9}, "epoch, best"), ({}, "an empty dict"),
     ({"optimizer": {"w": torch.ones(1)}}, "optimizer")],
)  # fmt: skip
def test_files_without_a_state_dict(tmp_path, value, found):
    torch.save(value, tmp_path / "a.pt")
    with fails(
        rf"a.pt holds no state dict \(found {found}\); expected tensors by name, or a dict with one of"
    ):
        read_state(tmp_path / "a.pt")


# --- wrappers and prefixes -------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net", "ema"])
def test_nested_state_dicts_are_found(tmp_path, key):
    inner = {"w": torch.ones(2), "version": 3}
    for value in ({key: inner, "epoch": 3}, {"model": {key: inner}, "optimizer": {"m": torch.ones(1)}}):
        torch.save(value, tmp_path / "a.pt")
        assert list(read_state(tmp_path / "a.pt")) == ["w"]


def test_an_empty_wrapper_is_passed_over(tmp_path):
    torch.save({"state_dict": {}, "model": {"w": torch.ones(2)}}, tmp_path / "a.pt")
    assert list(read_state(tmp_path / "a.pt")) == ["w"]


def test_prefixes_that_belong_to_the_model_stay():
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(1, 1)

    own = Wrapped().state_dict()
    assert strip_prefixes(own, own).keys() == own.keys()
    assert strip_prefixes({f"module.{name}": t for name, t in own.items()}, own).keys() == own.keys()
    assert strip_prefixes(own).keys() == own.keys()  # without a model, model. may be its own


def test_without_a_model_a_wrapper_goes_only_if_all_keys_carry_it():
    one = torch.ones(1)
    assert list(strip_prefixes({"module.a": one, "module.b": one})) == ["a", "b"]
    assert list(strip_prefixes({"module.a": one, "b": one})) == ["module.a", "b"]
    assert list(strip_prefixes({"module.a": one, "a": one}, {"a"})) == ["module.a", "a"]  # they would clash
