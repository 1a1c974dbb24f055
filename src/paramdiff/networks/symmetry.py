"""Which axes of which tensors of a network can be reordered together without changing what it computes.

The units of a hidden layer come in no order. With a permutation matrix ``P`` over the units between two
layers, ``W_2 f(W_1 x + b_1) = (W_2 P^T) f(P W_1 x + P b_1)`` for every elementwise ``f``, so rows of
``W_1`` and ``b_1`` and columns of ``W_2`` move together. Such a set of places is a *group*; in a residual
network one group holds every layer that writes to or reads from one stream (Ainsworth et al. 2022,
arXiv 2209.04836, section 2).

Groups are found from the traced graph: each layer starts new units, its outputs, and they are followed from
value to value (:mod:`paramdiff.networks.unit_propagation`) until the next layer reads them. Inputs and outputs
keep their order, and so do units that meet an operation that is not understood.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, fx, nn

from paramdiff.networks.hidden_units import Call, Layout, Number, Own, Places, Slot, Units, Value
from paramdiff.networks.structure import Untraceable, trace
from paramdiff.networks.unit_propagation import apply_function, apply_module
from paramdiff.networks.unit_scaling import limit


@dataclass(frozen=True)
class TensorAxis:
    """An axis of a tensor along which units lie.

    Attributes:
        key: of the tensor in the state dict.
        axis: of the tensor.
        block: entries of a unit, one after the other; more than 1 behind a flatten, where each channel
            is a run of features.
        learnt: it is of a parameter, not of a buffer such as a running mean.
        role: the tensor ``makes`` the units, ``reads`` them, or neither (a norm between).
    """

    key: str
    axis: int
    block: int = 1
    learnt: bool = True
    role: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Group:
    """P units that may be reordered, and every place that must be reordered with them.

    Attributes:
        size: P.
        places: where they lie.
        scalable: a unit may also be multiplied by any positive number where it is made and divided by it where
            it is read: with ReLU between.
        odd: by -1 in both: with tanh between.
    """

    size: int
    places: tuple[TensorAxis, ...]
    scalable: bool = field(default=False, compare=False)
    odd: bool = field(default=False, compare=False)

    @property
    def keys(self) -> list[str]:
        """Of the tensors, each once."""
        return list(dict.fromkeys(place.key for place in self.places))


@dataclass(frozen=True)
class Symmetries:
    """All groups of a network, in order of execution.

    Example::

        symmetries = find_symmetries(model)
        permutations = [torch.randperm(group.size) for group in symmetries.groups]
        model.load_state_dict(permute(model.state_dict(), symmetries, permutations))  # the same function
    """

    groups: tuple[Group, ...]

    def within(self, keys: Collection[str]) -> "Symmetries":
        """The groups all of whose places are in these tensors."""
        return Symmetries(tuple(group for group in self.groups if set(group.keys) <= set(keys)))


def find_symmetries(model: nn.Module) -> Symmetries | str:
    """The groups of a network, or one line that says why there are none.

    Linear and convolutional layers, normalisation, elementwise functions, pooling, flattening, reordered
    axes, means and sums, and residual connections are followed. The units that meet anything else stay
    as they are, and so do tensors that are tied.

    Args:
        model: any network on any device (``meta`` included); the first axis of its inputs is the batch.
    """
    graph = trace(model)
    if isinstance(graph, Untraceable):
        return f"they cannot be followed through the network, as {graph.reason}"
    places = _follow(model, graph)
    found = places.groups()
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    groups = tuple(_group(units, slots, places, buffers) for units, slots in found)
    return Symmetries(groups) if found else "none of its hidden units can be reordered"


def _group(units: Units, slots: Mapping[Slot, int], places: Places, buffers: Collection[str]) -> Group:
    at = tuple(
        TensorAxis(*slot, block, slot[0] not in buffers, places.role_of(slot))
        for slot, block in slots.items()
    )
    roles = {place.role for place in at}
    both = roles == {"makes", "reads"}  # no third, which might not follow
    return Group(units.size, at, both and units.scalable, both and units.odd)


def permute(
    state: Mapping[str, Tensor], symmetries: Symmetries, permutations: Sequence[Int[Tensor, "_"]]
) -> dict[str, Tensor]:
    """A state dict that computes the same function, with unit ``permutations[g][i]`` at ``i`` in group g.

    Tensors in no group are those of ``state``.
    """
    permuted = dict(state)
    for group, permutation in zip(symmetries.groups, permutations, strict=True):
        for place in group.places:
            tensor = permuted[place.key]
            index = _entries(permutation.to(tensor.device), place.block)
            permuted[place.key] = tensor.index_select(place.axis, index)
    return permuted


def _entries(permutation: Int[Tensor, "P"], block: int) -> Int[Tensor, "entries"]:
    """Where the entries of an axis come from if its units, runs of ``block`` entries, are reordered."""
    return (permutation[:, None] * block + torch.arange(block, device=permutation.device)).flatten()


def _follow(model: nn.Module, graph: fx.GraphModule) -> Places:
    """Units from value to value through the graph, with every tensor they meet."""
    places, values = Places(model), dict[fx.Node, Value]()
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            values[node] = Layout(node)
        elif node.op == "get_attr":
            values[node] = _attribute(node, graph, places)
        else:
            inputs = [values[source] for source in node.all_input_nodes]
            known = None if node.op == "output" else _apply(node, graph, places, values)
            values[node] = _fixed(node, inputs, places) if known is None else known
            limit(node, graph, inputs, values[node])
    return places


def _attribute(node: fx.Node, graph: fx.GraphModule, places: Places) -> Value:
    tensor: Any = graph
    for name in str(node.target).split("."):
        tensor = getattr(tensor, name)
    if isinstance(tensor, Tensor) and tensor.numel() == 1:
        return Number()
    return Own(str(node.target)) if node.target in places.shapes else Layout(node)


def _apply(
    node: fx.Node, graph: fx.GraphModule, places: Places, values: Mapping[fx.Node, Value]
) -> Value | None:
    swap: Any = values.__getitem__
    args: Any = fx.map_arg(node.args, swap)
    kwargs: Any = fx.map_arg(node.kwargs, swap)
    call = Call(node, args, kwargs, places)
    try:
        if node.op == "call_module":
            return apply_module(call, graph.get_submodule(str(node.target)))
        return apply_function(call)
    except (TypeError, ValueError, IndexError):  # arguments of unusual kinds
        return None


def _fixed(node: fx.Node, inputs: Sequence[Value], places: Places) -> Value:
    """The result of an operation that is not understood: everything that goes in keeps its order."""
    for value in inputs:
        if isinstance(value, Layout):
            value.fix()
        elif isinstance(value, Own):
            places.use(value.key, {})
    if node.op == "call_module":
        places.use_fixed(f"{node.target}.")
    tensors = any(isinstance(value, Layout | Own) for value in inputs)
    return Layout(node) if tensors or not _is_arithmetic(node) else Number()


def _is_arithmetic(node: fx.Node) -> bool:
    """What this computes from numbers is a number; a function of torch may make a tensor of them."""
    home = getattr(node.target, "__module__", None)
    return node.op == "call_function" and home in ("_operator", "builtins", "math")
