"""Hidden units, the axes of values along which they lie, and the axes of tensors that belong to them.

Axes of values are counted from the end, because the number of axes of a network's inputs is not known.
Units that cannot be followed are *fixed*: they keep their order, and with them everything they touch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx, nn

from paramdiff.networks.structure import tied_keys

Slot = tuple[str, int]
"""An axis of a tensor: (key in the state dict, axis)."""


class Units:
    """Hidden units of one layer, or of several that are joined (a union-find node)."""

    def __init__(self, size: int) -> None:
        self._size, self._fixed = size, False
        self._joined: Units | None = None
        self._scalable = self._odd = True

    @property
    def root(self) -> "Units":
        return self if self._joined is None else self._joined.root

    @property
    def size(self) -> int:
        return self._size

    @property
    def fixed(self) -> bool:
        return self.root._fixed

    def fix(self) -> None:
        """They cannot be reordered."""
        self.root._fixed = True

    @property
    def scalable(self) -> bool:
        """Every operation they go through gives a multiple of its result for a positive multiple of its input."""
        return self.root._scalable

    @property
    def odd(self) -> bool:
        """Every operation they go through gives the negative result for the negative input."""
        return self.root._odd

    def limit(self, scalable: bool, odd: bool) -> None:
        """They go through an operation that has these properties or lacks them."""
        self.root._scalable &= scalable
        self.root._odd &= odd

    def join(self, other: "Units") -> None:
        """Both are reordered alike from now on; units of different number cannot be, and are fixed."""
        mine, theirs = self.root, other.root
        if mine.size != theirs.size:
            mine.fix()
            theirs.fix()
        elif mine is not theirs:
            theirs._joined = mine
            mine._fixed |= theirs._fixed
            mine.limit(theirs._scalable, theirs._odd)


@dataclass(frozen=True)
class UnitSpan:
    """Units along an axis, each with ``block`` entries in a row; ``None`` before the length is known."""

    units: Units
    block: int | None = 1


@dataclass(frozen=True)
class Layout:
    """A value of the graph.

    Attributes:
        rows: the node that made its first axis; values that share it have the batch in common.
        ndim: number of axes, if known.
        run: the units in it, if any. Everything else in it keeps its order.
        axis: along which they lie, counted from the end (-1 is the last).
    """

    rows: fx.Node
    ndim: int | None = None
    run: UnitSpan | None = None
    axis: int = -1

    def fix(self) -> None:
        if self.run:
            self.run.units.fix()

    def along(self, axis: int, length: int) -> UnitSpan | None:
        """The units along an axis of known length; units that lie elsewhere or do not fit are fixed."""
        if self.run is None:
            return None
        block, rest = divmod(length, self.run.units.size)
        if self.axis == axis and rest == 0 and self.run.block in (None, block):
            return replace(self.run, block=block)
        self.fix()
        return None


@dataclass(frozen=True)
class Own:
    """A tensor of the network itself, by its key in the state dict."""

    key: str


@dataclass(frozen=True)
class Shape:
    """The shape of a value whose first axis was made by ``rows``."""

    rows: fx.Node


@dataclass(frozen=True)
class Rows:
    """The length of the axis that ``rows`` made."""

    rows: fx.Node


class Number:
    """A value that holds no units."""


Value = Layout | Own | Shape | Rows | Number


class Places:
    """Which axes of a network's tensors belong to which units.

    Every use of a tensor is recorded, so that one that is used twice (a module called twice) obeys both.
    Tied tensors keep their order.
    """

    def __init__(self, model: nn.Module) -> None:
        state = model.state_dict(keep_vars=True)
        self.shapes = {
            key: tuple(tensor.shape) for key, tensor in state.items() if isinstance(tensor, Tensor)
        }
        self._tied = {key for keys in tied_keys(state) if len(keys) > 1 for key in keys}
        self._runs: dict[Slot, UnitSpan | None] = {}
        self._roles: dict[Slot, set[str]] = {}

    def role(self, key: str, axis: int, role: str) -> None:
        """A tensor ``makes`` the units along an axis, as the rows of a matrix, or ``reads`` them, as its columns."""
        self._roles.setdefault((key, axis), set()).add(role)

    def role_of(self, slot: Slot) -> str | None:
        """The role of a tensor, if it has exactly one."""
        roles = self._roles.get(slot, set())
        return next(iter(roles)) if len(roles) == 1 else None

    def use(self, key: str, runs: Mapping[int, UnitSpan | None]) -> None:
        """A tensor, if there is one of that key, meets units along some of its axes, by axis.

        ``None`` and the axes that are not given keep their order.
        """
        for axis in range(len(self.shapes.get(key, ()))):
            self._attach((key, axis), runs.get(axis))
            if key in self._tied:
                self._attach((key, axis), None)

    def use_fixed(self, prefix: str) -> None:
        """All tensors whose keys start so keep their order."""
        for key in self.shapes:
            if key.startswith(prefix):
                self.use(key, {})

    def _attach(self, slot: Slot, run: UnitSpan | None) -> None:
        known = self._runs.setdefault(slot, run)
        if known is not None and run is not None:
            known.units.join(run.units)
            return
        for other in (known, run):
            if other is not None:
                other.units.fix()

    def groups(self) -> list[tuple[Units, dict[Slot, int]]]:
        """(units, {place: entries of a unit}) for all units that can be reordered."""
        found: dict[Units, dict[Slot, int]] = {}
        for slot, run in self._runs.items():
            if run is not None and not run.units.fixed and run.units.size > 1:
                found.setdefault(run.units.root, {})[slot] = run.block or 1
        return list(found.items())


@dataclass(frozen=True)
class Call:
    """One node of a graph with the values that go in.

    Attributes:
        node: of the graph.
        args, kwargs: its arguments, each node among them replaced by its value.
        places: where tensors are recorded.
    """

    node: fx.Node
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    places: Places

    def use(self, name: str, runs: dict[int, UnitSpan | None]) -> None:
        """A tensor of the called module meets units."""
        self.places.use(f"{self.node.target}.{name}", runs)

    def get(self, index: int, name: str, default: Any) -> Any:
        """An argument by position or name."""
        return self.args[index] if index < len(self.args) else self.kwargs.get(name, default)
