"""The structure of a network: its traced graph, the normalisation layers in the order of execution, and tied weights.

Networks are traced symbolically with ``torch.fx``, without data. Normalisation layers stay whole. A
sub-module that cannot be traced (control flow that depends on data) is kept whole too and tracing
starts again, so that only a network whose outermost ``forward`` is untraceable ends as
:class:`Untraceable`.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

_NORMS = (
    nn.modules.batchnorm._NormBase,  # BatchNorm*, SyncBatchNorm, InstanceNorm*
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


@dataclass(frozen=True)
class Untraceable:
    """Why a network has no graph, in one line."""

    reason: str


@contextmanager
def evaluating(modules: Iterable[nn.Module]) -> Iterator[None]:
    """These modules are in eval mode inside, and each is back in its own mode after."""
    training = [module for module in modules if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def trace(model: nn.Module, inputs: int | None = None) -> fx.GraphModule | Untraceable:
    """The graph of what a network does in eval mode.

    Args:
        model: any network, on any device (``meta`` included). It is left as it was.
        inputs: how many positional inputs it is called with; by default those that have no default
            value, at least one.

    Returns:
        the graph, in which normalisation layers and untraceable sub-modules are single nodes, or the
        reason why there is none.
    """
    tracer = _trace(model, inputs)
    return tracer if isinstance(tracer, Untraceable) else fx.GraphModule(model, tracer.graph)


def execution_order(model: nn.Module) -> list[str]:
    """Names of the modules in the order in which they are first executed, parents before children.

    Modules that are never executed are left out. The modules inside an untraceable one follow it in
    order of definition, and so do all modules of a network that cannot be traced.
    """
    tracer = _trace(model)
    names = [name for name, _ in model.named_modules() if name]
    if isinstance(tracer, Untraceable):
        return names
    order: dict[str, None] = {}
    for name in tracer.used:
        inside = [other for other in names if other.startswith(f"{name}.")] if name in tracer.closed else []
        order.update(dict.fromkeys((name, *inside)))
    return list(order)


def norm_layers(model: nn.Module) -> list[str]:
    """Names of the normalisation layers that have a weight of their own, in order of execution."""
    modules = dict(model.named_modules())
    return [name for name in execution_order(model) if _has_weight(modules[name]) and is_norm(modules[name])]


def is_norm(module: nn.Module) -> bool:
    """A normalisation layer: one of torch's, derived from one, or called so with a 1-d weight."""
    named = any("norm" in kind.__name__.lower() for kind in type(module).__mro__)
    weight = module._parameters.get("weight")
    return isinstance(module, _NORMS) or (named and weight is not None and weight.ndim == 1)


def _has_weight(module: nn.Module) -> bool:
    return module._parameters.get("weight") is not None


class _Tracer(fx.Tracer):
    """Keeps some modules closed, and remembers which modules were used and where tracing failed."""

    proxy_buffer_attributes = True  # else a generated buffer would be baked into the graph

    def __init__(self, opaque: set[type[nn.Module]], inputs: int | None) -> None:
        super().__init__()
        self.opaque, self.inputs = opaque, inputs
        self.used: dict[str, None] = {}
        self.closed: set[str] = set()
        self.failed: nn.Module | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaf = type(m) in self.opaque or is_norm(m) or super().is_leaf_module(m, module_qualified_name)
        if leaf:
            self.closed.add(module_qualified_name)
        return leaf

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.used[self.path_of_module(m)] = None
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = m if self.failed is None else self.failed
            raise

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        if kind == "get_attr" and "." in target:
            self.used[target.rpartition(".")[0]] = None
        return super().create_node(kind, target, *args, **kwargs)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """One placeholder per input; other arguments keep their defaults, on which code may branch."""
        names = _input_names(root_fn, self.inputs)
        return root_fn, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in names)]


def _input_names(forward: Callable[..., Any], inputs: int | None) -> list[str]:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [p for p in list(inspect.signature(forward).parameters.values())[1:] if p.kind in positional]
    if inputs is None:
        inputs = max(1, sum(p.default is inspect.Parameter.empty for p in parameters))
    return [parameters[i].name if i < len(parameters) else f"input_{i}" for i in range(inputs)]


def _trace(model: nn.Module, inputs: int | None = None) -> _Tracer | Untraceable:
    """Trace, keeping one more class of modules closed each time tracing fails inside one."""
    opaque: set[type[nn.Module]] = set()
    while True:
        tracer = _Tracer(opaque, inputs)
        try:
            with evaluating(model.modules()), torch.no_grad():
                tracer.trace(model)
        except Exception as error:  # a user's forward may raise anything when it meets a proxy
            if tracer.failed is None or type(tracer.failed) in opaque:
                return Untraceable(_in_words(error))
            opaque = opaque | {type(tracer.failed)}
        else:
            return tracer


def _in_words(error: Exception) -> str:
    """What a user's ``forward`` does that a graph cannot hold."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "control flow" in text or "iterated" in text:
        return "its forward takes another way for other inputs (an if or a loop over values of a tensor)"
    text = text if len(text) <= 120 else f"{text[:117]}..."
    return f"its forward does what only works on actual numbers ({text})"


def tied_keys(state: Mapping[str, Tensor]) -> list[list[str]]:
    """Keys grouped by the memory that they stand for, in state-dict order: several keys of one tensor are *tied*.

    Take the state dict with ``keep_vars=True`` where the model may live on the ``meta`` device: there,
    only the parameter object itself tells that it is shared.
    """
    groups: dict[Any, list[str]] = {}
    for name, tensor in state.items():
        if isinstance(tensor, Tensor):
            groups.setdefault(_identity(tensor), []).append(name)
    return list(groups.values())


def _identity(tensor: Tensor) -> Any:
    """Equal for tensors that are the same object or cover the same memory in the same way."""
    if is_lazy(tensor) or tensor.is_meta or tensor.numel() == 0:
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype
