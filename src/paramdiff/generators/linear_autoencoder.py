r"""The optimal linear autoencoder, in closed form: principal components of the zoo.

``z = (x - mean) B^T``, ``x' = mean + z B``, with the components as rows of ``B`` [L, D].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from paramdiff.generators.context import Matrix
from paramdiff.generators.latent import Codec
from paramdiff.generators.principal_components import PrincipalComponents
from paramdiff.settings import COUNT, Ranges, check_ranges


@dataclass
class LinearAutoencoder:
    """Settings of the linear autoencoder.

    Attributes:
        components: L, principal components that are kept; fewer if the members span fewer.
    """

    RANGES: ClassVar[Ranges] = {"components": COUNT}

    components: int = 64

    def __post_init__(self) -> None:
        check_ranges(self)


class LinearCodec(Codec):
    """Principal components as a codec."""

    remedy: ClassVar[str] = "raise autoencoder.components"
    linear: ClassVar[bool] = True

    def __init__(self, settings: LinearAutoencoder) -> None:
        self.settings, self.losses = settings, []

    def fit(self, x: Matrix, folder: Path | None = None) -> None:
        self.subspace = PrincipalComponents.fit(x, self.settings.components)

    def encode(self, x: Matrix) -> Float[Tensor, "n L"]:
        return self.subspace.project(x)

    def decode(self, z: Float[Tensor, "n L"]) -> Float[Tensor, "n D"]:
        return self.subspace.expand(z)

    def state_dict(self) -> dict[str, Any]:
        return self.subspace.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.subspace = PrincipalComponents.from_state(state)
