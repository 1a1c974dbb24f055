"""Where tensors live and whether they fit there: devices, threads and memory, checked before any work is done.

What does not fit at once is read block by block, or a few of many rows are looked at, evenly spread, so that a
trajectory is seen from end to end. How large a block may be is a budget in numbers. Sums over blocks depend on it in
their last bits, so there is one for each use.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from paramdiff.errors import ConfigError, ParamdiffError
from paramdiff.progress import room, say

Module = TypeVar("Module", bound=nn.Module)

WORTH_SAYING = 1e9
"""Bytes from which on the user is told."""

TO_TRAIN = 4
"""Copies of a network's parameters that its training holds: themselves, gradients and Adam's two moments."""

IN_CACHE = 1 << 20
"""Numbers that stay in a processor's cache: 4 MiB."""

IN_DOUBLE = 1 << 22
"""Numbers that are converted to float64 at once: 32 MiB."""

READ_AT_ONCE = 1 << 24
"""Numbers of members that are read at once: 64 MiB."""

NETWORKS_AT_ONCE = 1 << 26
"""Numbers of complete networks that are in memory together: 256 MiB."""


def choose_device(word: str = "auto") -> torch.device:
    """``auto`` takes the accelerator torch reports, else the CPU.

    Where several processes were started each takes an accelerator of its own, unless the word names one; if
    there are more processes than accelerators on the machine, some share.

    Raises:
        ConfigError: a device this machine does not have.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if word == "auto":
        return _own(accelerator) if accelerator else torch.device("cpu")
    try:
        device = torch.device(word)
    except RuntimeError:
        raise ConfigError(
            "device", f"{word!r} is not a device", expected="auto, cpu, cuda, cuda:1, ..."
        ) from None
    if device.type != "cpu" and (accelerator is None or device.type != accelerator.type):
        here = accelerator.type if accelerator else "cpu only"
        raise ConfigError("device", f"{word!r} is not on this machine", expected=f"auto or cpu ({here} here)")
    return _own(device)


def _own(device: torch.device) -> torch.device:
    """One of several devices of a kind for each process."""
    if device.type == "cpu" or device.index is not None:
        return device
    from paramdiff.distributed import launched_rank

    place = launched_rank()
    return (
        device
        if place.world == 1
        else torch.device(device.type, place.local % torch.accelerator.device_count())
    )


def free_bytes(device: torch.device | str) -> float:
    """Free memory of an accelerator; infinite for the CPU, and where the accelerator does not tell."""
    device = torch.device(device)
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


SMALL = 100_000
"""Parameters of a network, or of a vector to learn, below which work is too small to share among threads."""


def size(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


@contextmanager
def suitable_threads(parameters: int, few: int = SMALL) -> Iterator[None]:
    """One CPU thread inside if there are fewer than ``few`` parameters; as before afterwards.

    Threads that meet after every tiny operation gain nothing on an idle machine and wait for each other on a
    busy one: fitting p-diff to D = 2,048 beside another job took 24 s with one thread, 154 s with two.
    """
    before = torch.get_num_threads()
    if parameters < few:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
        error: the class of error that is raised, e.g. ``ZooError``.
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


def evenly_spaced(n: int, most: int) -> Int[Tensor, "m"]:
    """Indices of at most ``most`` of n rows, the first and the last among them."""
    return torch.linspace(0, n - 1, min(n, most)).round().long()


def blocks(n: int, size: int, start: int = 0) -> Iterator[slice]:
    """All of n rows from ``start`` on in slices of ``size``; the last one may be shorter."""
    stop = start + n
    return (slice(first, min(first + size, stop)) for first in range(start, stop, size))


def pieces_within(budget: int, each: int) -> int:
    """How many rows or columns of ``each`` numbers stay within a budget; at least one."""
    return max(1, budget // max(1, each))
