"""Run one network with many values of some of its tensors, sharing all that does not depend on them.

Let ``f(x; w, v)`` be a network with frozen tensors ``w`` and generated tensors ``v``. Its traced graph
is cut (:mod:`paramdiff.networks.graph_split`) into ``f(x; w, v) = s(p(x; w); w, v)``: the prefix ``p`` runs once
per batch and the suffix ``s`` once per ``v``.

Both halves run in eval mode whatever the mode of the model, because a frozen BatchNorm that updates
its statistics, or dropout, would make one network's outputs depend on the others.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map_only

from paramdiff.errors import CheckpointError, SelectionError, near
from paramdiff.networks.graph_split import Split, out_of_place, split
from paramdiff.networks.modes import own_modes, train_selected
from paramdiff.networks.structure import Untraceable, evaluating, tied_keys, trace

Boundary = tuple[Any, ...]
Call = Callable[..., Any]
"""From a network and what :meth:`SharedPrefix.prefix` was given to the network's outputs."""


class SharedPrefix:
    """A network as a prefix that is computed once per batch and a suffix that is run per sample.

    The first batch is also run through the plain network, with changed values of the generated tensors.
    If the outputs differ (the network does something that a traced graph does not show), the whole
    network is run from then on.

    Args:
        model: the network. It holds the frozen tensors, and stays as it was.
        generated: state-dict keys of the generated tensors; keys tied to them follow.
        call: how the network is called, where that is not ``model(*inputs)``. Nothing is known about it, so the
            whole network runs for every sample.

    Attributes:
        whole: the whole network runs for every sample. Final after the first call of :meth:`prefix`.
        why: what is shared, or why nothing is, in one line.

    Raises:
        SelectionError: a key is unknown, or no generated tensor is used in the forward pass.

    Example::

        split = SharedPrefix(model, spec.names)
        for batch in data:
            boundary = split.prefix(batch)
            outputs = [split.suffix(boundary, spec.unflatten(v)) for v in V]
    """

    def __init__(self, model: nn.Module, generated: Sequence[str], call: Call | None = None) -> None:
        self.model, self._call = model, call
        self._modules = list(model.modules())  # walking the tree takes longer than a small suffix
        self._ties = _require_known(model, generated)
        self._keys = [key for keys in self._ties for key in keys]
        self._inputs: int | None = None
        self._writes_boundary = False
        self._cut(None)

    def prefix(self, *inputs: Any) -> Boundary:
        """Everything that does not depend on a generated tensor, without gradients.

        Args:
            inputs: the network's positional inputs, a batch.

        Returns:
            the values that :meth:`suffix` starts from; the inputs themselves if nothing is shared.
        """
        if self._inputs != len(inputs):
            self._cut(len(inputs))
            self._verify(inputs)
            self._inputs = len(inputs)
        return self._shared(inputs)

    def suffix(self, boundary: Boundary, state: Mapping[str, Tensor]) -> Any:
        """Outputs of one network; may be called any number of times on one boundary.

        Gradients reach the tensors of ``state`` and no others (torch gives none to the running statistics
        of BatchNorm). Under ``torch.func.vmap``, ``state`` may be stacked.

        Args:
            boundary: what :meth:`prefix` returned.
            state: the generated tensors by key, on the model's device; for tied ones any of the keys.

        Raises:
            CheckpointError: a generated tensor is missing.
        """
        values = _clone(boundary) if self._writes_boundary else boundary
        tensors = {f"model.{key}": tensor for key, tensor in self._tensors(state).items()}
        with evaluating(self._modules):
            return functional_call(self._suffix, tensors, tuple(values), tie_weights=False)

    def trained(self, call: Call, inputs: tuple[Any, ...], state: Mapping[str, Tensor]) -> Any:
        """``call(model, *inputs)`` with these generated tensors, in train mode but for layers that own buffers.

        Gradients reach the tensors of ``state`` and no others; nothing of the network changes.
        """
        tensors = {f"model.{key}": tensor for key, tensor in self._tensors(state).items()}
        with own_modes(self._modules):
            train_selected(self.model)
            return functional_call(_Run(self.model, call), tensors, inputs, tie_weights=False)

    def _cut(self, inputs: int | None) -> None:
        """Cut the graph for a number of inputs, or fall back to the whole network."""
        halves = self._halves(inputs)
        if isinstance(halves, str):
            self._fall_back(halves)
            return
        self.whole = False
        self._prefix: _Run | None = _Run(self.model, _interpreted(self.model, halves.prefix))
        self._suffix = _Run(self.model, _interpreted(self.model, halves.suffix))
        total = halves.shared + halves.own
        self.why = (
            f"{halves.shared} of {total} operations are computed once per batch, {halves.own} per sample"
        )

    def _halves(self, inputs: int | None) -> Split | str:
        if self._call is not None:
            return "the task has a forward of its own"
        graph = trace(self.model, inputs)
        if isinstance(graph, Untraceable):
            return f"{graph.reason}; scores are the same and take longer"
        stuck = out_of_place(graph.graph, self.model)
        if stuck is not None:
            return f"{stuck} writes into its input and has no replacement"
        halves = split(graph.graph, self._keys)
        if halves.own == 0:
            raise SelectionError(
                f"the generated tensors {', '.join(self._keys[:5])} are never used in the forward pass",
                remedy="select tensors that the network uses in eval mode",
            )
        return halves if halves.shared else "every operation depends on generated tensors"

    def _fall_back(self, reason: str) -> None:
        self.whole, self.why = True, f"the whole network runs for every sample: {reason}"
        self._prefix, self._suffix = None, _Run(self.model, self._call or _plain)

    def _shared(self, inputs: tuple[Any, ...]) -> Boundary:
        if self._prefix is None:
            return inputs
        with torch.no_grad(), evaluating(self._modules):
            boundary = self._prefix(*inputs)
        return tree_map_only(Tensor, Tensor.detach, boundary)  # a view of a parameter still takes gradients

    @torch.no_grad()
    def _verify(self, inputs: tuple[Any, ...]) -> None:
        """Compare with the plain network once, and see whether the suffix writes into the boundary."""
        own = self.model.state_dict(keep_vars=True)
        state = {key: own[key].detach() * 1.1 + 0.01 for key in self._keys}
        boundary = self._shared(_clone(inputs))
        kept = _clone(boundary)
        outputs = self.suffix(boundary, state)
        self._writes_boundary = not _same(boundary, kept, tolerance=0.0)
        if self.whole:
            return
        with evaluating(self._modules):
            expected = functional_call(self.model, self._tensors(state), _clone(inputs), tie_weights=False)
        if not _same(outputs, expected, tolerance=_tolerance(expected)):
            self._fall_back("its traced graph gives other outputs than the network itself")
            self._verify(inputs)

    def _tensors(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Generated tensors by every key they have, and frozen ones without gradient."""
        tensors: dict[str, Tensor] = {}
        for keys in self._ties:
            given = next((state[key] for key in keys if key in state), None)
            if given is None:
                raise CheckpointError(f"the state has no tensor {keys[0]}", expected="every generated tensor")
            tensors |= dict.fromkeys(keys, given)
        if torch.is_grad_enabled():
            parameters = self.model.named_parameters(remove_duplicate=False)
            frozen = {name: p.detach() for name, p in parameters if p.requires_grad}
            tensors = frozen | tensors
        return tensors


class _Run(nn.Module):
    """A network and the function that calls it.

    The network is a child of this module, so ``functional_call`` finds its tensors under ``model.``.
    """

    def __init__(self, model: nn.Module, call: Call) -> None:
        super().__init__()
        self.model = model
        self._call = call

    def forward(self, *values: Any) -> Any:
        return self._call(self.model, *values)


def _plain(model: nn.Module, *inputs: Any) -> Any:
    return model(*inputs)


def _interpreted(model: nn.Module, graph: fx.Graph) -> Call:
    """A part of a network, as a graph over its modules."""
    interpreter = fx.Interpreter(model, graph=graph)

    def run(_: nn.Module, *values: Any) -> Any:
        outputs = interpreter.run(*values)
        interpreter.env.clear()  # it would keep the outputs alive until the next call
        return outputs

    return run


def _require_known(model: nn.Module, generated: Sequence[str]) -> list[list[str]]:
    """Groups of tied keys that hold a generated tensor."""
    state = model.state_dict(keep_vars=True)
    unknown = [key for key in generated if key not in state]
    if unknown:
        raise SelectionError(f"the network has no tensor {unknown[0]}", remedy=near(unknown[0], state))
    return [keys for keys in tied_keys(state) if set(keys) & set(generated)]


def _clone(values: Any) -> Any:
    return tree_map_only(Tensor, lambda tensor: tensor.clone(), values)


def _tensors_in(values: Any) -> list[Tensor]:
    """Tensors in nested containers; of other objects, those among their attributes."""
    leaves = tree_leaves(values)
    objects = [vars(leaf) for leaf in leaves if hasattr(leaf, "__dict__") and not isinstance(leaf, Tensor)]
    inside = [item for attributes in objects for item in attributes.values()]
    return [leaf for leaf in [*leaves, *inside] if isinstance(leaf, Tensor)]


def _same(values: Any, others: Any, tolerance: float) -> bool:
    """Equal up to a fraction of the largest magnitude of each tensor."""
    mine, theirs = _tensors_in(values), _tensors_in(others)
    return len(mine) == len(theirs) and all(_close(a, b, tolerance) for a, b in zip(mine, theirs))


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if tolerance == 0.0 or not a.is_floating_point():
        return torch.equal(a, b)
    finite = b[torch.isfinite(b)]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(a, b, rtol=0.0, atol=tolerance * largest, equal_nan=True)


def _tolerance(outputs: Any) -> float:
    half = any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in _tensors_in(outputs))
    return 2e-2 if half else 1e-3
