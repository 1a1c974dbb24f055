"""Other people's code by name: ``package.module:attr``, an entry point, an optional library."""

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from paramdiff.errors import TaskError, near


def load_attribute(name: str, installed: bool = False) -> Any:
    """The object ``package.module:attr``; ``attr`` may have dots.

    Args:
        name: as a person typed it, or an installed package announces it.
        installed: whether modules of the current folder are not meant.

    Raises:
        TaskError: the module cannot be imported, or has no such attribute.
    """
    module_name, _, path = name.partition(":")
    if not installed:
        _find_own_code()
    try:
        found = import_module(module_name)
    except Exception as error:  # whatever a user's module raises while it is imported
        raise TaskError(
            f"cannot import {module_name} for {name!r} ({type(error).__name__}: {error})",
            remedy="install the package, or put its folder on PYTHONPATH",
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            public = [attr for attr in dir(found) if not attr.startswith("_")]
            raise TaskError(
                f"{name!r}: {getattr(found, '__name__', found)} has no {part!r}", remedy=near(part, public)
            )
        found = getattr(found, part)
    return found


def made(shown: str, build: Any, options: Mapping[str, Any], remedy: str) -> Any:
    """The object that a user's class or function makes from these options.

    Args:
        shown: its name, for messages.
        build: as it was loaded.
        options: keyword arguments.
        remedy: for whatever it raises.

    Raises:
        TaskError: it raised something.
    """
    try:
        return build(**options)
    except Exception as error:  # whatever a user's code raises
        raise TaskError(
            f"{shown} called with {dict(options)} failed ({type(error).__name__}: {error})", remedy=remedy
        ) from error


def _find_own_code() -> None:
    """Let the name mean modules of the current folder, as ``python -m`` does.

    Only once the user has named code: a module in a downloaded folder must not shadow others unasked.
    """
    here = str(Path.cwd())
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)


def load_entry_point(group: str, name: str, builtin: list[str]) -> Any:
    """What an installed package offers under ``name`` in an entry point group.

    Raises:
        TaskError: no such entry point, or it cannot be loaded.
    """
    found = {point.name: point for point in entry_points(group=group)}
    if name not in found:
        raise TaskError(
            f"there is no task {name!r}",
            expected=f"a built-in task, an entry point of {group}, or package.module:attr",
            remedy=near(name, [*builtin, *found]),
        )
    return load_attribute(found[name].value, installed=True)


def load_library(name: str) -> Any:
    """An optional library of the extra ``vision``.

    Raises:
        TaskError: it is not installed, or does not fit the torch that is.
    """
    try:
        return import_module(name)
    except Exception as error:  # a torchvision built for another torch raises a RuntimeError
        reason = (
            "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be imported ({error})"
        )
        raise TaskError(f"{name} {reason}", remedy='pip install "paramdiff[vision]"') from None
