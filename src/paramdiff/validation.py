"""Values that come from a file, as the types that code expects: the one check of JSON that anybody may have written.

Types are written as Python writes them: a ``TypedDict`` for a dictionary (keys it does not name are left alone, so
that a newer version may add some), a dataclass for an object that is made, ``list[...]``, ``dict[str, ...]``,
``X | None``, ``Literal``, and :data:`Name` for what becomes part of a path. Numbers are finite, and integers fit
into 64 bits.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypedDict,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from paramdiff.errors import CheckpointError

LARGEST = 2**63
TEXT = 100_000
"""Characters of a text at most."""

T = TypeVar("T")


class MisfitError(ValueError):
    """A value that does not fit: what came, what was expected, and where."""

    def __init__(self, came: Any, expected: str, where: str = "") -> None:
        super().__init__(f"{where.strip('.')} is {_short(came)}" if where else _short(came))
        self.expected = expected


def plain_name(text: str) -> bool:
    """Whether a text may be a file's name: it cannot lead to another folder."""
    return (
        0 < len(text) <= 200 and text not in (".", "..") and text.isprintable() and not set(text) & set("/\\")
    )


Name = Annotated[str, plain_name, "a name without slashes"]
"""A text that becomes a file's name."""


def typed(value: Any, kind: type[T], source: str, *, remedy: str = "") -> T:
    """``value`` as ``kind``.

    Args:
        value: parsed JSON.
        kind: a type as above.
        source: what it was read from, for the message.
        remedy: what to do about it.

    Raises:
        CheckpointError: it does not fit; names the first place that does not.
        ConfigError: a dataclass refuses it.
    """
    try:
        return cast(T, _as(value, kind, ""))
    except MisfitError as error:
        raise CheckpointError(f"{source}: {error}", expected=error.expected, remedy=remedy) from None


@cache
def lenient(kind: Any) -> Any:
    """A type whose dictionaries, at every depth, may lack keys that are not ``Required``, or have null for them."""
    origin = get_origin(kind)
    if is_typeddict(kind):
        hints = get_type_hints(kind, include_extras=True)
        return TypedDict(kind.__name__, {name: _optional(hint) for name, hint in hints.items()})  # type: ignore[operator]
    if origin in (Union, UnionType):
        return Union[tuple(map(lenient, get_args(kind)))]  # noqa: UP007 (of kinds that are not known here)
    if origin is Annotated:
        inner, *meta = get_args(kind)
        return Annotated[(lenient(inner), *meta)]
    return origin[tuple(map(lenient, get_args(kind)))] if origin in (list, dict, tuple) else kind


def _optional(hint: Any) -> Any:
    """The type of a key as :func:`lenient` has it."""
    if getattr(getattr(hint, "__origin__", None), "_name", "") == "Required":
        return Required[lenient(get_args(hint)[0])]
    return NotRequired[lenient(_unaliased(hint)) | None]


def _as(value: Any, kind: Any, where: str) -> Any:
    kind = _unaliased(kind)
    origin = get_origin(kind)
    if kind is Any:
        return value
    if is_typeddict(kind):
        return _dictionary(value, kind, where)
    if is_dataclass(kind):
        return _object(value, kind, where)
    if kind in SINGLE:
        check, expected = SINGLE[kind]
        return _require(check(value), value, expected, where)
    if origin is None:
        return value  # a class of somebody's own, which knows for itself
    return COMPOSED.get(origin, _many)(value, kind, where)


def _unaliased(kind: Any) -> Any:
    """What ``NotRequired`` and its like are about."""
    inner = getattr(kind, "__origin__", None)
    return get_args(kind)[0] if getattr(inner, "_name", None) in ("NotRequired", "Required") else kind


def _require(fits: bool, value: Any, expected: str, where: str) -> Any:
    if not fits:
        raise MisfitError(value, expected, where)
    return value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST


def _number(value: Any) -> bool:
    return _whole(value) or (isinstance(value, float) and math.isfinite(value))


def _text(value: Any) -> bool:
    if not isinstance(value, str) or len(value) > TEXT:
        return False
    with suppress(UnicodeEncodeError):  # half of a surrogate pair
        return bool(value.encode()) or True
    return False


SINGLE: Mapping[Any, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (_whole, "a whole number"),
    float: (_number, "a finite number"),
    str: (_text, "a text"),
    NoneType: (lambda value: value is None, "null"),
    dict: (lambda value: isinstance(value, dict), "names and values"),
    list: (lambda value: isinstance(value, list), "a list"),
}


def _annotated(value: Any, kind: Any, where: str) -> Any:
    base, check, expected = get_args(kind)
    return _require(check(_as(value, base, where)), value, expected, where)


def _one_of(value: Any, union: Any, where: str) -> Any:
    """As the first kind that fits; the message is about the last that is not null."""
    failed = None
    for kind in sorted(get_args(union), key=lambda one: one is NoneType):
        try:
            return _as(value, kind, where)
        except MisfitError as error:
            failed = error if kind is not NoneType or failed is None else failed
    assert failed is not None
    raise failed


def _dictionary(value: Any, kind: Any, where: str) -> dict[str, Any]:
    _require(isinstance(value, dict), value, "names and values", where)
    lost = sorted(kind.__required_keys__ - value.keys())
    if lost:
        raise MisfitError(None, "a value", f"{where}.{lost[0]}")
    hints = _hints(kind)
    return {
        key: _as(item, hints[key], f"{where}.{key}") if key in hints else item for key, item in value.items()
    }


def _object(value: Any, kind: Any, where: str) -> Any:
    _require(isinstance(value, dict), value, "names and values", where)
    hints, own = _hints(kind), [item for item in fields(kind) if item.init]
    strange = sorted(value.keys() - {item.name for item in own})
    if strange:
        raise MisfitError(value[strange[0]], "no such key in this version", f"{where}.{strange[0]}")
    for item in own:
        if item.name not in value and item.default is MISSING and item.default_factory is MISSING:
            raise MisfitError(None, "a value", f"{where}.{item.name}")
    return kind(**{key: _as(item, hints.get(key, Any), f"{where}.{key}") for key, item in value.items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """Types by name; none where names in annotations mean nothing at run time, as in somebody's own class."""
    with suppress(NameError):
        return get_type_hints(kind, include_extras=True)
    return {}


def _literal(value: Any, kind: Any, where: str) -> Any:
    choices = get_args(kind)
    return _require(value in choices, value, f"one of {', '.join(map(str, choices))}", where)


def _many(value: Any, kind: Any, where: str) -> Any:
    """Lists, tuples and dictionaries of one kind; a tuple is a list in JSON, of any length or of that of its kinds."""
    origin, kinds = get_origin(kind), get_args(kind)
    if origin in (dict, Mapping):
        _require(isinstance(value, dict), value, "names and values", where)
        return {_as(key, str, where): _as(item, kinds[1], f"{where}.{key}") for key, item in value.items()}
    _require(isinstance(value, (list, tuple)), value, "a list", where)
    endless = origin is not tuple or kinds[-1] is Ellipsis
    each = [kinds[0]] * len(value) if endless else kinds
    _require(len(each) == len(value), value, f"a list of {len(each)}", where)
    return (tuple if origin is tuple else list)(
        _as(item, one, f"{where}.{i}") for i, (item, one) in enumerate(zip(value, each, strict=True))
    )


COMPOSED: Mapping[Any, Callable[[Any, Any, str], Any]] = {
    Annotated: _annotated, Union: _one_of, UnionType: _one_of, Literal: _literal,
}  # fmt: skip


def _short(value: Any) -> str:
    """What came, in a few words."""
    if isinstance(value, (dict, list)):
        return f"a {'list' if isinstance(value, list) else 'dictionary'} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= LARGEST:
        return "a number of more than 64 bits"
    if value is None:
        return "missing"
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
