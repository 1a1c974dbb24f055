"""beartype as jaxtyping's checker, with ``int`` accepted where ``float`` is announced (PEP 484).

jaxtyping opens a scope for names of sizes at every call, which costs more than most functions here take: only those
with shapes in their signature get one. The types of all others are checked as well, by beartype alone.
"""

import inspect
from collections.abc import Callable
from typing import Any, Self

import jaxtyping
from beartype import BeartypeConf, beartype

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))
_jaxtyped = jaxtyping.jaxtyped

SHAPED = "jaxtyping."
"""Is in the text of every annotation with a shape."""


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """beartype knows ``Self`` in whole classes only, and jaxtyping decorates methods: forget it there."""
    hints = getattr(function, "__annotations__", {})
    if hints.get("return") is Self:
        function.__annotations__ = {name: hint for name, hint in hints.items() if name != "return"}
    return _beartype(function)


def jaxtyped(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """In place of jaxtyping's decorator of the same name: a function without shapes needs no scope for them."""

    def decorated(function: Any) -> Any:
        if inspect.isfunction(function) and not shaped(function):
            return typechecker(function)
        return _jaxtyped(function, typechecker=typechecker)

    return decorated


def shaped(function: Callable[..., Any]) -> bool:
    """Whether its signature says, or may say in quotes, something about shapes."""
    hints = function.__annotations__.values()
    return any(isinstance(hint, str) or SHAPED in str(hint) for hint in hints)
