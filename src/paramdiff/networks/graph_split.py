"""Cutting a traced graph in two: what depends on a generated tensor, and the rest.

A node is *dependent* if it touches a generated tensor, itself or through a module it calls, or has
a dependent input. The prefix holds the other nodes; the values that dependent nodes take from them
form the *boundary*. The suffix holds the dependent nodes, with the boundary as its inputs.

The cut changes the order of operations and lets many suffixes read one boundary, so operations that
write into their input are replaced by ones that do not.
"""

import operator
from collections.abc import Callable, Collection
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn


@dataclass(frozen=True)
class Split:
    """Both halves of a graph, with the number of operations in each; ``own`` is 0 if nothing is generated."""

    prefix: fx.Graph
    suffix: fx.Graph
    shared: int
    own: int


def split(graph: fx.Graph, generated: Collection[str]) -> Split:
    """Cut ``graph`` at the generated tensors, given by their keys in the state dict."""
    output = next(node for node in graph.nodes if node.op == "output")
    needed = _ancestors(output)
    order = [node for node in graph.nodes if node in needed]
    dependent = _dependent(order, generated)
    suffix = [node for node in order if node in dependent or node is output]
    boundary, frozen = _inputs_from_outside(suffix, dependent)
    shared = needed.difference(suffix)
    prefix = [node for node in graph.nodes if node.op == "placeholder" or node in shared]
    return Split(
        _copy(prefix, [], boundary), _copy([*frozen, *suffix], boundary, None),
        shared=_operations(prefix), own=len(dependent - {output}),
    )  # fmt: skip


def _dependent(order: list[fx.Node], generated: Collection[str]) -> set[fx.Node]:
    """Nodes that touch a generated tensor or have a dependent input; ``order`` is that of execution."""
    found: set[fx.Node] = set()
    for node in order:
        if _touches(node, generated) or found.intersection(node.all_input_nodes):
            found.add(node)
    return found


def _inputs_from_outside(
    suffix: list[fx.Node], dependent: set[fx.Node]
) -> tuple[list[fx.Node], list[fx.Node]]:
    """What the suffix takes from independent nodes: values of operations (the boundary), and frozen tensors."""
    boundary: dict[fx.Node, None] = {}
    frozen: dict[fx.Node, None] = {}
    for node in suffix:
        for source in node.all_input_nodes:
            if source not in dependent:
                (frozen if source.op == "get_attr" else boundary)[source] = None
    return list(boundary), list(frozen)


def _ancestors(output: fx.Node) -> set[fx.Node]:
    found, todo = set(), [output]
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += node.all_input_nodes
    return found


def _touches(node: fx.Node, generated: Collection[str]) -> bool:
    if node.op not in ("call_module", "get_attr"):
        return False
    return any(f"{key}.".startswith(f"{node.target}.") for key in generated)


def _copy(nodes: list[fx.Node], inputs: list[fx.Node], outputs: list[fx.Node] | None) -> fx.Graph:
    """A graph of copied nodes with ``inputs`` as placeholders; ``outputs`` unless one is among the nodes."""
    graph = fx.Graph()
    new = {node: graph.placeholder(f"boundary_{i}") for i, node in enumerate(inputs)}
    for node in nodes:
        new[node] = graph.node_copy(node, new.__getitem__)
    if outputs is not None:
        graph.output(tuple(new[node] for node in outputs))
    return graph


def _operations(nodes: list[fx.Node]) -> int:
    return sum(node.op.startswith("call_") for node in nodes)


def out_of_place(graph: fx.Graph, model: nn.Module) -> str | None:
    """Replace operations that write into their first input; what read that input later reads the result.

    Returns:
        the name of an operation for which there is no replacement, if any.
    """
    position = {node: i for i, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        writes = _rewrite(node, model)
        if writes is None:
            return str(node.target)
        if writes and node.args and isinstance(node.args[0], fx.Node):
            later = {user for user in node.args[0].users if position[user] > position[node]}
            node.args[0].replace_all_uses_with(node, later.__contains__)
    return None


def _rewrite(node: fx.Node, model: nn.Module) -> bool | None:
    """Whether the node wrote into its input, now without doing so; ``None`` if that cannot be done."""
    if node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
        return True
    if node.op == "call_module":
        return _rewrite_module(node, model.get_submodule(str(node.target)))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if node.op not in ("call_function", "call_method") or not _writes(node, name):
        return False
    twin = _twin(node, name)
    if twin is None:
        return None
    node.target = twin
    return True


def _rewrite_module(node: fx.Node, module: nn.Module) -> bool:
    """Activations with ``inplace=True`` are called through a copy; they have no tensors of their own."""
    if not getattr(module, "inplace", False) or module.state_dict():
        return False
    twin: Any = copy(module)
    twin.inplace, twin.training = False, False
    node.op, node.target = "call_function", twin
    return True


def _writes(node: fx.Node, name: str) -> bool:
    in_place_operator = getattr(operator, name, None) is node.target and name in _OPERATORS
    return in_place_operator or (name.endswith("_") and not name.endswith("__"))


def _twin(node: fx.Node, name: str) -> Callable[..., Any] | str | None:
    if node.op == "call_method":
        return name[:-1] if callable(getattr(Tensor, name[:-1], None)) else None
    if name in _OPERATORS:
        return getattr(operator, name[1:])
    homes = (torch, nn.functional)
    return next(
        (getattr(home, name[:-1]) for home in homes if callable(getattr(home, name[:-1], None))), None
    )


_OPERATORS = {"iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"}
