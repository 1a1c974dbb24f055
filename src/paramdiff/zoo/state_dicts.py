"""One checkpoint file -> one flat state dict, without ever running code that came with the file.

Safetensors hold nothing but tensors. ``.pt/.pth/.th/.ckpt/.bin`` files (and the ``.pth.tar`` of some scripts) are
pickles: they are read with torch's ``weights_only`` unpickler, which builds tensors and plain containers and refuses
the rest (:mod:`paramdiff.zoo.pickles`). A network in several files
is read from their index (``model.safetensors.index.json``).
What training scripts wrap around a state dict (an outer dict, ``module.`` of DataParallel,
``_orig_mod.`` of ``torch.compile``, ``model.`` of Lightning) is taken off.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paramdiff.errors import CheckpointError, few
from paramdiff.files import load_tensors, read_json, require_file, why_not
from paramdiff.networks.structure import tied_keys

State = Mapping[str, Tensor]

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin", ".tar")
"""Files that count as checkpoints when a folder or a glob is searched; see :func:`looks_like_one`."""

OF_ANYTHING = (".bin", ".tar")
"""Suffixes that say little: such a file counts only if it begins as a checkpoint does."""

BEGINNINGS = (b"PK\x03\x04", b"\x80")
"""First bytes of what ``torch.save`` writes: a zip archive, and the pickle of older versions."""

INDEX = ".index.json"
"""End of the name of a file that tells in which files the tensors of one network are."""

FILE = "a checkpoint file"

ORDINARY = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64)
"""Types of numbers that need no look by :mod:`paramdiff.zoo.dense_tensors`."""

WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "ema")
"""Keys under which training scripts keep the state dict, in order of preference."""

DEPTH = 2
"""How many wrapping dicts are looked through, as in ``{"model": {"state_dict": ...}}``."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers put before every key."""

ALWAYS_A_WRAPPER = ("module.", "_orig_mod.")
"""Prefixes that go without knowing the network. ``model.`` may well be an attribute of its own."""


def read_state(path: Path, like: Collection[str] | None = None) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, memory-mapped where the format allows it.

    Args:
        path: a ``.safetensors`` file, or anything ``torch.save`` wrote.
        like: names the tensors should have; decides which prefixes are taken off. Without it a
            prefix of :data:`ALWAYS_A_WRAPPER` goes if every key carries it.

    Raises:
        CheckpointError: missing, truncated, unsafe, or without tensors.
    """
    return strip_prefixes(_read(path), like)


def _read(path: Path) -> dict[str, Tensor]:
    if path.name.endswith(INDEX):
        return _read_shards(path)
    require_file(path, expected=FILE)
    if path.suffix == ".safetensors":
        state = _find_state(load_tensors(path), path)
        if all(tensor.dtype in ORDINARY for tensor in state.values()):
            return state
    else:
        from paramdiff.zoo.pickles import load_pickle

        state = _find_state(load_pickle(path), path)
    from paramdiff.zoo.dense_tensors import plain_state

    return plain_state(state, path)


def looks_like_one(path: Path) -> bool:
    """Whether a file counts as a checkpoint when a folder is searched."""
    if path.name.endswith(INDEX):
        return path.name.removesuffix(INDEX).endswith(SUFFIXES) and not why_not(path)
    if path.suffix not in SUFFIXES or why_not(path):
        return False
    if path.suffix not in OF_ANYTHING:
        return True
    with path.open("rb") as stream:
        return stream.read(4).startswith(BEGINNINGS)


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


@dataclass(frozen=True)
class Member:
    """Where one member is read from.

    Attributes:
        file: its checkpoint, or a stack.
        index: its place in a stack; None for a file of its own.
        stack: what its file holds, if that is a stack; read once for all members.
    """

    file: Path
    index: int | None = None
    stack: State | None = field(default=None, compare=False, repr=False)

    def read(self, like: State | None = None) -> dict[str, Tensor]:
        """Its state dict, memory-mapped where the format allows it (:func:`read_state`)."""
        if self.index is None:
            return read_state(self.file, like)
        stack = read_state(self.file, like) if self.stack is None else self.stack
        return {name: t[self.index] for name, t in stack.items()}

    @property
    def name(self) -> str:
        return self.file.name + self._place

    def __str__(self) -> str:
        return f"{self.file}{self._place}"

    @property
    def _place(self) -> str:
        return "" if self.index is None else f"[{self.index}]"


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
        given = [state[key] for key in keys if key in state]
        if given:
            whole |= dict.fromkeys(keys, given[0])
    wrong = _wrong_shapes(whole, own)
    if not wrong:
        keys = model.load_state_dict(whole, strict=False)
        wrong += [f"{name} is missing" for name in keys.missing_keys]
        wrong += [f"{name} has no place" for name in keys.unexpected_keys]
    if wrong:
        raise CheckpointError(
            f"{source} does not fit the task's network ({few(wrong)})",
            expected="a complete state dict of that network",
        )


def _wrong_shapes(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """What is wrong with the shapes of tensors that a network has as well, in words."""
    found = []
    for name in state.keys() & own.keys():
        came, wanted = list(state[name].shape), list(own[name].shape)
        if came != wanted:
            found.append(f"{name} has shape {came}, not {wanted}")
    return found


def differing(state: Mapping[str, Tensor], other: Mapping[str, Tensor], names: Iterable[str]) -> list[str]:
    """Those of ``names`` whose tensors are not equal, or in one of the states only.

    The batch counter of BatchNorm is passed over: nothing reads it in evaluation.
    """

    def same(name: str) -> bool:
        if name not in state or name not in other:
            return name not in state and name not in other
        ours, theirs = state[name], other[name]
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)

    return [name for name in names if not name.endswith("num_batches_tracked") and not same(name)]
