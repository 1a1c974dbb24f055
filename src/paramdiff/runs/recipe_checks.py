"""Recipes in a folder that a user names (``--config-dir``), looked at before Hydra reads them.

A small YAML file can expand to more than any memory holds: an anchor that contains itself, or ten lists that each
repeat the one before ten times. Hydra would expand them. Here the nodes are counted without being expanded.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from paramdiff.errors import ConfigError
from paramdiff.runs.recipe_names import GROUPS

BYTES = 1_000_000
"""Of a file; the longest recipe of this project has two thousand."""
NODES = 100_000
DEPTH = 50


def require_readable(words: Sequence[str]) -> None:
    """Refuse recipes that cannot be read, in the folders that the words name (``--config-dir=DIR``).

    Raises:
        ConfigError: no such folder; or a file that is too large, no text, no YAML, has a key twice, or is nested
            too deeply or in itself.
    """
    for word in words:
        flag, _, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            require_readable_folder(value)


def require_readable_folder(name: str) -> None:
    """Refuse one folder of recipes, see :func:`require_readable`."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ConfigError("--config-dir", f"there is no folder {name}", expected="one that holds recipes")
    for path in _recipes(folder):
        require_recipe(path)


def _recipes(folder: Path) -> Iterator[Path]:
    for group in GROUPS:
        yield from sorted((folder / group).rglob("*.yaml"))


def require_recipe(path: Path) -> None:
    """Raises ConfigError if a file cannot be read as a recipe."""
    if not path.is_file():
        raise ConfigError(str(path), "not a file", expected="a recipe in YAML")
    if path.stat().st_size > BYTES:
        raise ConfigError(
            str(path), f"{path.stat().st_size:,} bytes", expected=f"a recipe of at most {BYTES:,}"
        )
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), f"not text ({error.reason})", expected="a recipe in YAML") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}, line {mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        raise ConfigError(place, str(problem), remedy="correct it") from None
    except RecursionError:
        raise _too_deep(path) from None
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigError(str(path), "no keys", expected="a recipe, with lines such as zoo: {k: 50}")
    if root is not None and _size(root, path, 0, {}) > NODES:
        raise ConfigError(str(path), f"more than {NODES:,} values, with its anchors", expected="a recipe")


def _size(node: yaml.Node, path: Path, depth: int, known: dict[int, int]) -> int:
    """Values that a node expands to, each use of an anchor counted."""
    if depth > DEPTH:
        raise _too_deep(path)
    if id(node) not in known:
        known[id(node)] = 1 + sum(_size(child, path, depth + 1, known) for child in _children(node, path))
    return known[id(node)]


def _children(node: Any, path: Path) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        twice = next((key for key, count in keys.items() if count > 1), None)
        if twice is not None:
            raise ConfigError(f"{path}, line {node.start_mark.line + 1}", f"the key {twice!r} is there twice",
                              remedy="leave one out")  # fmt: skip
        for pair in node.value:
            yield from pair


def _too_deep(path: Path) -> ConfigError:
    return ConfigError(str(path), f"nested more than {DEPTH} deep, or in itself", expected="a recipe")
