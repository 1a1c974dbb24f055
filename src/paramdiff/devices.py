"""Where tensors live: one word in the configuration, one ``torch.device`` in the code."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from paramdiff.errors import ConfigError
from paramdiff.ranks import launched

Module = TypeVar("Module", bound=nn.Module)


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
    place = launched()
    if place.world == 1 or device.type == "cpu" or device.index is not None:
        return device
    return torch.device(device.type, place.local % torch.accelerator.device_count())


def free_bytes(device: torch.device | str) -> float:
    """Free memory of an accelerator; infinite for the CPU, and where the accelerator does not tell."""
    device = torch.device(device)
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


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


def require_room(key: str, wanted: float, what: str) -> None:
    """Refuse what would not fit, before it is begun: the system would end the process in the middle of it.

    Args:
        key: the setting that asks for it.
        wanted: bytes.

    Raises:
        ConfigError: more than there is.
    """
    there = host_bytes()
    if wanted > there:
        raise ConfigError(
            key, f"{what} take {wanted / 1e9:,.1f} GB", expected=f"at most the {there / 1e9:,.1f} GB that are free",
            remedy="lower it",
        )  # fmt: skip


ROOM_TO_TRAIN = 4
"""Copies of a network's parameters that its training holds: themselves, gradients and Adam's two moments."""


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
    require_room(key, ROOM_TO_TRAIN * wanted, "a network of this size and its training")
    return build()
