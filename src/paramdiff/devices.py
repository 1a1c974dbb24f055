"""Where tensors live: one word in the configuration, one ``torch.device`` in the code."""

import torch

from paramdiff.errors import ConfigError


def choose_device(word: str = "auto") -> torch.device:
    """``auto`` takes the accelerator torch reports, else the CPU.

    Raises:
        ConfigError: a device this machine does not have.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if word == "auto":
        return accelerator or torch.device("cpu")
    device = torch.device(word)
    if device.type != "cpu" and (accelerator is None or device.type != accelerator.type):
        here = accelerator.type if accelerator else "cpu only"
        raise ConfigError("device", f"{word!r} is not on this machine", expected=f"auto or cpu ({here} here)")
    return device
