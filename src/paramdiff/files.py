"""Reading and writing of single files, with clear errors.

Only ordinary files are opened: reading a FIFO would block, and reading a device would never end. JSON that is read
has a limited size and depth; :mod:`paramdiff.validation` checks its types. What is written appears under its name
only when all of it is on the disk (:mod:`paramdiff.atomic`).

Tensors are stored as safetensors only. A nested training state (modules, optimiser, counters) is
one safetensors file whose tensors carry slash-separated paths and whose header carries the rest
as JSON, so that resuming never unpickles.
"""

import json
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from paramdiff.errors import CheckpointError, ParamdiffError

State = dict[str, Any]

JSON_BYTES = 1 << 26
"""Of a JSON file at most: the manifest of a zoo of 300,000 members."""

JSON_DEPTH = 64
"""Levels of nesting at most; ours have fewer than ten."""

ABOUT = "paramdiff"
"""Key of a safetensors header under which a file says, as JSON, what it is. (Several keys have no fixed order.)"""

KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip
"""What is no ordinary file, by the type in its mode."""


def about(what: str, **more: Any) -> dict[str, str]:
    """Metadata for a safetensors file: what it is, and what is needed to read it alone."""
    return {ABOUT: json.dumps({"what": what, **more}, allow_nan=False)}


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically."""
    from paramdiff.atomic import writing

    with writing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")  # halves of characters cannot be encoded


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Parse a JSON file of at most JSON_BYTES and JSON_DEPTH.

    Raises:
        CheckpointError: the file is missing, is no file, is too large, is not JSON, or is nested too deeply.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a folder; or a pipe, which would be waited for
            raise CheckpointError(f"{path} is no file", expected="a JSON file")
        with path.open("rb") as file:
            data = file.read(JSON_BYTES + 1)
        if len(data) > JSON_BYTES:
            raise CheckpointError(
                f"{path} has {path.stat().st_size / 1e6:,.0f} MB",
                expected=f"at most {JSON_BYTES / 1e6:.0f} MB",
            )
        if not data.strip():
            raise CheckpointError(f"{path} is empty", expected="a JSON file")
        value = json.loads(data.decode("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist", expected="a JSON file") from None
    except RecursionError:
        raise _too_deep(path) from None
    except ValueError as error:  # no JSON, no UTF-8, a number of too many digits
        raise CheckpointError(f"{path} is not valid JSON ({error})") from None
    _require_shallow(value, path)
    return value


def _require_shallow(value: Any, path: Path) -> None:
    """Raise for what is nested more than JSON_DEPTH: code that walks through it would run out of stack."""
    level = [value]
    for _ in range(JSON_DEPTH):
        inner = [
            item.values() if isinstance(item, dict) else item
            for item in level
            if isinstance(item, (dict, list))
        ]
        level = [item for items in inner for item in items]
        if not level:
            return
    raise _too_deep(path)


def _too_deep(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is nested too deeply", expected=f"at most {JSON_DEPTH} levels")


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, atomically. Tensors that share memory are copied first."""
    from paramdiff.atomic import default_mode, writing

    plain: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, given in tensors.items():
        tensor = given.detach().cpu().contiguous()
        whole = tensor.untyped_storage()
        shared = whole.data_ptr() in storages  # the first of several is written from where it lies
        storages.add(whole.data_ptr())
        plain[name] = tensor.clone() if shared else tensor
    with writing(path) as partial:
        save_file(plain, partial, metadata=dict(metadata or {}))
        partial.chmod(default_mode(partial))  # the library writes files that nobody else may read


def save_rows(
    path: Path, name: str, rows: Iterable[Tensor], shape: tuple[int, int], dtype: torch.dtype
) -> None:
    """One matrix as safetensors, row by row: it may be larger than the memory. Atomic.

    Raises:
        ValueError: not as many rows as the shape says, or of another length.
    """
    from paramdiff.atomic import writing

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
    except (SafetensorError, RuntimeError, MemoryError) as error:
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({error})",
            remedy="it is probably truncated: copy it again or remove it",
        ) from None
    except OSError as error:  # not readable, or on a file system that cannot map files
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})",
                              remedy="check the permissions, or copy it to another disk") from None  # fmt: skip


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


def save_state(path: Path, state: State, what: str = "a state") -> None:
    """Write a nested state of dicts, lists, tensors and JSON scalars as one safetensors file."""
    tensors: dict[str, Tensor] = {}
    skeleton = _strip(state, "", tensors)
    save_tensors(path, tensors or {"empty": torch.zeros(0)}, about(what, state=skeleton))


def load_state(path: Path) -> State:
    """Inverse of :func:`save_state`.

    Raises:
        CheckpointError: missing, truncated, or not what :func:`save_state` wrote.
    """
    tensors, kept = load_tensors(path), load_metadata(path)
    try:
        before = "state" in kept  # as older versions wrote it
        return _fill(json.loads(kept["state"]) if before else json.loads(kept[ABOUT])["state"], tensors)
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError) as error:
        raise CheckpointError(
            f"{path} is a damaged state ({type(error).__name__})",
            remedy="remove it: what it is of starts again",
        ) from None


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


def why_not(path: Path) -> str:
    """Why a path is not an ordinary file that can be read, in words; empty if it is one. Opens nothing else."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return f"is {KINDS.get(stat.S_IFMT(mode), 'not a file')}, not a file"
        path.open("rb").close()
    except FileNotFoundError:
        return "does not exist"
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    return ""


def require_file(path: Path, kind: type[ParamdiffError] = CheckpointError, expected: str = "a file") -> None:
    """Raise an error of the family unless ``path`` is an ordinary file that can be read."""
    reason = why_not(path)
    if reason:
        raise kind(f"{path} {reason}", expected=expected)
