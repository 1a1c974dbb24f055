"""Files of a mixed folder in groups: which of them hold the same network, and which hold none.

Files are of one group if they have the same tensors, by name and shape, after what wrappers put before the names
is taken off. The largest group comes first: of those that fit the network if there is one, by number of files, then
by parameters.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from paramdiff.errors import CheckpointError, ConfigError
from paramdiff.zoo.state_dicts import read_state, strip_prefixes

State = Mapping[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

SHOWN = 5
"""Groups that a message lists."""


@dataclass
class Group:
    """Files of one network.

    Attributes:
        shapes: of its tensors, by name; empty for files that hold no network.
        files: at least one, in the order in which they were found.
        fits: whether these are tensors of the task's network.
        reason: why the first file holds no network.
    """

    shapes: Shapes
    files: list[Path] = field(default_factory=list)
    fits: bool = True
    reason: str = ""

    @property
    def parameters(self) -> int:
        return sum(map(math.prod, self.shapes.values()))

    def __str__(self) -> str:
        count = f"{len(self.files)} file{'s' * (len(self.files) > 1)}"
        if not self.shapes:
            return f"{count} without a network, e.g. {self.files[0]} ({self.reason})"
        tensors = f"{len(self.shapes):,} tensor{'s' * (len(self.shapes) > 1)}"
        return f"{count} of {tensors} and {self.parameters:,} numbers, e.g. {self.files[0]}"


class MixedCheckpointsError(CheckpointError):
    """Files that are not of one network.

    Attributes:
        groups: of which networks they are.
    """

    def __init__(self, reason: CheckpointError, groups: Sequence[Group]) -> None:
        self.groups = list(groups)
        choice = "give a glob or a folder of one kind, or choose one with group=1"
        super().__init__(
            reason.came, expected=reason.expected,
            remedy=f"the files are of {len(groups)} kinds, {listed(groups)}; {choice}",
        )  # fmt: skip


def group_files(files: Iterable[Path], own: State | None = None) -> list[Group]:
    """Every file in its group; files without a network are the last.

    Args:
        files: to sort.
        own: the state dict of the network they are for, if it is known.
    """
    groups: list[Group] = []
    others = Group({}, fits=False)
    for file in files:
        try:
            state = read_state(file, own)
        except CheckpointError as error:
            others.reason = others.reason or error.came.removeprefix(str(file)).lstrip(": ")
            others.files.append(file)
            continue
        _home(state, groups, own).files.append(file)
    groups.sort(key=lambda group: (group.fits, len(group.files), group.parameters), reverse=True)
    return groups + [others] * bool(others.files)


def choose(groups: Sequence[Group], number: int) -> Group:
    """One of them, counted from 1.

    Raises:
        ConfigError: there is no such group with a network.
    """
    networks = [group for group in groups if group.shapes]
    if not 1 <= number <= len(networks):
        raise ConfigError(
            "group", f"there is no group {number}", expected=listed(groups) or "at least one file"
        )
    return networks[number - 1]


def of_group(files: Sequence[Path], own: State | None, number: int, notes: list[str]) -> list[Path]:
    """The files of one of several groups, with a note of which it is."""
    groups = group_files(files, own)
    chosen = choose(groups, number)
    if len(groups) > 1:
        notes.append(f"taken is group {number} of {len(groups)}: {chosen}")
    return chosen.files


def raise_if_mixed(error: CheckpointError, files: Sequence[Path], own: State | None) -> None:
    """Raise an error that lists the groups, if the files are of several."""
    groups = group_files(files, own)
    if len(groups) > 1:
        raise MixedCheckpointsError(error, groups) from None


def listed(groups: Sequence[Group]) -> str:
    """In one line, numbered where one can be chosen."""
    shown = [f"{f'({i}) ' if group.shapes else ''}{group}" for i, group in enumerate(groups[:SHOWN], start=1)]
    more = [f"{len(groups) - SHOWN} more"] if len(groups) > SHOWN else []
    return ", ".join(shown + more)


def _home(state: State, groups: list[Group], own: State | None) -> Group:
    """The group of a state dict, a new one if need be."""
    for group in groups:
        if _shapes(strip_prefixes(state, group.shapes)) == group.shapes:
            return group
    shapes = _shapes(state)
    fits = own is None or all(
        name in own and tuple(own[name].shape) == shape for name, shape in shapes.items()
    )
    groups.append(Group(shapes, fits=fits))
    return groups[-1]


def _shapes(state: State) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
