r"""Members with noise added: ``x = x_k + amplitude * N(0, I)`` for a random member k.

The baseline of the paper's figure 3b, which adds noise of amplitude 0.01 to 0.1 to raw parameters. Here the
unit is the between-checkpoint deviation of each coordinate, so one amplitude means the same for every
network and layer. In a zoo such as the paper's (last two norm layers of a ResNet-18, deviation about 0.09)
the paper's range is 0.1 to 1.1 of these units; the default 0.3 is its geometric middle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import check_range
from paramdiff.generators.base import Generator
from paramdiff.generators.probe import Probe
from paramdiff.seeds import sample_generators


@dataclass
class Noised(Generator):
    """A random member with Gaussian noise.

    Attributes:
        amplitude: deviation of the noise, in units of the zoo's between-checkpoint deviation.
    """

    name: ClassVar[str] = "noised"
    amplitude: float = 0.3

    def __post_init__(self) -> None:
        check_range("amplitude", self.amplitude, least=0)

    @property
    def label(self) -> str:
        return f"noised-{self.amplitude:g}"

    def _fit(self, x: Float[Tensor, "K D"], probe: Probe | None, folder: Path | None) -> None:
        self.members = x

    def _sample(self, indices: Sequence[int], seed: int, probe: Probe | None) -> Float[Tensor, "n D"]:
        return torch.stack([self._noised(draw) for draw in sample_generators(indices, self.name, seed)])

    def _noised(self, draw: torch.Generator) -> Float[Tensor, "D"]:
        member = self.members[int(torch.randint(len(self.members), (), generator=draw))]
        return member + self.amplitude * torch.randn(len(member), generator=draw)

    def _state(self) -> dict[str, Any]:
        return {"members": self.members}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.members = state["members"]
