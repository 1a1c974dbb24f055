"""Files of torch.save are read as torch reads them, or refused in one line; never as garbage."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from paramdiff import devices
from paramdiff.errors import CheckpointError
from paramdiff.zoo.file_search import find_checkpoints
from paramdiff.zoo.state_dicts import load_file, read_state

STATE = {"w": torch.arange(100.0), "b": torch.randn(10, 3).half()}
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


def fails(message: str):
    return pytest.raises(CheckpointError, match=message)


def saved(file: Path, value: object = STATE, zipped: bool = True) -> Path:
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file


def rewritten(
    file: Path, method: int, change: Callable[[str, bytes], bytes] = lambda name, held: held
) -> Path:
    """The archive as another tool would write it."""
    old = io.BytesIO(file.read_bytes())
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(file, "w", method) as target:
        for info in source.infolist():
            target.writestr(info.filename, change(info.filename, source.read(info)))
    return file


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == expected[name].dtype
        and found[name].shape == expected[name].shape
        and torch.equal(bits(found[name]), bits(expected[name]))
        for name in found  # NaN included
    )


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_an_archive_that_was_packed_anew_is_read_as_torch_reads_it(tmp_path: Path, method: int):
    file = rewritten(saved(tmp_path / "a.pt"), method)
    assert same(read_state(file), torch.load(file, weights_only=True)) and same(read_state(file), STATE)


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_numbers_of_the_other_byte_order_are_turned(tmp_path: Path, method: int):
    swap = lambda name, held: b"big" if name.endswith("byteorder") else held
    file = rewritten(saved(tmp_path / "a.pt"), method, swap)
    found = read_state(file)
    assert same(found, torch.load(file, weights_only=True)) and not same(found, STATE)


@pytest.mark.parametrize("method", [STORED, DEFLATED])
@pytest.mark.parametrize("length", [-40, -1, 40])
def test_a_record_of_another_length_than_its_tensor_is_refused(tmp_path: Path, method: int, length: int):
    cut = lambda held: held[:length] if length < 0 else held + bytes(length)
    file = saved(tmp_path / "a.pt")
    rewritten(file, method, lambda name, held: cut(held) if name.endswith("data/0") else held)
    with fails(
        rf"a.pt is damaged: its record data/0 should have 400 bytes and holds {400 + length}; copy it again"
    ):
        read_state(file)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("old", "new"),
    [(b"Kd\x85", b"M\xe8\x03\x85"), (b"K\x00Kd\x85", b"K\x01Kd\x85"), (b"K\x01\x85", b"K\x02\x85")],
    ids=["size", "offset", "stride"],
)
def test_a_tensor_that_does_not_lie_in_its_storage_is_refused(
    tmp_path: Path, zipped: bool, old: bytes, new: bytes
):
    file = saved(tmp_path / "a.pt", {"w": torch.arange(100.0)}, zipped)

    def enlarge(held: bytes) -> bytes:
        assert held.count(old) == 1
        return held.replace(old, new)

    if zipped:
        rewritten(file, STORED, lambda name, held: enlarge(held) if name.endswith("data.pkl") else held)
    else:
        file.write_bytes(enlarge(file.read_bytes()))
    with fails(r"a.pt is damaged: a tensor of shape \[\d+\] does not lie inside its 400 bytes"):
        read_state(file)


def test_what_cannot_be_checked_is_not_read(tmp_path: Path):
    file = rewritten(
        saved(tmp_path / "a.pt"), STORED, lambda name, held: held[:-1] if "data.pkl" in name else held
    )
    with fails("a.pt is not a complete checkpoint file"):
        read_state(file)
    twice = tmp_path / "twice.pt"
    twice.write_bytes(saved(tmp_path / "b.pt").read_bytes())
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(next(name for name in archive.namelist() if name.endswith("data/0")), bytes(400))
    with fails("two of its records have one name"):
        read_state(twice)


def test_what_would_unpack_to_more_than_there_is_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = rewritten(saved(tmp_path / "a.pt"), DEFLATED)
    monkeypatch.setattr(devices, "host_bytes", lambda: 500)
    with fails("a.pt take 1 kB of memory; expected no more than 50% of the 0 kB that are free"):
        read_state(file)


# --- kinds of tensors ------------------------------------------------------------------------------

READ = {
    "sparse": torch.eye(4).to_sparse(), "rows": torch.eye(4).to_sparse_csr(), "columns": torch.eye(4).to_sparse_csc(),
    "blocks": torch.eye(4).to_sparse_bsr((2, 2)), "expanded": torch.randn(3, 1).expand(3, 5),
    "complex": torch.randn(3, dtype=torch.complex64), "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
    "bytes": torch.randn(3).to(torch.float8_e4m3fn), "none": torch.zeros(0, 3), "one": torch.tensor(3.0),
    "unsigned": torch.ones(3, dtype=torch.uint16), "parameter": torch.nn.Parameter(torch.randn(3)),
    "strided": torch.randn(6, 4).t()[1:, ::2],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", READ)
def test_odd_tensors_are_read_exactly(tmp_path: Path, kind: str):
    given = READ[kind].detach()
    found = read_state(saved(tmp_path / "a.pt", {"w": given}))["w"]
    wanted = given if given.layout == torch.strided else given.to_dense()
    assert found.layout == torch.strided and found.dtype == wanted.dtype
    assert torch.equal(found.clone(), wanted.resolve_conj().contiguous())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.empty(3, device="meta"), "w has no values"),
        (torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8), "w is quantised"),
        (torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), "w is of type torch.float4"),
        (
            torch.zeros(1).expand(10**13),
            r"w: numbers of shape \[10000000000000\] take 40 TB of memory; expected no more than 50% of",
        ),
        (torch.sparse_coo_tensor([[5]], [1.0], (10**13,)), r"w: numbers of shape"),
    ],
    ids=["meta", "quantised", "four bits", "expanded", "sparse"],
)
def test_odd_tensors_without_plain_numbers_are_named(tmp_path: Path, tensor: Tensor, message: str):
    with fails(rf"a.pt: {message}"):
        read_state(saved(tmp_path / "a.pt", {"ok": torch.ones(2), "w": tensor}))


@pytest.mark.filterwarnings("ignore")
def test_sparse_indices_out_of_range_are_found(tmp_path: Path):
    wrong = torch.sparse_coo_tensor([[7]], [1.0], (3,), check_invariants=False)
    with fails("a.pt"):
        read_state(saved(tmp_path / "a.pt", {"w": wrong}))


def test_types_of_four_bits_in_safetensors_are_named(tmp_path: Path):
    header = b'{"w":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with fails(
        "a.safetensors: w is of type torch.float4_e2m1fn_x2; expected numbers that can be read one by one"
    ):
        read_state(tmp_path / "a.safetensors")


# --- what is no ordinary file ----------------------------------------------------------------------


def odd_paths(folder: Path) -> dict[str, Path]:
    os.mkfifo(folder / "fifo.pt")
    (folder / "loop.pt").symlink_to(folder / "loop.pt")
    (folder / "zero.pt").symlink_to("/dev/zero")
    (folder / "folder.pt").mkdir()
    found = {name: folder / f"{name}.pt" for name in ("fifo", "loop", "zero", "folder")}
    return found | {"device": Path("/dev/zero"), "unmappable": Path("/proc/self/status")}


def test_only_ordinary_files_are_opened(tmp_path: Path):
    for name, path in odd_paths(tmp_path).items():
        with fails(r"is a (FIFO|device|folder), not a file|cannot be read|is not a complete|was refused"):
            read_state(path)
        if name not in ("folder", "unmappable"):
            with fails(r"is a (FIFO|device), not a file|cannot be read"):
                find_checkpoints(path)
    saved(tmp_path / "good.pt")
    assert find_checkpoints(tmp_path) == [tmp_path / "good.pt"]


def test_weights_from_a_device_are_refused_at_once():
    with fails("/dev/zero is a device, not a file"):
        load_file(torch.nn.Linear(2, 2), "/dev/zero")


@pytest.mark.parametrize(
    "error", [OSError(19, "No such device"), RuntimeError("unable to mmap"), MemoryError()]
)
def test_files_that_cannot_be_mapped_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    (tmp_path / "a.safetensors").write_bytes(b"x")

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("paramdiff.files.safe_open", refuse)
    with fails(r"a.safetensors (cannot be read \(No such device\)|is not a complete safetensors file)"):
        read_state(tmp_path / "a.safetensors")
