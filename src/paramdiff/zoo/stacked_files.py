"""Members in files: one each, or all of them stacked in one.

A *stack* is a file whose tensors all have one more axis than those of the network, the first, of length K. That
is how zoos are often shared: ``{"layer4.1.bn2.weight": [300, 512], ...}`` for 300 networks. Only a network can
tell such a file from a single checkpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from paramdiff.errors import CheckpointError
from paramdiff.zoo.state_dicts import read_state

State = Mapping[str, Tensor]

FEW = 3
"""How many names a message lists."""


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
        """Its state dict, memory-mapped where the format allows it (:func:`paramdiff.zoo.state_dicts.read_state`)."""
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


def find_members(files: Sequence[Path], own: State | None) -> list[Member]:
    """A member per file, or per slice of a stack if that is the only file.

    Args:
        files: at least one.
        own: the network's state dict, if it is known.

    Raises:
        CheckpointError: a file is stacked in part, or its tensors hold different numbers of members.
    """
    if own is None or len(files) > 1:
        return [Member(file) for file in files]
    state = read_state(files[0], own)
    k = _stack_size(state, own, files[0])
    return [Member(files[0])] if k is None else [Member(files[0], index, state) for index in range(k)]


def _stack_size(state: State, own: State, file: Path) -> int | None:
    """K of a stack; None for anything else."""
    if not state.keys() <= own.keys():
        return None  # of another network; importing says so
    sizes = {
        name: len(t) for name, t in state.items() if t.ndim and t.shape[1:] == own[name].shape and len(t) > 1
    }
    single = [name for name in state if name not in sizes]
    if not sizes:
        return None
    if single:
        raise CheckpointError(
            f"{file} holds several members of {few(list(sizes))} but one of {few(single)}",
            expected="either a checkpoint or a stack, in which every tensor has the members as its first axis",
            remedy="leave what is not stacked out of it, and give that with zoo.weights",
        )  # fmt: skip
    (first, k), *others = sizes.items()
    for name, size in others:
        if size != k:
            raise CheckpointError(f"{file} holds {k} members of {first} and {size} of {name}",
                                  expected="the same members in every tensor")  # fmt: skip
    return k


def few(names: Sequence[str], most: int = FEW) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
