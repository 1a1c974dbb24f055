"""Where tensors live: one word in the configuration, one ``torch.device`` in the code."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from paramdiff.distributed import launched_rank
from paramdiff.errors import ConfigError


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
    place = launched_rank()
    if place.world == 1 or device.type == "cpu" or device.index is not None:
        return device
    return torch.device(device.type, place.local % torch.accelerator.device_count())


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
