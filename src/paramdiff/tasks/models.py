"""Small networks by name. The settings of each are a dataclass whose ``build`` makes the module.

A user's own network is ``package.module:attr``: anything that, called with the options, returns a module.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

from torch import nn

from paramdiff.errors import ConfigError, TaskError, check_range, near
from paramdiff.tasks.lookup import load_attribute


class Network(ABC):
    """Settings of a network for images of one shape."""

    @abstractmethod
    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """A fresh module from images [B, C, H, W] to logits [B, classes]."""


@dataclass
class Mlp(Network):
    """The paper's MLP-3 by default: in -> 50 -> 25 -> classes, ReLU (Table 2).

    With all biases that is 155,185 parameters for CIFAR-10 (the paper counts 155,135: no bias in the
    first layer) and 40,785 for MNIST (the paper's 39,760 is the size of 784 -> 50 -> 10).

    Attributes:
        hidden: widths of the hidden layers.
    """

    hidden: list[int] = field(default_factory=lambda: [50, 25])

    def __post_init__(self) -> None:
        for width in self.hidden:
            check_range("hidden", width, least=1)

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        channels, height, width = shape
        network = nn.Sequential()
        network.add_module("flatten", nn.Flatten())
        widths = [channels * height * width, *self.hidden, classes]
        for number, (before, after) in enumerate(pairwise(widths), 1):
            if number > 1:
                network.add_module(f"relu{number - 1}", nn.ReLU())
            network.add_module(f"linear{number}", nn.Linear(before, after))
        return network


@dataclass
class ConvNet(Network):
    """3 x 3 convolutions, each with BatchNorm and ReLU and, after the first, stride 2; a mean; a linear head.

    With the default channels the last two norm layers hold D = 4 * 64 = 256 weights and biases.

    Attributes:
        channels: of each convolution.
    """

    channels: list[int] = field(default_factory=lambda: [32, 64, 64])

    def __post_init__(self) -> None:
        check_range("channels", len(self.channels), least=1)
        for channels in self.channels:
            check_range("channels", channels, least=1)

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        network = nn.Sequential()
        for number, (before, after) in enumerate(pairwise([shape[0], *self.channels]), 1):
            stride = 1 if number == 1 else 2
            conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
            network.add_module(f"conv{number}", conv)
            network.add_module(f"norm{number}", nn.BatchNorm2d(after))
            network.add_module(f"relu{number}", nn.ReLU())
        network.add_module("pool", nn.AdaptiveAvgPool2d(1))
        network.add_module("flatten", nn.Flatten())
        network.add_module("head", nn.Linear(self.channels[-1], classes))
        return network


NETWORKS: dict[str, type[Network]] = {"convnet": ConvNet, "mlp": Mlp}


def make_network(
    name: str, options: Mapping[str, Any], shape: tuple[int, int, int], classes: int
) -> nn.Module:
    """A fresh module by name.

    Raises:
        ConfigError: no such network or option; keys ``model`` and ``model_options``.
        TaskError: a user's own network cannot be imported, or is not a module.
    """
    return _own(name, options) if ":" in name else _settings(name, options).build(shape, classes)


def _settings(name: str, options: Mapping[str, Any]) -> Network:
    if name not in NETWORKS:
        raise ConfigError(
            "model", f"{name!r} is not known", expected=f"{', '.join(NETWORKS)} or package.module:attr",
            remedy=near(name, NETWORKS),
        )  # fmt: skip
    kind = NETWORKS[name]
    known = [item.name for item in fields(kind)]  # type: ignore[arg-type]  # every kind is a dataclass
    for key in options:
        if key not in known:
            raise ConfigError(f"model_options.{key}", f"{name} has no such option", remedy=near(key, known))
    try:
        return kind(**options)
    except ConfigError as error:
        raise error.under("model_options") from None
    except TypeError as error:
        raise ConfigError("model_options", f"{dict(options)} do not fit {name} ({error})") from None


def _own(name: str, options: Mapping[str, Any]) -> nn.Module:
    build = load_attribute(name)
    try:
        network = build(**options)
    except Exception as error:  # whatever a user's code raises
        raise TaskError(
            f"{name} called with {dict(options)} failed ({type(error).__name__}: {error})",
            remedy="set task.model_options to what it takes",
        ) from error
    if not isinstance(network, nn.Module):
        raise TaskError(f"{name} returned a {type(network).__name__}", expected="a torch.nn.Module")
    return network
