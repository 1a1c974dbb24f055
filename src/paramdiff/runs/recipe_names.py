"""Names of the options of each configuration group, found without importing anything heavy, for help."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap

from paramdiff.registry import registered_in

RECIPES = Path(__file__).parents[1] / "recipes"

GROUPS = ("experiment", "ablation", "task", "model", "zoo", "generator", "compare")


def list_options(group: str) -> list[str]:
    """Options of a configuration group, e.g. ``zoo`` -> ``["subset", ...]``."""
    folder = RECIPES / group
    files = (p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))
    return [*_in_code(group), *sorted(files)]


def _in_code(group: str) -> list[str]:
    """Options that are registered."""
    packages = {"task": "tasks", "zoo": "collectors", "generator": "generators"}
    return [option_name(name) for name in registered_in(packages[group])] if group in packages else []


def option_name(name: str) -> str:
    """``p-diff-linear`` -> ``pdiff_linear``: a registered name as it is spelt in configuration keys."""
    return name.replace("p-diff", "pdiff").replace("-", "_")


def describe_options() -> str:
    """All options of all groups, for ``--help``."""
    lines: list[str] = []
    for group in GROUPS:
        names = list_options(group)
        paragraphs = in_families(names) if group == "experiment" else [", ".join(names)]
        for number, paragraph in enumerate(paragraphs):
            before = f"  {group if number == 0 else '':<12}"
            lines += wrap(paragraph, 100, initial_indent=before, subsequent_indent=18 * " ")
    return "\n".join(lines)


def in_families(names: Iterable[str]) -> list[str]:
    """Names with common beginnings or ends on one line: ``["reference", "{mnist, svhn}_{cnn, mlp}"]``."""
    ends: dict[str, list[str]] = {}
    for name in names:
        start, _, end = name.partition("_")
        ends.setdefault(start, []).append(end)
    plain = [start for start, own in ends.items() if "" in own or len(own) == 1]
    starts: dict[tuple[str, ...], list[str]] = {}
    for start, own in ends.items():
        if start not in plain:
            starts.setdefault(tuple(own), []).append(start)
    singles = ", ".join(f"{start}_{end}".strip("_") for start in plain for end in ends[start])
    return [
        *([singles] if singles else []),
        *(f"{_any_of(same)}_{_any_of(own)}" for own, same in starts.items()),
    ]


def _any_of(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{{{', '.join(words)}}}"
