"""Which numbers a setting may have, stated beside it and checked when its class is made: before any work.

A class of settings lists the ranges of its numeric fields in ``RANGES`` and calls :func:`check_ranges` in its
``__post_init__``; subclasses inherit the ranges and state those of fields they add. Every range has two finite ends
(``tests/test_fuzz_settings.py`` goes through all classes). The upper ends are generous: they only refuse what cannot
be meant, such as 10^9 epochs, and what would not fit into any machine's memory; this machine's own is checked later
(:func:`paramdiff.devices.require_memory`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from types import NoneType
from typing import Any, get_args, get_origin

from paramdiff.errors import ConfigError, check_range, short


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
