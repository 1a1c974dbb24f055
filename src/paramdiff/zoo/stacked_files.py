"""Members stacked in one file.

A *stack* is a file whose tensors all have one more axis than those of the network, the first, of length K. That
is how zoos are often shared: ``{"layer4.1.bn2.weight": [300, 512], ...}`` for 300 networks. Only a network can
tell such a file from a single checkpoint.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from paramdiff.errors import CheckpointError, few
from paramdiff.zoo.state_dicts import Member, read_state

State = Mapping[str, Tensor]


def find_members(file: Path, own: State) -> list[Member]:
    """One member, or one per slice of a stack.

    Args:
        file: a checkpoint.
        own: the network's state dict.

    Raises:
        CheckpointError: the file is stacked in part, or its tensors hold different numbers of members.
    """
    state = read_state(file, own)
    k = _stack_size(state, own, file)
    return [Member(file)] if k is None else [Member(file, index, state) for index in range(k)]


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
