"""Small networks: those of the paper's Tables 2 and 8, and one for the digits.

Their parameter counts are checked against the paper's in ``tests/test_recipes.py``; where the paper
disagrees with itself, ``docs/decisions.md`` says what was taken.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

from torch import nn

from paramdiff.errors import TaskError, check_choice
from paramdiff.settings import Range, Ranges, check_ranges
from paramdiff.tasks.models.network import Network, Shape

CHANNELS = Range(least=1, most=65_536, items=(1, 100))
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"tanh": nn.Tanh, "gelu": nn.GELU, "relu": nn.ReLU}


@dataclass
class Mlp(Network):
    """The paper's MLP-3 by default: in -> 50 -> 25 -> classes, ReLU (Table 2).

    Attributes:
        hidden: widths of the hidden layers.
        first_bias: whether the first layer has a bias; the paper's has none.
    """

    RANGES: ClassVar[Ranges] = {"hidden": Range(least=1, most=1_000_000, items=(0, 100))}

    hidden: list[int] = field(default_factory=lambda: [50, 25])
    first_bias: bool = True

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        channels, height, width = shape
        network = nn.Sequential()
        network.add_module("flatten", nn.Flatten())
        widths = [channels * height * width, *self.hidden, classes]
        for number, (before, after) in enumerate(pairwise(widths), 1):
            if number > 1:
                network.add_module(f"relu{number - 1}", nn.ReLU())
            bias = self.first_bias or number > 1
            network.add_module(f"linear{number}", nn.Linear(before, after, bias=bias))
        return network


@dataclass
class ConvNet(Network):
    """3 x 3 convolutions, each with BatchNorm and ReLU and, after the first, stride 2; a mean; a linear head.

    With the default channels the last two norm layers hold D = 4 * 64 = 256 weights and biases.

    Attributes:
        channels: of each convolution.
    """

    RANGES: ClassVar[Ranges] = {"channels": CHANNELS}

    channels: list[int] = field(default_factory=lambda: [32, 64, 64])

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, shape: Shape, classes: int) -> nn.Module:
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


@dataclass
class ConvNet3(Network):
    """The paper's ConvNet-3 (Table 2): three times 3 x 3 convolution, norm, ReLU, 2 x 2 mean; a linear head.

    Each convolution has a bias and each image and channel is normalised by itself (instance norm as a
    GroupNorm of single channels, with weight and bias). For images of 32 x 32 that is 24,714 parameters
    with 10 classes and 70,884 with 100, the paper's counts.

    Attributes:
        channels: of each convolution.
    """

    RANGES: ClassVar[Ranges] = {"channels": CHANNELS}

    channels: list[int] = field(default_factory=lambda: [32, 32, 32])

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        channels, height, width = shape
        network = nn.Sequential()
        for number, (before, after) in enumerate(pairwise([channels, *self.channels]), 1):
            network.add_module(f"conv{number}", nn.Conv2d(before, after, 3, padding=1))
            network.add_module(f"norm{number}", nn.GroupNorm(after, after))
            network.add_module(f"relu{number}", nn.ReLU())
            network.add_module(f"pool{number}", nn.AvgPool2d(2))
            height, width = height // 2, width // 2
        _require_pixels("convnet3", shape, height * width)
        network.add_module("flatten", nn.Flatten())
        network.add_module("linear", nn.Linear(self.channels[-1] * height * width, classes))
        return network


@dataclass
class HyperCnn(Network):
    """The network of "Hyper-Representations as Generative Models" (Schürholt et al. 2022), used in Table 8.

    Convolutions 8 of 5 x 5, 6 of 5 x 5 and 4 of 2 x 2, a 2 x 2 maximum after the first two, then linear
    layers of 20 and of the classes. It is made for images of 28 x 28: 2,464 parameters for one channel,
    2,864 for three.

    Attributes:
        activation: ``tanh``, or ``gelu`` as in that paper's CIFAR-10, or ``relu``.
    """

    activation: str = "tanh"

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, ACTIVATIONS)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        channels, *sides = shape
        height, width = (((side - 4) // 2 - 4) // 2 - 1 for side in sides)
        _require_pixels("hyper_cnn", shape, min(height, width))
        activation = ACTIVATIONS[self.activation]
        return nn.Sequential(
            nn.Conv2d(channels, 8, 5), nn.MaxPool2d(2), activation(),
            nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), activation(),
            nn.Conv2d(6, 4, 2), activation(),
            nn.Flatten(), nn.Linear(4 * height * width, 20), activation(), nn.Linear(20, classes),
        )  # fmt: skip


def _require_pixels(name: str, shape: Shape, left: int) -> None:
    if left < 1:
        raise TaskError(
            f"{name} cannot take images of {'x'.join(map(str, shape))}: nothing is left of them",
            expected="larger images",
            remedy="set task.image_size",
        )
