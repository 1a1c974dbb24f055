"""Residual networks for CIFAR-10 (He et al. 2015, section 4.2) with parameter-free shortcuts, "option A".

``6 n + 2`` layers: a 3 x 3 convolution; three stages of ``n`` basic blocks with 16, 32 and 64 channels, of
which the second and third start with stride 2; a mean over the image; a linear layer. Where the size
changes, the shortcut takes every second pixel and pads the new channels with zeros.

Names of the tensors are those of the files that are widely shared for these networks (``layer1.0.conv1``,
``linear``), so that they load. The initialisation is He's, as there.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from torch import nn
from torch.nn import functional

from paramdiff.tasks.models.network import Network, Shape

WIDTHS = (16, 16, 32, 64)

Images = Any
"""A tensor [B, C, H, W]. Not checked: these modules are also called with the proxies of ``torch.fx``."""


class Block(nn.Module):
    """``relu(shortcut(x) + bn2(conv2(relu(bn1(conv1(x))))))``."""

    def __init__(self, came: int, goes: int) -> None:
        super().__init__()
        self.stride, self.new = goes // came, goes - came
        self.conv1 = nn.Conv2d(came, goes, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(goes)
        self.conv2 = nn.Conv2d(goes, goes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(goes)

    def forward(self, x: Images) -> Images:
        h = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.shortcut(x) + self.bn2(self.conv2(h)))

    def shortcut(self, x: Images) -> Images:
        if not self.new:
            return x
        half = self.new // 2
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.new - half))


class ResNet(nn.Module):
    """The network with ``blocks`` blocks per stage."""

    def __init__(self, channels: int, blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Block(came, goes), *(Block(goes, goes) for _ in range(blocks - 1)))
            for came, goes in pairwise(WIDTHS)
        )
        self.linear = nn.Linear(WIDTHS[-1], classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Images) -> Any:
        h = functional.relu(self.bn1(self.conv1(x)))
        h = self.layer3(self.layer2(self.layer1(h)))
        return self.linear(h.mean((2, 3)))


@dataclass
class CifarResNet(Network):
    """``cifar_resnet20``; there are no other options than the depth in the name."""

    depth: ClassVar[int] = 20

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return ResNet(shape[0], (self.depth - 2) // 6, classes)


CIFAR_RESNETS: dict[str, type[Network]] = {
    f"cifar_resnet{depth}": type(f"CifarResNet{depth}", (CifarResNet,), {"depth": depth})
    for depth in (20, 32, 44, 56, 110)
}
