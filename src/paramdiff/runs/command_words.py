"""The words after a command: flags that Hydra knows, overrides, and what was meant by anything else."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig

from paramdiff.errors import ConfigError, check_choice, near
from paramdiff.runs.recipe_names import GROUPS, list_options

DEFAULT_EXPERIMENT = "digits"

VALUE_FLAGS = {
    "--config-dir": "DIR", "-cd": "DIR", "--config-name": "NAME", "-cn": "NAME", "--config-path": "DIR",
    "-cp": "DIR", "--cfg": "job", "-c": "job", "--package": "KEY", "-p": "KEY",
}  # fmt: skip
"""Hydra's flags that are followed by a value, and what that is."""

CHOICES = {
    **dict.fromkeys(("--cfg", "-c"), ("job", "hydra", "all")),
    **dict.fromkeys(
        ("--info", "-i"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    ),
}

PLAIN_FLAGS = ("-m", "--multirun", "-r", "--run", "--resolve", "--info", "-i", "--hydra-help")
"""Without ``--experimental-rerun``, which unpickles a file."""

SWEEP_FLAGS = {"-m", "--multirun"}


def arranged(words: Sequence[str]) -> list[str]:
    """Flags first, then overrides, as Hydra's parser wants them; the default experiment where none is named.

    A task without an experiment starts from the plain settings, not from those of the digits.

    Raises:
        ConfigError: a flag that does not exist, with what was probably meant, or one without its value.
    """
    flags: list[str] = []
    overrides: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word.startswith("-"):
            flags += _flag(word, left)
        else:
            overrides.append(word)
    for word in overrides:
        _require_option(*word.lstrip("+").partition("=")[::2])
    named = any(word.lstrip("+").startswith(("experiment=", "task=")) for word in overrides)
    return flags + ([] if named else [f"experiment={DEFAULT_EXPERIMENT}"]) + overrides


def _flag(word: str, left: list[str]) -> list[str]:
    """A flag and its value, which is taken from the words that are left."""
    flag, equals, value = word.partition("=")
    if flag in VALUE_FLAGS:
        if not equals and not left:
            raise ConfigError(flag, "no value", remedy=f"give {flag} {VALUE_FLAGS[flag]}")
        value = value if equals else left.pop(0)
        if flag in CHOICES:
            check_choice(flag, value, CHOICES[flag])
        return [flag, value]
    if flag not in PLAIN_FLAGS or (equals and flag not in CHOICES):
        meant = value if equals else next((w for w in left[:1] if "=" not in w and not w.startswith("-")), "")
        raise ConfigError(flag, "not a flag", expected="key=value", remedy=_meant(flag, meant))
    if flag in CHOICES:  # a bare one would take the next override for its value
        check_choice(flag, value or "all", CHOICES[flag])
        return [f"--info={value or 'all'}"]
    return [flag]


def _meant(flag: str, value: str) -> str:
    """``did you mean zoo.k=10`` for ``--k 10``: keys that end in such a name, those of the run before others."""
    from paramdiff.runs.launch import composed  # it builds on this module

    name = flag.strip("-").replace("-", "_")
    keys = [*GROUPS, *_keys(composed([]))]
    found = [key for key in keys if key == name or key.endswith(f".{name}")]
    if found:
        first = min(key.count(".") for key in found)
        found = [key for key in found if key.count(".") == first][:3]
        return f"did you mean {', '.join(f'{key}={value}' for key in found)}"
    ends = dict.fromkeys(key.rpartition(".")[2] for key in keys)
    return near(name, [*ends, *PLAIN_FLAGS, *VALUE_FLAGS])


def _keys(node: Any, before: str = "") -> Iterator[str]:
    """Dotted keys of all settings; those of baselines, which repeat them, left out."""
    for key in map(str, node) if isinstance(node, DictConfig) else ():
        child = node._get_node(key)
        if isinstance(child, DictConfig) and key != "compare" and not child._is_missing():
            yield from _keys(child, f"{before}{key}.")
        elif key != "compare":
            yield f"{before}{key}"


def _require_option(key: str, value: str) -> None:
    """Hydra raises a bare ValueError at ``compare=null`` and ``zoo=3``."""
    if not re.fullmatch(r"null|[+-]?[\d._]+(e[+-]?\d+)?|true|false|inf|nan", value, re.IGNORECASE):
        return
    if options := list_options(key):  # null is like full
        raise ConfigError(
            key, f"{value} is no option", remedy=near("" if value == "null" else value, options)
        )


def sweeps(words: Sequence[str]) -> bool:
    """Whether several runs are asked for."""
    return bool(SWEEP_FLAGS & set(words))
