"""Outputs of several networks for one batch, held until all networks of a group have run.

Networks run one after another, and a group can be combined only when its last member has. Running the members
of the largest group together, then those of the next, keeps few outputs waiting: as many as the largest group
has members, where every smaller group lies inside a larger one.

Equal networks run once, and equal groups are combined once: the mean of a zoo is drawn as often as other samples are.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

Group = tuple[int, ...]


def order(groups: Sequence[Group], n: int) -> list[int]:
    """All n networks once, in the order in which few outputs wait; members of a group together."""
    largest_first = sorted(groups, key=len, reverse=True)
    return list(dict.fromkeys([*(member for group in largest_first for member in group), *range(n)]))


class Waiting:
    """The outputs of one batch that a group still needs.

    Args:
        groups: networks of each; one that is named twice counts twice.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self._missing = [set(group) for group in groups]
        self._open: dict[int, set[int]] = {}
        for index, group in enumerate(groups):
            for member in group:
                self._open.setdefault(member, set()).add(index)
        self.held: dict[int, Any] = {}

    def add(self, network: int, outputs: Any) -> Iterator[tuple[int, list[Any]]]:
        """Groups that are complete with this network, and the outputs of their members.

        What no open group needs any more is freed when the caller goes on to the next one.
        """
        waiting = self._open.get(network, set())
        if waiting:
            self.held[network] = outputs
        for index in sorted(waiting):
            self._missing[index].discard(network)
            if not self._missing[index]:
                yield index, [self.held[member] for member in self.groups[index]]
                self._close(index)

    def _close(self, index: int) -> None:
        for member in set(self.groups[index]):
            self._open[member].discard(index)
            if not self._open[member]:
                del self.held[member]


def distinct(vectors: Float[Tensor, "N D"]) -> tuple[list[int], Int[Tensor, "N"]]:
    """Rows with different bits, and for every row which of those it equals: a mean is drawn N times, scored once."""
    seen: dict[bytes, int] = {}
    first: list[int] = []
    again: list[int] = []
    for row, v in enumerate(vectors.cpu()):
        digest = hashlib.blake2b(v.contiguous().view(torch.uint8).numpy()).digest()
        if digest not in seen:
            seen[digest] = len(first)
            first.append(row)
        again.append(seen[digest])
    return first, torch.tensor(again)


def distinct_groups(
    ensembles: Sequence[Sequence[int]], again: Int[Tensor, "N"]
) -> tuple[list[Group], Int[Tensor, "groups"]]:
    """Different groups of distinct networks, and for every ensemble which of those it is."""
    found: dict[Group, int] = {}
    which = []
    for ensemble in ensembles:
        group = tuple(sorted(again[list(ensemble)].tolist()))
        group = group[:1] if len(set(group)) == 1 else group  # a network with itself is that network
        which.append(found.setdefault(group, len(found)))
    return list(found), torch.tensor(which, dtype=torch.long)
