"""What each operation of a traced graph does to the hidden units in its inputs.

An operation does one of four things: it keeps units along an axis (elementwise functions, pooling,
flattening), it meets them with a tensor, one of whose axes then belongs to them (the next layer, a norm),
it sums them out, or it joins them with others (a residual sum). A rule returns the layout of the result, or
``None`` if the operation is not understood in this use.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from paramdiff.networks.hidden_units import Call, Layout, Number, Own, Units, UnitSpan, Value
from paramdiff.networks.reshaping import RULES, flatten_module
from paramdiff.networks.structure import evaluating
from paramdiff.networks.unit_scaling import CONVOLUTIONS, DROPOUTS, function_name


def apply_module(call: Call, module: Any) -> Value | None:
    """The rule of a module that is called with one value; a hook may do anything."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    if hooked or call.kwargs or len(call.args) != 1 or not isinstance(call.args[0], Layout):
        return None
    kind, x = type(module), call.args[0]
    if kind in _MODULES:
        return _MODULES[kind](call, module, x)
    spatial = _SPATIAL.fullmatch(kind.__name__) if kind.__module__.startswith("torch.nn.modules.") else None
    return _keep_before(x, int(spatial[1])) if spatial else _tried(call, module, x)


def apply_function(call: Call) -> Value | None:
    """The rule of a function or method, by its name."""
    name = function_name(call.node).rstrip("_")
    if name in _ELEMENTWISE:
        return _elementwise(call)
    if name in _FUNCTIONS and call.args:
        return _FUNCTIONS[name](call, call.args[0])
    spatial = _SPATIAL_FUNCTION.fullmatch(name)
    return _keep_before(call.args[0], int(spatial[1])) if spatial and call.args else None


# Layers that read units and start new ones


def _linear(call: Call, module: nn.Linear, x: Layout) -> Layout:
    return _read(call, x, f"{call.node.target}.weight", f"{call.node.target}.bias")


def _linear_function(call: Call, x: Any) -> Layout | None:
    """``linear(x, weight, bias)`` with tensors of the network, as in a layer derived from torch's."""
    weight, bias = call.get(1, "weight", None), call.get(2, "bias", None)
    if not isinstance(x, Layout) or not isinstance(weight, Own) or not isinstance(bias, Own | Number | None):
        return None
    return _read(call, x, weight.key, bias.key if isinstance(bias, Own) else "")


def _read(call: Call, x: Layout, weight: str, bias: str) -> Layout:
    """The last axis is read by a matrix, whose rows are new units."""
    width, length = call.places.shapes[weight]
    out = UnitSpan(Units(width))
    call.places.use(weight, {0: out, 1: x.along(-1, length)})
    call.places.use(bias, {0: out})
    _roles(call, weight, 0, 1, bias)
    return Layout(x.rows, x.ndim, out)


def _roles(call: Call, weight: str, makes: int, reads: int, bias: str) -> None:
    call.places.role(weight, makes, "makes")
    call.places.role(weight, reads, "reads")
    call.places.role(bias, 0, "makes")


def _convolution(call: Call, module: Any, x: Layout) -> Layout:
    axis, into = -1 - len(module.kernel_size), int(not module.transposed)
    read = x.along(axis, module.in_channels)
    if module.groups == 1:
        out: UnitSpan | None = UnitSpan(Units(module.out_channels))
        call.use("weight", {into: read, 1 - into: out})
        _roles(call, f"{call.node.target}.weight", 1 - into, into, f"{call.node.target}.bias")
    elif module.groups == module.in_channels and read and read.block:  # depthwise
        out = replace(read, block=read.block * module.out_channels // module.in_channels)
        call.use("weight", {0: read if module.transposed else out})
    else:
        x.fix()
        out = None
        call.use("weight", {})
    call.use("bias", {0: out})
    return Layout(x.rows, x.ndim or 1 - axis, out, axis)


# Layers that scale units


def _channelwise(call: Call, module: nn.Module, x: Layout) -> Layout:
    """Every channel on its own, or all alike: BatchNorm, InstanceNorm, PReLU, some GroupNorm."""
    size = next(getattr(module, name) for name in _CHANNELS if hasattr(module, name))
    axis = _CHANNEL_AXIS.get(type(module), -1) if x.ndim is None else 1 - x.ndim
    run = x.along(axis, size)
    for name in module.state_dict():
        call.use(name, {0: run})
    return replace(x, run=run)


def _group_norm(call: Call, module: nn.GroupNorm, x: Layout) -> Layout | None:
    whole = module.num_groups in (1, module.num_channels)
    return _channelwise(call, module, x) if whole else None


def _prelu(call: Call, module: nn.PReLU, x: Layout) -> Layout:
    return x if module.num_parameters == 1 else _channelwise(call, module, x)


def _layer_norm(call: Call, module: nn.LayerNorm | nn.RMSNorm, x: Layout) -> Layout:
    """The statistic is over all units, or is taken for each of them."""
    shape = module.normalized_shape
    place = len(shape) + x.axis
    inside = x.run is not None and place >= 0
    run = x.along(x.axis, shape[place]) if inside else None
    for name in ("weight", "bias"):
        call.use(name, {place: run} if inside else {})
    return replace(x, run=run) if inside else x


def _tried(call: Call, module: nn.Module, x: Layout) -> Layout | None:
    """A layer of unknown kind with some numbers for each unit, such as timm's norms that have an activation.

    Whether it treats all units alike is seen by reordering its tensors and random inputs.
    """
    shapes = {tuple(tensor.shape) for tensor in module.state_dict().values() if tensor.ndim}
    size = next(iter(shapes))[0] if len(shapes) == 1 else 0
    run = x.along(x.axis, size) if size and len(*shapes) == 1 else None
    if run is None or not _treats_alike(module, size, x):
        return None
    for name in module.state_dict():
        call.use(name, {0: run})
    return replace(x, run=run)


def _treats_alike(module: nn.Module, size: int, x: Layout) -> bool:
    random = torch.Generator().manual_seed(0)
    order = torch.randperm(size, generator=random)
    shape = [3] * (x.ndim or 1 - x.axis)
    shape[x.axis] = size
    values = torch.randn(shape, generator=random)
    state = {
        name: torch.rand(tensor.shape, generator=random) + 0.5 if tensor.ndim else tensor
        for name, tensor in module.state_dict().items()
    }
    reordered = {name: tensor[order] if tensor.ndim else tensor for name, tensor in state.items()}
    try:
        with torch.no_grad(), evaluating(module.modules()):
            outputs = functional_call(module, state, values.clone())
            wanted = outputs.index_select(x.axis, order)
            found = functional_call(module, reordered, values.index_select(x.axis, order))
    except Exception:  # a user's forward may raise anything
        return False
    return outputs.shape == values.shape and torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)


# Values in, a value out


def _elementwise(call: Call) -> Value | None:
    values = [v for v in tree_leaves([call.args, call.kwargs]) if isinstance(v, Layout | Own)]
    layouts = [value for value in values if isinstance(value, Layout)]
    if not layouts:
        return None if values else Number()
    out = layouts[0]
    for layout in layouts[1:]:
        out = _joined(call, out, layout)
    for own in (value for value in values if isinstance(value, Own)):
        out = _scaled(call, out, own)
    return out


def _joined(call: Call, a: Layout, b: Layout) -> Layout:
    """Two values, broadcast: their units are joined, unless one has a single unit."""
    rows = a.rows if a.rows is b.rows else call.node
    ndim = None if a.ndim is None or b.ndim is None else max(a.ndim, b.ndim)
    if a.run and b.run and a.axis == b.axis:
        if 1 not in (a.run.units.size, b.run.units.size):
            a.run.units.join(b.run.units)
        larger = max(a, b, key=lambda x: x.run.units.size if x.run else 0)
        return replace(larger, rows=rows, ndim=ndim)
    a.fix()
    b.fix()
    return Layout(rows, ndim)


def _scaled(call: Call, x: Layout, own: Own) -> Layout:
    """A value with a tensor of the network that is broadcast over it."""
    shape = call.places.shapes[own.key]
    place, wider = len(shape) + x.axis, x.ndim is not None and len(shape) > x.ndim
    x = replace(x, rows=call.node, ndim=len(shape)) if wider else x
    if x.run is None or place < 0 or shape[place] == 1:
        call.places.use(own.key, {})
        return x
    run = x.along(x.axis, shape[place])
    call.places.use(own.key, {place: run})
    return replace(x, run=run)


def _keep_before(x: Any, axes: int) -> Layout | None:
    """An operation that mixes the last few axes only."""
    if not isinstance(x, Layout):
        return None
    if x.axis >= -axes:
        x.fix()
    return x


def _same(call: Call, module: nn.Module, x: Layout) -> Layout:
    return x


_CHANNELS = ("num_features", "num_channels", "num_parameters")
_CHANNEL_AXIS: dict[type[nn.Module], int] = {nn.BatchNorm2d: -3, nn.BatchNorm3d: -4}
"""Where channels lie if the number of axes is not known; else it is 2 and they are last."""

_SPATIAL = re.compile(r"(?:(?:Adaptive)?(?:Max|Avg|LP)Pool|[A-Z][a-z]+Pad)([123])d")
_SPATIAL_FUNCTION = re.compile(r"(?:adaptive_)?(?:max|avg|lp)_pool([123])d")

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d,
          nn.InstanceNorm2d, nn.InstanceNorm3d)  # fmt: skip
_ACTIVATIONS = (nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh,
                nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.RReLU, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU,
                nn.Sigmoid, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink,
                nn.Threshold)  # fmt: skip


_MODULES: dict[type[nn.Module], Callable[[Call, Any, Layout], Layout | None]] = {
    **dict.fromkeys((nn.Identity, *_ACTIVATIONS, *DROPOUTS), _same),
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(_NORMS, _channelwise),
    **dict.fromkeys((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    nn.Linear: _linear, nn.GroupNorm: _group_norm, nn.PReLU: _prelu, nn.Flatten: flatten_module,
}  # fmt: skip

_FUNCTIONS: dict[str, Callable[[Call, Any], Value | None]] = {**RULES, "linear": _linear_function}

_ELEMENTWISE = {
    "abs", "add", "sub", "mul", "div", "true_divide", "truediv", "neg", "iadd", "isub", "imul", "itruediv",
    "pow", "square", "sqrt", "rsqrt", "reciprocal", "exp", "expm1", "log", "log1p", "sin", "cos", "tanh",
    "sigmoid", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus",
    "softsign", "hardtanh", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "tanhshrink",
    "logsigmoid", "threshold", "clamp", "clip", "maximum", "minimum", "where",
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
    "contiguous", "clone", "detach", "float", "double", "half", "bfloat16", "to",
}  # fmt: skip
