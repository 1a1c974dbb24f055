"""A network around its generated tensors: with it, a parameter vector becomes a complete state dict.

It is what a generator keeps of the zoo it was fitted to, so that its samples can be used without the originals. The
values that the zoo's members have in the generated tensors are no part of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypedDict

from jaxtyping import Float
from torch import Tensor

from paramdiff.errors import CheckpointError
from paramdiff.parameters.spec import ParameterSpec


class Stored(TypedDict):
    """A network as a saved generator holds it."""

    spec: dict[str, Any]
    names: list[str]
    frozen: dict[str, Any]


@dataclass(frozen=True)
class Network:
    """The frozen rest of a network, and where the generated tensors belong in it.

    Attributes:
        spec: the generated tensors.
        frozen: every other tensor of the state dict, by name.
        names: all names of the state dict, in its order.
    """

    spec: ParameterSpec
    frozen: Mapping[str, Tensor]
    names: tuple[str, ...]

    @classmethod
    def around(cls, spec: ParameterSpec, base: Mapping[str, Tensor]) -> Self:
        """The network with the complete state dict ``base``."""
        generated = set(spec.keys)
        frozen = {name: tensor for name, tensor in base.items() if name not in generated}
        return cls(spec, frozen, tuple(dict.fromkeys([*base, *spec.keys])))

    @property
    def size(self) -> int:
        """Numbers in a complete state dict; tied tensors that are generated count once."""
        return self.spec.dim + sum(tensor.numel() for tensor in self.frozen.values())

    def state_dict(self, v: Float[Tensor, "D"]) -> dict[str, Tensor]:
        """A complete state dict, in the dtypes of the network: the frozen rest joined with one vector.

        Tied names hold one tensor, and the frozen tensors are those of this network, not copies.

        Raises:
            CheckpointError: the vector does not have length D.
        """
        state = {**self.frozen, **self.spec.unflatten(v)}
        return {name: state[name] for name in self.names}

    def stored(self) -> Stored:
        """As tensors and JSON values."""
        return {"spec": self.spec.to_json(), "names": list(self.names), "frozen": dict(self.frozen)}

    @classmethod
    def restored(cls, value: Any, source: str) -> Self:
        """Inverse of :meth:`stored`.

        Raises:
            CheckpointError: it is anything else.
        """
        from paramdiff.validation import typed

        found = typed(value, Stored, source)
        spec, frozen = ParameterSpec.from_json(found["spec"], f"{source}.spec"), found["frozen"]
        names, keys = found["names"], [*frozen, *spec.keys]
        if len(names) != len(keys) or set(names) != set(keys):
            raise CheckpointError(
                f"{source} names {len(names)} tensors", expected=f"each of its {len(keys)} once"
            )
        strange = [name for name, tensor in frozen.items() if not isinstance(tensor, Tensor)]
        if strange:
            raise CheckpointError(f"{source}.frozen.{strange[0]} is no tensor", expected="tensors by name")
        return cls(spec, frozen, tuple(names))
