"""What every network has in common: settings that build a module for images of one shape."""

from abc import ABC, abstractmethod

from torch import nn

Shape = tuple[int, int, int]
"""(C, H, W) of an image."""


class Network(ABC):
    """Settings of a network. Subclasses are dataclasses."""

    @abstractmethod
    def build(self, shape: Shape, classes: int) -> nn.Module:
        """A fresh module from images [B, C, H, W] to logits [B, classes].

        Raises:
            TaskError: the network cannot take images of this shape.
        """
