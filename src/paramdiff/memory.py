"""Whether something fits into the memory that there is, before any work is done for it."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from paramdiff.errors import ConfigError, ParamdiffError
from paramdiff.progress import room, say

Module = TypeVar("Module", bound=nn.Module)

WORTH_SAYING = 1e9
"""Bytes from which on a person is told."""

TO_TRAIN = 4
"""Copies of a network's parameters that its training holds: themselves, gradients and Adam's two moments."""


def host_bytes() -> int:
    """Memory that this process may still take: what the machine has free, within the limit of its container."""
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [limit - used for limit, used in _container_limits()]
    return int(max(0, min(free, *limits)))


def _container_limits() -> Iterator[tuple[float, float]]:
    """(most, taken without caches) of the control groups of this process, first a pair that sets no limit."""
    yield float("inf"), 0
    for folder, most, taken in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            limit, used, stat = (Path(folder, name).read_text() for name in (most, taken, "memory.stat"))
            cached = sum(
                int(line.split()[1]) for line in stat.splitlines() if line.startswith("inactive_file ")
            )
            yield float(limit), float(used) - cached
        except (OSError, ValueError):  # no such group, or no limit ("max")
            continue


def require_memory(
    what: str, wanted: float, error: Callable[..., ParamdiffError], remedy: str = "", share: float = 1
) -> None:
    """Refuse what would not fit: the system would end the process in the middle of it. Say what is large.

    Args:
        what: in words, a plural.
        wanted: bytes.
        error: what is raised, e.g. ``ZooError``; called as they are.
        remedy: what to do about it.
        share: of the free memory that it may take.

    Raises:
        ParamdiffError: of the kind ``error``: more than there is.
    """
    free = host_bytes()
    if wanted > share * free:
        limit = f"at most the {room(free)} that are free"
        raise error(
            f"{what} take {room(wanted)} of memory",
            expected=limit if share == 1 else f"no more than {share:.0%} of the {room(free)} that are free",
            remedy=remedy,
        )
    if wanted > WORTH_SAYING:
        say(f"  {what} take {room(wanted)} of memory; {room(free)} are free")


def made_if_fits(key: str, build: Callable[[], Module]) -> Module:
    """``build()``, unless training the network would take more memory than there is.

    The network is first made on torch's meta device, where tensors have shapes and no values. What cannot be made
    there is built without being measured.

    Raises:
        ConfigError: naming ``key``.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            wanted = sum(tensor.nbytes for tensor in build().state_dict().values())
    except Exception:  # whatever a constructor minds about tensors without values; if it was something else,
        wanted = 0  # it is raised again below
    require_memory(
        "a network of this size and its training", TO_TRAIN * wanted, partial(ConfigError, key), "lower it"
    )
    return build()
