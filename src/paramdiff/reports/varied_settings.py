"""The settings in which several runs differ.

Where the experiment, the task, the way to a zoo or the generator differs, its name is enough, and settings that follow
from it are left out.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BASELINES = "compare."
"""Beginning of the keys of baselines."""

CAUSES = {"experiment": "", "task": "task.", "zoo": "zoo.", "generator": "generator."}
"""Settings that are names, and the beginning of the keys that they may explain."""

Value = str | int | float | bool | None


def flatten(settings: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Value]]:
    """Dotted keys and values of nested settings; a list is its text."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", json.dumps(value) if isinstance(value, list) else value


def differing(settings: Sequence[Mapping[str, Value]]) -> list[str]:
    """Keys with more than one value among those that have them, without what a name explains.

    Settings of baselines count only where nothing else differs.
    """
    found = [key for key in _all_keys(settings) if len(_values(key, settings)) > 1]
    of_the_run = [key for key in found if not key.startswith(BASELINES)]
    found = of_the_run or found
    for cause, scope in CAUSES.items():
        if cause in found:
            found = _without_consequences(found, cause, scope, settings)
    return found


def _all_keys(settings: Sequence[Mapping[str, Value]]) -> list[str]:
    """Every key once, in the order in which they first come."""
    return list(dict.fromkeys(key for own in settings for key in own))


def _values(key: str, settings: Sequence[Mapping[str, Value]]) -> set[Value]:
    return {own[key] for own in settings if key in own}


def _without_consequences(
    keys: Sequence[str], cause: str, scope: str, settings: Sequence[Mapping[str, Value]]
) -> list[str]:
    """The keys without those of a scope whose values follow from that of ``cause``."""

    def is_consequence(key: str) -> bool:
        return key != cause and key.startswith(scope) and _follows(key, cause, settings)

    return [key for key in keys if not is_consequence(key)]


def _follows(key: str, cause: str, settings: Sequence[Mapping[str, Value]]) -> bool:
    """Whether a key has one value for each value of ``cause``."""
    seen: dict[Value, set[Value]] = {}
    for own in settings:
        if key in own:
            seen.setdefault(own.get(cause), set()).add(own[key])
    return all(len(values) == 1 for values in seen.values())


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The shortest end of each key that no other key has."""

    def name(key: str) -> str:
        parts = key.split(".")
        ends = (".".join(parts[-depth:]) for depth in range(1, len(parts) + 1))
        return next((e for e in ends if sum(f".{k}".endswith(f".{e}") for k in keys) == 1), key)

    return {key: name(key) for key in keys}


def written(value: Value) -> str:
    """A setting as a person writes it; empty where a run has none."""
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def natural(value: Value) -> tuple[int, float, list[tuple[str, int]]]:
    """Sort key: what is missing, then numbers, then texts with ``a2`` before ``a10``."""
    if value is None:
        return 0, 0.0, []
    if isinstance(value, (int, float)):
        return 1, float(value), []
    return 2, 0.0, [(text, int(digits or -1)) for text, digits in re.findall(r"(\D*)(\d*)", value)]
