"""What all learnt generators are configured with; every part adds its own fields to this by inheritance.

A generator's fields are flat: ``ParameterDiffusion`` inherits those of its autoencoder and of its
diffusion, and hands itself to both. So a recipe needs no nesting, and a part can be used alone.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from paramdiff.devices import choose_device
from paramdiff.ranges import SEED, Ranges, check_ranges


@dataclass
class Settings:
    """
    Attributes:
        seed: seed of initial weights, batches, noise and held-out members.
        device: ``auto`` (the accelerator if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        early_stop: end a training when more steps no longer help, before its number of steps.
    """

    RANGES: ClassVar[Ranges] = {"seed": SEED}

    seed: int = 0
    device: str = "auto"
    early_stop: bool = True

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def torch_device(self) -> torch.device:
        return choose_device(self.device)
