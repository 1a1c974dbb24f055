"""Which tensors of a network are generated, in a small language.

A selection is a comma-separated string or a list of terms: the union of the terms, minus those that
start with ``!``. Terms, matched against the keys of the state dict:

========================  =====================================================================
``all``                   every floating tensor, running statistics of BatchNorm included
``last_norms:2``          weights and biases of the last two normalisation layers that are executed
``type:BatchNorm2d``      parameters of the modules of that class or of a class derived from it
``layer4.1``              everything under a module
``*.bn?.weight``          any other name or glob of names
========================  =====================================================================

Integer tensors (``num_batches_tracked``) are never generated. The paper generates the weights and
biases of the last two normalisation layers, ``last_norms:2``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from paramdiff.errors import SelectionError, near
from paramdiff.networks.structure import norm_layers

Source = nn.Module | Mapping[str, Tensor]


def select_tensors(source: Source, select: str | Sequence[str]) -> list[str]:
    """Keys of the selected tensors, in state-dict order.

    Args:
        source: a network, or a bare state dict, for which only names and ``all`` can be selected.
        select: the selection, see the module's docstring.

    Raises:
        SelectionError: a term matches nothing or only integer tensors, or is not understood; a
            selected tensor is complex or not initialised yet; nothing is left.
    """
    state = source.state_dict(keep_vars=True) if isinstance(source, nn.Module) else source
    state = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    terms = _terms(select)
    chosen = _union(source, state, [term for term in terms if not term.startswith("!")])
    chosen -= _union(source, state, [term[1:].strip() for term in terms if term.startswith("!")])
    if not chosen:
        raise SelectionError(
            f"the selection {_text(select)!r} holds no tensor",
            expected="at least one term without '!' that selects something",
            remedy="start with all, e.g. 'all, !fc'",
        )
    for name in chosen:
        _require_real(name, state[name])
    return [name for name in state if name in chosen]


def _text(select: str | Sequence[str]) -> str:
    return select if isinstance(select, str) else ",".join(select)


def _terms(select: str | Sequence[str]) -> list[str]:
    return [term.strip() for term in _text(select).split(",") if term.strip()]


def _union(source: Source, state: Mapping[str, Tensor], terms: Iterable[str]) -> set[str]:
    return {name for term in terms for name in _matches(source, state, term)}


def _matches(source: Source, state: Mapping[str, Tensor], term: str) -> list[str]:
    """Non-empty list of the generatable tensors that one term stands for."""
    kind, colon, argument = term.partition(":")
    if colon and kind in _BY_MODULE:
        if not isinstance(source, nn.Module):
            raise SelectionError(
                f"{term!r} cannot be found from a state dict alone",
                expected="a model, or a selection of names such as 'layer4.1' or 'all'",
                remedy="pass model=",
            )
        return [name for name in _BY_MODULE[kind](source, argument.strip()) if name in state]
    return [name for name in _by_name(state, term) if not _is_integer(state[name])]


def _by_name(state: Mapping[str, Tensor], term: str) -> list[str]:
    names = [name for name in state if term == "all" or _covers(term, name)]
    if not names:
        known = ["all", "last_norms:2", "type:BatchNorm2d", *_paths(state)]
        raise SelectionError(f"{term!r} matches no tensor", remedy=near(term, known))
    if all(_is_integer(state[name]) for name in names):
        raise SelectionError(
            f"{term!r} matches only integer tensors ({', '.join(names[:3])})",
            expected="floating tensors",
            remedy="leave it out: integer tensors are carried along, not generated",
        )
    return names


def _paths(state: Iterable[str]) -> list[str]:
    """The names and every module path above them."""
    parts = [name.split(".") for name in state]
    return sorted({".".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1)})


def _covers(term: str, name: str) -> bool:
    """A name itself, a glob of names, or a module path (or glob of paths) above the name."""
    return name == term or fnmatchcase(name, term) or fnmatchcase(name, f"{term}.*")


def _last_norms(model: nn.Module, count: str) -> list[str]:
    if not count.isdecimal() or int(count) < 1:
        raise SelectionError(
            f"'last_norms:{count}' is not a number of layers", expected="a whole number, e.g. last_norms:2"
        )
    layers, n = norm_layers(model), int(count)
    if n > len(layers):
        raise SelectionError(
            f"'last_norms:{n}' asks for more normalisation layers than there are",
            expected=f"at most {len(layers)} (executed and with a weight of their own)",
            remedy=f"write last_norms:{len(layers)}" if layers else "select tensors by name or type",
        )
    return [key for path in layers[-n:] for key in _own(path, model.get_submodule(path))]


def _of_type(model: nn.Module, kind: str) -> list[str]:
    modules = {path: (module, _class_names(module)) for path, module in model.named_modules()}
    keys = [
        key
        for path, (module, names) in modules.items()
        if kind.lower() in (name.lower() for name in names)
        for key in _own(path, module)
    ]
    if not keys:
        known = {
            name
            for module, names in modules.values()
            if any(True for _ in module.parameters(recurse=False))
            for name in names
        }
        raise SelectionError(
            f"'type:{kind}' matches no module with parameters", remedy=near(kind, sorted(known))
        )
    return keys


_BY_MODULE: dict[str, Callable[[nn.Module, str], list[str]]] = {"last_norms": _last_norms, "type": _of_type}


def _class_names(module: nn.Module) -> list[str]:
    return [kind.__name__ for kind in type(module).__mro__ if kind not in (nn.Module, object)]


def _own(path: str, module: nn.Module) -> list[str]:
    """Keys of a module's own parameters."""
    return [f"{path}.{name}".lstrip(".") for name, _ in module.named_parameters(recurse=False)]


def _is_integer(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())


def _require_real(name: str, tensor: Tensor) -> None:
    if is_lazy(tensor):
        raise SelectionError(
            f"{name} has no shape yet (a lazy layer)", remedy="run the model once on a batch of its data"
        )
    if tensor.is_complex():
        raise SelectionError(
            f"{name} is complex ({tensor.dtype})", expected="real floating tensors",
            remedy=f"leave it out with '!{name}'",
        )  # fmt: skip
