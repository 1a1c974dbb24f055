"""Which operations let hidden units be multiplied: by any number, by a positive one, or by -1."""

import re
from collections.abc import Sequence

from torch import fx, nn

from paramdiff.networks.hidden_units import Layout, Value

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

READERS = (nn.Linear, *CONVOLUTIONS)

_SUMS = ("add", "sub", "iadd", "isub")

_LINEAR = {
    *_SUMS, "neg", "contiguous", "clone", "detach", "float", "double", "half", "bfloat16", "to", "mean", "sum",
    "flatten", "reshape", "view", "permute", "transpose", "size", "getattr", "Flatten", "Identity",
    *(kind.__name__ for kind in DROPOUTS[:4]), "dropout", "dropout1d", "dropout2d", "dropout3d",
}  # fmt: skip
"""Operations that give multiples for multiples, whatever their sign."""

_AVERAGES = re.compile(r"(?:Adaptive)?AvgPool[123]d|(?:adaptive_)?avg_pool[123]d")

_LARGEST = re.compile(r"(?:Adaptive)?MaxPool[123]d|(?:adaptive_)?max_pool[123]d")

_SCALABLE = {"ReLU", "LeakyReLU", "relu", "leaky_relu", "amax", "amin", "abs"}
"""Operations that give multiples for positive multiples."""

_ODD = {"Tanh", "Softsign", "Tanhshrink", "Softshrink", "Hardshrink", "tanh", "softsign", "tanhshrink",
        "softshrink", "hardshrink", "sin"}  # fmt: skip
"""Operations that give the negative for the negative, in every use: not ``hardtanh``, whose bounds may differ."""


def function_name(node: fx.Node) -> str:
    """Of torch or Python; empty for anybody else's."""
    if node.op == "call_method":
        return str(node.target)
    home = getattr(node.target, "__module__", None) or "torch"
    known = home.partition(".")[0] in ("torch", "_operator", "builtins", "math")
    return getattr(node.target, "__name__", "") if known else ""


def limit(node: fx.Node, graph: fx.GraphModule, inputs: Sequence[Value], output: Value) -> None:
    """Whether multiples of units stay multiples through a node, positive or negative ones.

    Only what is known to let them is let; layers that read units and start new ones do.
    """
    runs = [value.run for value in inputs if isinstance(value, Layout) and value.run]
    if not runs or node.op == "output":
        return
    kind = type(graph.get_submodule(str(node.target))) if node.op == "call_module" else None
    name = kind.__name__ if kind else function_name(node).rstrip("_")
    if kind in READERS or name == "linear":
        return
    if isinstance(output, Layout) and output.run is None:  # units were summed out
        positive = negative = False
    else:
        positive, negative = _multiples(name, _only_units(node, inputs, name))
    for run in runs:
        run.units.limit(positive, negative)


def _multiples(name: str, only_units: bool) -> tuple[bool, bool]:
    """Whether an operation gives multiples for positive multiples of its input, and the negative for the negative."""
    linear = only_units and (name in _LINEAR or bool(_AVERAGES.fullmatch(name)))
    scalable = name in _SCALABLE or bool(_LARGEST.fullmatch(name))
    return linear or scalable, linear or name in _ODD


def _only_units(node: fx.Node, inputs: Sequence[Value], name: str) -> bool:
    """Whether a sum is one of units: with anything else added, multiples of them are no multiples of it."""
    if name not in _SUMS:
        return True
    layouts = [value for value in inputs if isinstance(value, Layout)]
    return len(layouts) == len(node.args) and all(value.run for value in layouts) and not node.kwargs
