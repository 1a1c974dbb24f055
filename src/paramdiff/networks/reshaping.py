"""Units through operations that rearrange a value: flattening, reordered axes, sums over axes, shapes.

Rules as in :mod:`paramdiff.networks.unit_propagation`: the layout of the result, or ``None`` if not understood.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from paramdiff.networks.hidden_units import Call, Layout, Number, Rows, Shape, Value


def flatten_module(call: Call, module: nn.Flatten, x: Layout) -> Layout | None:
    return _flattened(x, module.start_dim, module.end_dim)


def _flatten(call: Call, x: Any) -> Layout | None:
    if not isinstance(x, Layout):
        return None
    return _flattened(x, call.get(1, "start_dim", 0), call.get(2, "end_dim", -1))


def _flattened(x: Layout, start: int, end: int) -> Layout | None:
    """Units of the first of the joined axes become runs, as long as the other joined axes together."""
    if x.ndim is None:
        # Units of unknown front axis are those of a linear layer, and last. If there are axes between
        # them and the batch, the next layer finds that they do not fit.
        return replace(x, ndim=2) if start == 1 and end == -1 and x.axis == -1 else None
    start, end = start % x.ndim, end % x.ndim
    ndim, front = x.ndim - (end - start), x.ndim + x.axis
    if start == 0:
        return None
    if x.run is None:
        return Layout(x.rows, ndim)
    if start < front <= end:
        return None
    if front == start:
        run = replace(x.run, block=None) if end > start else x.run
        return Layout(x.rows, ndim, run, start - ndim)
    return replace(x, ndim=ndim, axis=x.axis if front > end else front - ndim)


def _reshape(call: Call, x: Any) -> Layout | None:
    """``(rows, everything else)``, as before a linear layer; or ``(-1, units)``."""
    sizes = call.args[1] if len(call.args) == 2 and isinstance(call.args[1], tuple | list) else call.args[1:]
    if not isinstance(x, Layout) or len(sizes) != 2 or call.kwargs:
        return None
    first, last = sizes
    if isinstance(first, Rows) and first.rows is x.rows:
        return _flattened(x, 1, -1)
    if first != -1 or not isinstance(last, int):
        return None
    if x.run and x.axis == -1 and x.run.block and last == x.run.units.size * x.run.block:
        return Layout(call.node, 2, x.run)
    flat = _flattened(x, 1, -1)
    run = flat.along(-1, last) if flat else None
    return flat and replace(flat, rows=call.node, run=run)


def _permute(call: Call, x: Any) -> Layout | None:
    order = call.args[1] if isinstance(call.args[1], tuple | list) else call.args[1:]
    if not isinstance(x, Layout) or not all(isinstance(axis, int) for axis in order):
        return None
    ndim = len(order)
    from_end = [axis % ndim - ndim for axis in order]
    rows = x.rows if from_end[0] == -ndim else call.node
    return Layout(rows, ndim, x.run, from_end.index(x.axis) - ndim)


def _transpose(call: Call, x: Any) -> Layout | None:
    a, b = call.get(1, "dim0", None), call.get(2, "dim1", None)
    if not isinstance(x, Layout) or x.ndim is None or not isinstance(a, int) or not isinstance(b, int):
        return None
    a, b = a % x.ndim - x.ndim, b % x.ndim - x.ndim
    rows = call.node if -x.ndim in (a, b) else x.rows
    return replace(x, rows=rows, axis={a: b, b: a}.get(x.axis, x.axis))


def _reduce(call: Call, x: Any) -> Layout | None:
    """A sum or mean over units does not depend on their order."""
    axes = call.get(1, "dim", call.kwargs.get("axis"))
    keep = call.get(2, "keepdim", False)
    if not isinstance(x, Layout) or not {"dim", "axis", "keepdim", "dtype"}.issuperset(call.kwargs):
        return None
    if axes is None:
        return Layout(call.node)
    axes = [axes] if isinstance(axes, int) else list(axes)
    if x.ndim is None and any(axis >= 0 for axis in axes):
        return None
    gone = {axis % x.ndim - x.ndim if x.ndim else axis for axis in axes}
    rows = x.rows if x.ndim and -x.ndim not in gone else call.node
    ndim = x.ndim and (x.ndim if keep else x.ndim - len(gone))
    if x.axis in gone:
        return Layout(rows, ndim)
    after = 0 if keep else sum(axis > x.axis for axis in gone)
    return Layout(rows, ndim, x.run, x.axis + after)


def _size(call: Call, x: Any) -> Value | None:
    if not isinstance(x, Layout):
        return None
    if len(call.args) == 1:
        return Shape(x.rows)
    return Rows(x.rows) if call.args[1] == 0 else Number()


def _attribute(call: Call, x: Any) -> Value | None:
    if not isinstance(x, Layout) or call.args[1] not in ("shape", "dtype", "device", "ndim"):
        return None
    return Shape(x.rows) if call.args[1] == "shape" else Number()


def _item(call: Call, x: Any) -> Value | None:
    if not isinstance(x, Shape):
        return None
    return Rows(x.rows) if call.args[1] == 0 else Number()


RULES: dict[str, Callable[[Call, Any], Value | None]] = {
    "flatten": _flatten, "reshape": _reshape, "view": _reshape, "permute": _permute, "transpose": _transpose,
    **dict.fromkeys(("mean", "sum", "amax", "amin"), _reduce),
    "size": _size, "getattr": _attribute, "getitem": _item,
}  # fmt: skip
