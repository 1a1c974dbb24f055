"""The first layers of a network, changed to suit small images or another number of channels.

Networks made for ImageNet shrink an image by four before anything else happens: a large strided
convolution, then a maximum. For images of 32 x 32 the convolution becomes 3 x 3 and the maximum goes.
Both are found in the order of execution, not by name.
"""

from typing import Any

from torch import nn

from paramdiff.errors import TaskError
from paramdiff.networks.structure import execution_order


def small_stem(network: nn.Module, stride: int) -> list[str]:
    """Replace the first convolution by one of 3 x 3 and the maximum after it, if there is one, by nothing.

    Args:
        network: is changed.
        stride: of the new convolution.

    Returns:
        Names of the tensors that are new.

    Raises:
        TaskError: there is no convolution.
    """
    order = execution_order(network)
    conv = _first_conv(network, order)
    pool = _maximum_after(network, order, conv)
    if pool is not None:
        network.set_submodule(pool, nn.Identity())
    return _replace_conv(network, conv, kernel_size=3, stride=stride, padding=1, dilation=1)


def take_channels(network: nn.Module, channels: int) -> list[str]:
    """Replace the first convolution, if need be, by one for images with that many channels.

    Returns:
        Names of the tensors that are new.

    Raises:
        TaskError: there is no convolution.
    """
    conv = _first_conv(network, execution_order(network))
    if network.get_submodule(conv).in_channels == channels:
        return []
    return _replace_conv(network, conv, in_channels=channels)


def _first_conv(network: nn.Module, order: list[str]) -> str:
    for path in order:
        if isinstance(network.get_submodule(path), nn.Conv2d):
            return path
    raise TaskError(
        f"{type(network).__name__} has no convolution whose stem could be changed",
        remedy="leave out small_stem",
    )


def _maximum_after(network: nn.Module, order: list[str], conv: str) -> str | None:
    """The max pool of the stem: the first one, unless a strided convolution comes before it."""
    for path in order[order.index(conv) + 1 :]:
        module = network.get_submodule(path)
        if isinstance(module, nn.MaxPool2d):
            return path
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1):
            return None
    return None


def _replace_conv(network: nn.Module, path: str, **changes: Any) -> list[str]:
    old: Any = network.get_submodule(path)
    kept = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    settings = {name: getattr(old, name) for name in kept} | {"bias": old.bias is not None} | changes
    new = nn.Conv2d(**settings, device=old.weight.device, dtype=old.weight.dtype)
    network.set_submodule(path, new)
    return [f"{path}.{name}" for name, _ in new.named_parameters()]
