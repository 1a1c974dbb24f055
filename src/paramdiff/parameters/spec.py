"""Which tensors of a network are generated, in which order: a state dict <-> one vector ``v`` of length D.

Flattening is exact. The vector's dtype holds every value of every selected tensor (float32, or
float64 if one of them is float64), so ``unflatten(flatten(state))`` gives the same bits back.

A generator may make a number that a tensor's own dtype cannot hold: float16 ends at 65,504. Such a number becomes
the nearest finite one of that dtype, never Inf; :meth:`ParameterSpec.beyond` tells where that happens.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paramdiff.errors import CheckpointError
from paramdiff.networks.structure import tied_keys
from paramdiff.parameters.selection import select_tensors

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class TensorSpec:
    """One generated tensor.

    Attributes:
        name: key in the state dict.
        shape: its shape.
        dtype: its dtype in the network, e.g. ``float16``.
        aliases: other keys of the state dict that hold the same, tied tensor.
        positive: the network needs it positive (``running_var``), so it is generated as a log.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    aliases: tuple[str, ...] = ()
    positive: bool = False

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)


@dataclass(frozen=True)
class ParameterSpec:
    """The selected tensors of a network, in state-dict order.

    Example::

        spec = ParameterSpec.from_model(model, "last_norms:2")
        v = spec.flatten(model.state_dict())        # [D]
        model.load_state_dict(spec.unflatten(v), strict=False)
    """

    tensors: tuple[TensorSpec, ...]
    select: str = "all"

    @classmethod
    def from_model(cls, model: nn.Module, select: str | Sequence[str] = "last_norms:2") -> Self:
        """Select tensors of a module; see :mod:`paramdiff.parameters.selection` for the language.

        Raises:
            SelectionError: nothing matches; the message shows near matches.
        """
        names = select_tensors(model, select)
        return cls._build(model.state_dict(keep_vars=True), names, select)

    @classmethod
    def from_state_dict(cls, state: State, select: str | Sequence[str] = "all") -> Self:
        """Select tensors of a bare state dict by name; module kinds and order need a model."""
        return cls._build(state, select_tensors(state, select), select)

    @classmethod
    def _build(cls, state: State, names: Sequence[str], select: str | Sequence[str]) -> Self:
        wanted = set(names)
        tied = [group for group in tied_keys(state) if not wanted.isdisjoint(group)]
        specs = (
            TensorSpec(
                name=group[0], shape=tuple(state[group[0]].shape),
                dtype=str(state[group[0]].dtype).removeprefix("torch."), aliases=tuple(group[1:]),
                positive=must_be_positive(group[0]),
            )
            for group in tied
        )  # fmt: skip
        return cls(tuple(specs), select if isinstance(select, str) else ",".join(select))

    @cached_property
    def dim(self) -> int:
        """D, the number of generated parameters."""
        return sum(spec.numel for spec in self.tensors)

    @cached_property
    def dtype(self) -> torch.dtype:
        """float64 if any selected tensor is float64, else float32."""
        doubles = any(spec.torch_dtype == torch.float64 for spec in self.tensors)
        return torch.float64 if doubles else torch.float32

    @property
    def names(self) -> list[str]:
        """Names of the selected tensors, without aliases."""
        return [spec.name for spec in self.tensors]

    @property
    def keys(self) -> list[str]:
        """Names of the selected tensors and of every alias."""
        return [key for spec in self.tensors for key in (spec.name, *spec.aliases)]

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each tensor lies in the vector."""
        starts, offset = {}, 0
        for spec in self.tensors:
            starts[spec.name] = slice(offset, offset + spec.numel)
            offset += spec.numel
        return starts

    @cached_property
    def positive(self) -> Tensor:
        """bool [D]: coordinates that must stay positive."""
        return torch.cat([torch.full((spec.numel,), spec.positive) for spec in self.tensors])

    def flatten(self, state: State, source: str = "the state dict") -> Float[Tensor, "D"]:
        """One vector from a complete or partial state dict; exact.

        Raises:
            CheckpointError: a selected tensor is missing or has another shape.
        """
        parts = [self._take(state, spec, source).reshape(-1).to(self.dtype) for spec in self.tensors]
        return torch.cat(parts)

    def _take(self, state: State, spec: TensorSpec, source: str) -> Tensor:
        keys = [key for key in (spec.name, *spec.aliases) if key in state]
        if not keys:
            raise CheckpointError(f"{source} has no tensor {spec.name}", expected=f"shape {list(spec.shape)}")
        for key in keys:
            _require_fit(key, state[key], spec, source)
        first = state[keys[0]].detach()
        for key in keys[1:]:
            if state[key] is not state[keys[0]] and not _same_bits(first, state[key].detach()):
                raise CheckpointError(
                    f"{source} holds different values for {keys[0]} and {key}",
                    expected="one tensor: the model ties them",
                    remedy="use a model that does not tie them",
                )
        return first.cpu()

    def unflatten(self, v: Float[Tensor, "*n D"]) -> dict[str, Tensor]:
        """Tensors by name, aliases included, in their own shapes and dtypes; leading axes are kept.

        Raises:
            CheckpointError: the vector does not have length D.
        """
        if v.shape[-1] != self.dim:
            raise CheckpointError(f"a vector of length {v.shape[-1]}", expected=f"length D = {self.dim}")
        state: dict[str, Tensor] = {}
        for spec in self.tensors:
            part = v[..., self.slices[spec.name]]
            tensor = _cast(part.reshape((*v.shape[:-1], *spec.shape)), spec.torch_dtype)
            for key in (spec.name, *spec.aliases):
                state[key] = tensor
        return state

    def beyond(self, v: Float[Tensor, "*n D"]) -> list[str]:
        """Names of the tensors with finite values that their dtype cannot hold; :meth:`unflatten` clamps them."""
        narrow = [
            spec for spec in self.tensors if torch.finfo(spec.torch_dtype).max < torch.finfo(v.dtype).max
        ]
        return [spec.name for spec in narrow if _overflows(v[..., self.slices[spec.name]], spec.torch_dtype)]

    def wider(self, state: State) -> dict[str, torch.dtype]:
        """By name, the dtypes that tensors of a state dict need beyond the spec's own to be held exactly."""
        found = {}
        for spec in self.tensors:
            given = [state[key].dtype for key in (spec.name, *spec.aliases) if key in state]
            dtype = spec.torch_dtype
            for other in given:
                dtype = dtype if other == dtype else _widest(dtype, other)
            if dtype != spec.torch_dtype:
                found[spec.name] = dtype
        return found

    def holding(self, dtypes: Mapping[str, torch.dtype]) -> "ParameterSpec":
        """The same selection with other dtypes of some tensors, by name."""
        texts = {name: str(dtype).removeprefix("torch.") for name, dtype in dtypes.items()}
        tensors = (replace(spec, dtype=texts.get(spec.name, spec.dtype)) for spec in self.tensors)
        return ParameterSpec(tuple(tensors), self.select)

    def to_json(self) -> dict[str, Any]:
        return {"select": self.select, "tensors": [asdict(spec) for spec in self.tensors]}

    @classmethod
    def from_json(cls, value: Any, source: str = "the spec") -> Self:
        """Inverse of :meth:`to_json`.

        Raises:
            CheckpointError: it is anything else.
        """
        from paramdiff.validation import LARGEST, typed

        spec = typed(value, cls, source)
        names = {str(dtype).removeprefix("torch.") for dtype in vars(torch).values() if _floating(dtype)}
        for tensor in spec.tensors:
            if tensor.dtype not in names or not all(0 <= size < LARGEST for size in tensor.shape):
                raise CheckpointError(
                    f"{source}: {tensor.name} is {tensor.dtype[:40]} of shape {list(tensor.shape)[:8]}",
                    expected="a floating type and sizes",
                )
        if len(set(spec.keys)) < len(spec.keys) or spec.dim > LARGEST:
            raise CheckpointError(f"{source}: tensors with one name", expected="each tensor once")
        return spec


def _floating(dtype: Any) -> bool:
    return isinstance(dtype, torch.dtype) and dtype.is_floating_point


def must_be_positive(name: str) -> bool:
    """Whether a network needs the tensor of that name positive: it takes the root of running variances."""
    return name.rpartition(".")[2] == "running_var"


def _widest(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    """The smallest dtype that holds the values of both; integers are left to :func:`_require_fit`."""
    if not (one.is_floating_point and other.is_floating_point):
        return one
    if min(one.itemsize, other.itemsize) == 1:  # torch has no rule for types of 8 bits
        return torch.float64 if torch.float64 in (one, other) else torch.float32
    return torch.promote_types(one, other)


def _require_fit(key: str, tensor: Tensor, spec: TensorSpec, source: str) -> None:
    if tuple(tensor.shape) != spec.shape:
        raise CheckpointError(
            f"{source} holds {key} of shape {list(tensor.shape)}", expected=f"{list(spec.shape)}"
        )
    if not tensor.is_floating_point():
        raise CheckpointError(
            f"{source} holds {key} of type {tensor.dtype}", expected=f"floating numbers ({spec.dtype})",
            remedy="undo the quantisation first",
        )  # fmt: skip


def _same_bits(a: Tensor, b: Tensor) -> bool:
    if a.data_ptr() == b.data_ptr() and a.stride() == b.stride():
        return True
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def _cast(part: Tensor, dtype: torch.dtype) -> Tensor:
    """In a tensor's own dtype; what is finite stays finite. No branch depends on values, so that it can be traced."""
    if part.dtype == dtype or torch.finfo(dtype).max >= torch.finfo(part.dtype).max:
        return part.to(dtype)
    range_ = torch.finfo(dtype)
    return torch.where(part.isinf(), part, part.clamp(range_.min, range_.max)).to(dtype)


def _overflows(part: Tensor, dtype: torch.dtype) -> bool:
    range_ = torch.finfo(dtype)
    return bool((part.isfinite() & ((part > range_.max) | (part < range_.min))).any())
