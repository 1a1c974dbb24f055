"""beartype as jaxtyping's checker, with ``int`` accepted where ``float`` is announced (PEP 484)."""

from collections.abc import Callable
from typing import Any, Self

from beartype import BeartypeConf, beartype

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """beartype knows ``Self`` in whole classes only, and jaxtyping decorates methods: forget it there."""
    hints = getattr(function, "__annotations__", {})
    if hints.get("return") is Self:
        function.__annotations__ = {name: hint for name, hint in hints.items() if name != "return"}
    return _beartype(function)
