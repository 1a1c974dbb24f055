"""Names of the options of each configuration group, found without importing anything heavy, for help."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap

RECIPES = Path(__file__).parents[1] / "recipes"

GROUPS = ("experiment", "ablation", "task", "model", "zoo", "generator", "compare")

REGISTERED: dict[str, list[str]] = {
    "task": [
        "digits", "images", "own", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "stl10",
        "flowers102", "pets", "food101", "imagenet1k",
    ],
    "zoo": ["subset", "seeds", "import"],
    "generator": [
        "pdiff", "pdiff_linear", "average", "average_of_k", "noised", "matched_noise", "gaussian",
        "low_rank_gaussian", "swag", "fine_tuned", "vae", "autoencoder_kde", "latent_noise",
    ],
}  # fmt: skip
"""Options that are dataclasses, not files; ``tests/test_recipes.py`` compares this with the code."""


def list_options(group: str) -> list[str]:
    """Options of a configuration group, e.g. ``zoo`` -> ``["subset", ...]``."""
    folder = RECIPES / group
    files = (p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))
    return [*REGISTERED.get(group, []), *sorted(files)]


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
