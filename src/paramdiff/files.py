"""Reading and writing without losing anything: a temporary name first, then a rename.

Tensors are stored as safetensors only. A nested training state (modules, optimiser, counters) is
one safetensors file whose tensors carry slash-separated paths and whose header carries the rest
as JSON, so that resuming never unpickles.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from paramdiff.errors import CheckpointError, DiskError

State = dict[str, Any]


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` (file or folder) that takes its name when all went well.

    Raises:
        DiskError: the disk is full or not writable; ``path`` is as it was.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _replace(partial, path)
    except OSError as error:
        raise disk_error(error, path) from error
    except SafetensorError as error:  # safetensors reports a failed write with its own type
        full = errno.ENOSPC if "No space left" in str(error) else 0
        raise disk_error(OSError(full, str(error)), path) from error
    finally:
        _remove(partial)


def copy(source: Path, path: Path) -> None:
    """A file or folder under another name, in no more room where the file system has links.

    Files here are only ever replaced, never changed, so links are safe.

    Raises:
        DiskError: as :func:`writing`.
    """
    with writing(path) as partial:
        if source.is_dir():
            shutil.copytree(source, partial, copy_function=_link)
        else:
            _link(source, partial)


def _link(source: Path | str, path: Path | str) -> None:
    try:
        os.link(source, path)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, path)


def _replace(partial: Path, path: Path) -> None:
    """Rename over ``path``; a folder that is replaced is moved away first and then removed."""
    if partial.is_dir() and path.exists():
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.rename(old)
        partial.rename(path)
        _remove(old)
    else:
        partial.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def disk_error(error: OSError, path: Path | str) -> DiskError:
    """What the system refused at ``path``, in words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskError(
            f"the disk is full while writing {path}",
            remedy="free some space and run the same command again: it goes on where it stopped",
        )
    return DiskError(
        f"cannot write {path} ({error.strerror or error})",
        remedy="check the permissions or choose another run_dir",
    )


def write_text(path: Path, text: str) -> None:
    with writing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        CheckpointError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist", expected="a JSON file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error})") from None


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, atomically. Tensors that share memory are copied first."""
    plain: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, given in tensors.items():
        tensor = given.detach().cpu().contiguous()
        whole = tensor.untyped_storage()
        shared = whole.data_ptr() in storages or whole.nbytes() != tensor.nbytes
        storages.add(whole.data_ptr())
        plain[name] = tensor.clone() if shared else tensor
    with writing(path) as partial:
        save_file(plain, partial, metadata=dict(metadata or {}))


def save_rows(
    path: Path, name: str, rows: Iterable[Tensor], shape: tuple[int, int], dtype: torch.dtype
) -> None:
    """One matrix as safetensors, row by row: it may be larger than the memory. Atomic.

    Raises:
        ValueError: not as many rows as the shape says, or of another length.
    """
    size = shape[0] * shape[1] * dtype.itemsize
    kind = {torch.float32: "F32", torch.float64: "F64"}[dtype]
    header = json.dumps({name: {"dtype": kind, "shape": shape, "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    with writing(path) as partial, partial.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for row in rows:
            file.write(row.detach().cpu().to(dtype).contiguous().view(torch.uint8).numpy().data)
        if file.tell() != 8 + len(header) + size:
            raise ValueError(f"{file.tell() - 8 - len(header)} bytes of rows, not {size}")


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """``safetensors.safe_open`` with a clear error for a missing or truncated file."""
    if not Path(path).is_file():
        raise CheckpointError(f"{path} does not exist", expected="a safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({error})",
            remedy="it is probably truncated: copy it again or remove it",
        ) from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, memory-mapped.

    Raises:
        CheckpointError: missing, truncated or not safetensors.
    """
    with open_tensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def load_metadata(path: Path) -> dict[str, str]:
    with open_tensors(path) as file:
        return dict(file.metadata() or {})


def save_state(path: Path, state: State) -> None:
    """Write a nested state of dicts, lists, tensors and JSON scalars as one safetensors file."""
    tensors: dict[str, Tensor] = {}
    skeleton = _strip(state, "", tensors)
    save_tensors(path, tensors or {"empty": torch.zeros(0)}, {"state": json.dumps(skeleton)})


def load_state(path: Path) -> State:
    """Inverse of :func:`save_state`."""
    tensors, skeleton = load_tensors(path), json.loads(load_metadata(path)["state"])
    return _fill(skeleton, tensors)


def _strip(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value
        return {"tensor": path}
    if isinstance(value, Mapping):
        return {"dict": [[key, _strip(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_strip(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]}
    return {"value": value}


def _fill(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:
    kind, value = next(iter(skeleton.items()))
    if kind == "tensor":
        return tensors[value].clone()
    if kind == "dict":
        return {key: _fill(item, tensors) for key, item in value}
    if kind == "list":
        return [_fill(item, tensors) for item in value]
    return value


def sha256(path: Path) -> str:
    """Hash of a file, or of the names and hashes of all files in a folder."""
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()} {sha256(file)}\n".encode())
    else:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
