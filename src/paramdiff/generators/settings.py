r"""Settings in parts: ``ParameterDiffusion(autoencoder=Autoencoder(lr=3e-3), diffusion=Diffusion(steps=2000))``.

Each part is a dataclass beside the code it configures. A setting is named by its dotted key, ``diffusion.steps``: in
configurations (``generator.diffusion.steps=2000``), and where settings of sampling are changed after a fit.

Until there were parts, all settings of a generator were in one flat list. :func:`moved` says where each of them is
now, for messages and for generators that were saved then.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from textwrap import fill
from typing import Any

from paramdiff.errors import ConfigError, near, short


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
    """What to say to somebody who uses the key of the flat list."""
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
