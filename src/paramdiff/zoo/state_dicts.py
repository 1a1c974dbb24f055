"""One checkpoint file -> one flat state dict, without ever running code that came with the file.

Safetensors hold nothing but tensors. ``.pt/.pth/.th/.ckpt/.bin`` files (and the ``.pth.tar`` of some scripts) are
pickles: they are read with torch's ``weights_only`` unpickler, which builds tensors and plain containers and refuses
the rest, after :mod:`paramdiff.zoo.archives` has found that they hold what they promise. A network in several files
is read from their index (``model.safetensors.index.json``).
What training scripts wrap around a state dict (an outer dict, ``module.`` of DataParallel,
``_orig_mod.`` of ``torch.compile``, ``model.`` of Lightning) is taken off.
"""

import pickle
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paramdiff.errors import CheckpointError
from paramdiff.files import load_tensors, read_json
from paramdiff.memory import require_memory
from paramdiff.networks.tied_weights import tied_keys
from paramdiff.regular_files import require_file, why_not
from paramdiff.zoo.archives import (
    ZIP,
    BrokenArchiveError,
    check_archive,
    check_legacy,
    is_archive,
    packed_bytes,
)
from paramdiff.zoo.dense_tensors import plain_state

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin", ".tar")
"""Files that count as checkpoints when a folder or a glob is searched; see :func:`looks_like_one`."""

OF_ANYTHING = (".bin", ".tar")
"""Suffixes that say little: such a file counts only if it begins as a checkpoint does."""

BEGINNINGS = (ZIP, b"\x80")
"""First bytes of what ``torch.save`` writes."""

INDEX = ".index.json"
"""End of the name of a file that tells in which files the tensors of one network are."""

FILE = "a checkpoint file"

WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "ema")
"""Keys under which training scripts keep the state dict, in order of preference."""

DEPTH = 2
"""How many wrapping dicts are looked through, as in ``{"model": {"state_dict": ...}}``."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers put before every key."""

ALWAYS_A_WRAPPER = ("module.", "_orig_mod.")
"""Prefixes that go without knowing the network. ``model.`` may well be an attribute of its own."""

CONVERT = (
    "if you trust its author, convert it once outside paramdiff: torch.load(path, weights_only=False), "
    "then torch.save(model.state_dict(), 'clean.pt')"
)


def read_state(path: Path, like: Collection[str] | None = None) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, memory-mapped where the format allows it.

    Args:
        path: a ``.safetensors`` file, or anything ``torch.save`` wrote.
        like: names the tensors should have; decides which prefixes are taken off. Without it a
            prefix of :data:`ALWAYS_A_WRAPPER` goes if every key carries it.

    Raises:
        CheckpointError: missing, truncated, unsafe, or without tensors.
    """
    return strip_prefixes(plain_state(_read(path), path), like)


def _read(path: Path) -> dict[str, Tensor]:
    if path.name.endswith(INDEX):
        return _read_shards(path)
    value = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path)
    return _find_state(value, path)


def looks_like_one(path: Path) -> bool:
    """Whether a file counts as a checkpoint when a folder is searched."""
    if path.name.endswith(INDEX):
        return path.name.removesuffix(INDEX).endswith(SUFFIXES) and not why_not(path)
    if path.suffix not in SUFFIXES or why_not(path):
        return False
    if path.suffix not in OF_ANYTHING:
        return True
    with path.open("rb") as stream:
        return stream.read(len(ZIP)).startswith(BEGINNINGS)


def shards(index: Path) -> dict[str, list[str]]:
    """The files that an index names, in its folder, and the tensors that each of them holds.

    Raises:
        CheckpointError: it is no index, or names a file elsewhere.
    """
    require_file(index, expected="an index of checkpoint files")
    value = read_json(index)
    names = value.get("weight_map") if isinstance(value, dict) else None
    if not (isinstance(names, dict) and names and all(isinstance(file, str) for file in names.values())):
        raise CheckpointError(f"{index} holds no weight_map", expected="the file of every tensor by its name")
    files: dict[str, list[str]] = {}
    for name, file in names.items():
        if not file or Path(file).name != file or file.endswith(INDEX):
            raise CheckpointError(f"{index} names the file {file!r}", expected="files beside it")
        files.setdefault(file, []).append(name)
    return files


def _read_shards(index: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for file, names in shards(index).items():
        held = _read(index.with_name(file))
        lost = [name for name in names if name not in held]
        if lost:
            raise CheckpointError(
                f"{index.with_name(file)} lacks {lost[0]}", expected=f"what {index.name} says"
            )
        state |= {name: held[name] for name in names}
    return state


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    require_file(path, expected=FILE)
    return load_tensors(path)


def _load_pickle(path: Path) -> Any:
    """``torch.load`` of plain data only, after :mod:`paramdiff.zoo.archives`; every failure in words."""
    require_file(path, expected=FILE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols; refused below anyway
            return _checked_load(path)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from None
    except CheckpointError:
        raise
    except BrokenArchiveError as error:
        raise CheckpointError(f"{path} is damaged: {error}", remedy="copy it again or remove it") from None
    except (Exception, MemoryError) as error:  # anything comes of garbage: EOFError, KeyError, OSError, ...
        if "TorchScript" in str(error):
            raise _refused(path, str(error)) from None
        raise CheckpointError(
            f"{path} is not a complete checkpoint file ({_first_line(error)})",
            remedy="it is probably truncated: copy it again or remove it",
        ) from None


def _checked_load(path: Path) -> Any:
    archive = is_archive(path)
    try:
        mapped = check_archive(path) if archive else check_legacy(path)
    except BrokenArchiveError:
        raise
    except Exception as error:
        # Nothing of it may be read; torch, which then reads no values, knows best what is wrong.
        torch.load(path, map_location="meta", weights_only=True)
        raise BrokenArchiveError(_first_line(error)) from None
    if not mapped and archive:
        require_memory(f"the unpacked contents of {path}", packed_bytes(path), CheckpointError, share=0.5)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _refused(path: Path, reason: str) -> CheckpointError:
    """The file was not a plain state dict; nothing of it was run."""
    found = re.search(r"GLOBAL\s+(\S+)", reason)
    if found is None:
        held = "a TorchScript archive" if "TorchScript" in reason else "something other than plain tensors"
    elif found[1].startswith("torch.nn.modules."):
        held = f"a whole nn.Module ({found[1]}), and unpickling one can run any code"
    else:
        held = f"the Python object {found[1]}, and unpickling objects can run any code"
    return CheckpointError(
        f"{path} was refused: it holds {held}", expected="a state dict of plain tensors", remedy=CONVERT
    )


def _first_line(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__


def _find_state(value: Any, path: Path) -> dict[str, Tensor]:
    """The first mapping with tensors, looking through :data:`WRAPPERS`; other entries are dropped."""
    state = _unwrap(value, DEPTH)
    if state is None:
        keys = (
            ", ".join(str(key)[:60] for key in list(value)[:6])
            if isinstance(value, Mapping)
            else type(value).__name__
        )
        raise CheckpointError(
            f"{path} holds no state dict (found {keys or 'an empty dict'})",
            expected=f"tensors by name, or a dict with one of {', '.join(WRAPPERS)}",
            remedy="write it with torch.save(model.state_dict(), path)",
        )
    return state


def _unwrap(value: Any, depth: int) -> dict[str, Tensor] | None:
    if not isinstance(value, Mapping):
        return None
    inner = (_unwrap(value.get(key), depth - 1) for key in WRAPPERS) if depth else iter(())
    found = next((state for state in inner if state is not None), None)
    if found is not None:
        return found
    return {str(key): item for key, item in value.items() if isinstance(item, Tensor)} or None


def strip_prefixes(state: Mapping[str, Tensor], like: Collection[str] | None = None) -> dict[str, Tensor]:
    """Take :data:`PREFIXES` off the keys.

    With ``like``, the way of stripping that matches most of its names is taken, the least stripped
    of equals. Without it, one of :data:`ALWAYS_A_WRAPPER` goes as long as every key carries it.
    """
    if like is None:
        return _strip_common(dict(state))
    ways, names = [dict(state)], set(like)
    for way in ways:  # grows while it is walked: each way can be stripped further
        ways += [shorter for prefix in PREFIXES if (shorter := _without(prefix, way))]
    return max(ways, key=lambda way: len(names & way.keys()))  # max keeps the first of equals


def _strip_common(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in ALWAYS_A_WRAPPER:
        if all(key.startswith(prefix) for key in state):
            return _strip_common({key.removeprefix(prefix): tensor for key, tensor in state.items()})
    return state


def _without(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """``state`` without a prefix; ``None`` if no key carries it or names would clash."""
    shorter = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return shorter if shorter.keys() != state.keys() and len(shorter) == len(state) else None


def load_file(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint file that holds a complete state dict; see :func:`load_weights`."""
    load_weights(model, read_state(Path(path).expanduser(), model.state_dict()), str(path))


def load_weights(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a complete state dict; of tied tensors one is enough.

    Raises:
        CheckpointError: names or shapes do not fit the network.
    """
    own, whole = model.state_dict(keep_vars=True), dict(state)
    for keys in tied_keys(own):
        given = next((state[key] for key in keys if key in state), None)
        whole |= {} if given is None else dict.fromkeys(keys, given)
    shapes = {name: (list(whole[name].shape), list(own[name].shape)) for name in whole.keys() & own.keys()}
    wrong = [
        f"{name} has shape {came}, not {wanted}" for name, (came, wanted) in shapes.items() if came != wanted
    ]
    if not wrong:
        keys = model.load_state_dict(whole, strict=False)
        wrong += [f"{name} is missing" for name in keys.missing_keys]
        wrong += [f"{name} has no place" for name in keys.unexpected_keys]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"{source} does not fit the task's network ({', '.join(wrong[:3])}{more})",
            expected="a complete state dict of that network",
        )
