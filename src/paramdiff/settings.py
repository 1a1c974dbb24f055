r"""Settings: dataclasses whose numbers have ranges, and whose parts are dataclasses again.

**Ranges.** A class of settings lists which numbers its fields may have in ``RANGES`` and calls :func:`check_ranges` in
its ``__post_init__``, so that a wrong one is refused before any work; subclasses inherit the ranges and state those of
fields they add. Every range has two finite ends (``tests/test_fuzz_settings.py`` goes through all classes). The upper
ends are generous: they only refuse what cannot be meant, such as 10^9 epochs, and what would not fit into any machine's
memory before the machine's own is asked (:func:`paramdiff.devices.require_memory`).

**Parts.** ``ParameterDiffusion(autoencoder=Autoencoder(lr=3e-3), diffusion=Diffusion(steps=2000))``: each part is a
dataclass beside the code it configures. A setting is named by its dotted key, ``diffusion.steps``: in configurations
(``generator.diffusion.steps=2000``), and where settings of sampling are changed after a fit. Until there were parts,
all settings of a generator were in one flat list. :func:`moved` says where each of them is now, for messages and for
generators that were saved then.
"""

import inspect
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from numbers import Integral, Real
from textwrap import fill
from types import NoneType
from typing import Any, get_args, get_origin

from paramdiff.errors import ConfigError, check_range, near, short


@dataclass(frozen=True)
class Range:
    """Numbers from ``least`` (or ``above``) to ``most`` (or ``below``); of a list, each of its numbers.

    Attributes:
        items: of a list, the least and the largest number of items.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    items: tuple[int, int] = (1, 1000)

    def check(self, key: str, value: float) -> None:
        """Raises ConfigError for what is outside, infinite or no number."""
        check_range(key, value, least=self.least, most=self.most, above=self.above, below=self.below)


Ranges = Mapping[str, Range]

COUNT = Range(least=1, most=1_000_000)
"""Networks, members, ranks: a million of the smallest take minutes and gigabytes."""
MEMBERS = Range(least=2, most=1_000_000)
"""K: one member has no variation."""
STEPS = Range(least=1, most=100_000_000)
"""Optimiser steps: at a millisecond each, a day."""
BATCH = Range(least=1, most=100_000)
RATE = Range(above=0, most=1_000_000)
"""Learning rates."""
FACTOR = Range(least=0, most=1000)
"""Amplitudes, scales and weights of a penalty, in units in which 1 is large already."""
SHARE = Range(least=0, below=1)
SEED = Range(least=0, most=2**53)
"""Seeds: larger integers are not exact in every reader of JSON."""


def check_ranges(settings: Any) -> None:
    """Raise :class:`ConfigError` for the first numeric field of a dataclass that is out of its range.

    A number in a field without a range (somebody's own class) has to be finite.
    """
    for item in fields(settings):
        value, limits = getattr(settings, item.name), range_of(type(settings), item.name)
        if limits is None:
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(item.name, f"{value!r} is out of range", expected="a finite number")
        elif value is not None or NoneType not in get_args(item.type):
            _check(item.name, value, limits, item.type)


def range_of(kind: type, name: str) -> Range | None:
    """What a class of settings, or one that it inherits from, states about a field."""
    stated = (vars(base).get("RANGES", {}).get(name) for base in kind.__mro__)
    return next((limits for limits in stated if limits is not None), None)


def numeric(annotation: Any) -> type | None:
    """``int`` or ``float`` for a field of such numbers, lists of them and optional ones included; else None."""
    if annotation in (int, float):
        return annotation  # type: ignore[no-any-return]
    inner = {numeric(part) for part in get_args(annotation)} if get_origin(annotation) is not dict else set()
    return next((kind for kind in (float, int) if kind in inner), None)


def _check(key: str, value: Any, limits: Range, annotation: Any) -> None:
    listed = any(get_origin(part) is list for part in (annotation, *get_args(annotation)))
    if listed and not isinstance(value, (list, tuple)):
        raise ConfigError(key, f"{short(value)} is no list", expected="a list of numbers")
    least, most = limits.items
    if listed and not least <= len(value) <= most:
        raise ConfigError(key, f"{len(value)} values", expected=f"{least} to {most}")
    for number in value if listed else [value]:
        _check_number(key, number, limits, annotation)


def _check_number(key: str, value: Any, limits: Range, annotation: Any) -> None:
    whole = numeric(annotation) is int
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        wanted = "a whole number" if whole else "a number"
        raise ConfigError(key, f"{short(value)} is of type {type(value).__name__}", expected=wanted)
    limits.check(key, value)  # type: ignore[arg-type]


def parts(kind: type) -> dict[str, type]:
    """The parts of a class of settings by name, e.g. ``{"diffusion": Diffusion}``; empty if it has none."""
    own = fields(kind) if is_dataclass(kind) else ()
    return {item.name: item.type for item in own if is_dataclass(item.type)}  # type: ignore[misc]


def get(settings: Any, key: str) -> Any:
    """The setting with a dotted key."""
    for name in key.split("."):
        settings = getattr(settings, name)
    return settings


def put(settings: Any, key: str, value: Any) -> None:
    """Change the setting with a dotted key."""
    part, _, name = key.rpartition(".")
    setattr(get(settings, part) if part else settings, name, value)


def without(settings: Mapping[str, Any], keys: tuple[str, ...], before: str = "") -> dict[str, Any]:
    """Nested dictionaries of settings without these dotted keys."""
    return {
        name: without(value, keys, f"{before}{name}.") if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if f"{before}{name}" not in keys
    }


def require_parts(settings: Any) -> None:
    """Raise :class:`ConfigError` for a part that is not of its class."""
    for name, kind in parts(type(settings)).items():
        value = getattr(settings, name)
        if not isinstance(value, kind):
            raise ConfigError(name, f"{short(value)} is of type {type(value).__name__}",
                              expected=f"{kind.__name__}(...)")  # fmt: skip


def make_parts(kind: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings with parts made of their dictionaries; what these leave out is as by default.

    Raises:
        ConfigError: no such setting, or a value out of range; the key is the dotted one.
    """
    require_known(kind, settings)
    made = dict(settings)
    for item in fields(kind) if is_dataclass(kind) else ():
        given = settings.get(item.name)
        if not (is_dataclass(item.type) and isinstance(given, Mapping)):
            continue
        try:
            require_known(item.type, given)  # type: ignore[arg-type]
            made[item.name] = replace(_default(item), **given)
        except ConfigError as error:
            raise error.under(item.name) from None
    return made


def require_known(kind: type, settings: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigError` for a key that is no field, saying where it is now if it has moved."""
    known = [item.name for item in fields(kind)] if is_dataclass(kind) else []
    for key in settings:
        if key in known:
            continue
        if key in moved(kind):
            raise has_moved(kind, key)
        raise ConfigError(key, f"{_name(kind)} has no such setting", remedy=near(key, known))


def moved(kind: type) -> dict[str, list[str]]:
    """Where settings of the flat list are now: ``{"latent_noise": ["autoencoder.latent_noise"], ...}``.

    A part whose field had another name in the flat list says so in ``FORMERLY``, which is None if it was never there.
    """
    found: dict[str, list[str]] = {}
    for part, inner in parts(kind).items():
        former: Mapping[str, str] | None = getattr(inner, "FORMERLY", {})
        if former is None:
            continue
        for item in fields(inner):  # type: ignore[arg-type]
            found.setdefault(former.get(item.name, item.name), []).append(f"{part}.{item.name}")
    for item in fields(kind) if is_dataclass(kind) else ():
        found.pop(item.name, None)
    return found


def has_moved(kind: type, key: str) -> ConfigError:
    """The remedy for a key of the flat list."""
    return ConfigError(
        key, f"{_name(kind)} has this setting in a part of its own", remedy=f"write {where(kind, key)}"
    )


def where(kind: type, key: str, before: str = "") -> str:
    """For people: where a setting of the flat list is now."""
    return " and ".join(f"{before}{now}" for now in moved(kind)[key])


def nested(kind: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the flat list, as an earlier version saved them, in their parts; others as they are."""
    now, moves = dict(settings), moved(kind)
    for key in moves.keys() & settings.keys():
        value = now.pop(key)
        for place in moves[key]:
            part, name = place.split(".")
            now.setdefault(part, {})[name] = value
    return now


def described(kind: type) -> Iterator[str]:
    """A line for every setting by dotted key, with its default and what a docstring says; none without parts."""
    if not parts(kind):
        return
    own_texts = documented(kind)
    for item in fields(kind):  # type: ignore[arg-type]
        default = _default(item)
        if is_dataclass(item.type):
            texts = documented(item.type)  # type: ignore[arg-type]
            own = {
                f"{item.name}.{name}": (value, texts.get(name, "")) for name, value in vars(default).items()
            }
        else:
            own = {item.name: (default, own_texts.get(item.name, ""))}
        for key, (value, text) in own.items():
            yield fill(f"{key} = {value!r}: {text}", 110, initial_indent=4 * " ", subsequent_indent=8 * " ")


def describe(kind: type) -> None:
    """Let ``help`` show the settings of parts, and inherited ones."""
    if lines := list(described(kind)):
        kind.__doc__ = f"{inspect.cleandoc(kind.__doc__ or '')}\n\nAll settings:\n" + "\n".join(lines)


def documented(kind: type) -> dict[str, str]:
    """What the docstrings of a class and of those it inherits from say about attributes, each on one line."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        _, _, listed = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("Attributes:\n")
        for names, text in re.findall(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {5,}.*)*)", listed, re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def _name(kind: type) -> str:
    return getattr(kind, "name", "") or kind.__name__


def _default(item: "Field[Any]") -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()
