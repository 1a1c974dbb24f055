"""Hydra's flags, which the commands of runs take beside their settings; and which settings a mistyped flag may mean."""

from argparse import SUPPRESS
from collections.abc import Iterable, Iterator
from typing import Any

from paramdiff.errors import near
from paramdiff.runs.arguments import OneOf, Parser, PassedOn

CONFIGS = ("job", "hydra", "all")
INFOS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def add_hydra_flags(parser: Parser) -> None:
    """Hydra's flags, kept in ``options.hydra``; those that hardly anybody needs work, but are not in the help.

    Without ``--experimental-rerun``, which unpickles a file.
    """
    parser.set_defaults(hydra=[])

    def flag(*names: str, **more: Any) -> None:
        parser.add_argument(*names, action=PassedOn, **more)

    flag("-m", "--multirun", nargs=0, help="sweep: comma-separated values, one run each")
    flag(
        "--config-dir", "-cd", metavar="DIR", help="a folder with your own recipes, e.g. experiment/NAME.yaml"
    )
    flag("--cfg", "-c", metavar="job", type=OneOf("--cfg", *CONFIGS),
         help="print the whole configuration, with every key, and stop")  # fmt: skip
    flag("--config-name", "-cn", metavar="NAME", help=SUPPRESS)
    flag("--config-path", "-cp", metavar="DIR", help=SUPPRESS)
    flag("--package", "-p", metavar="KEY", help=SUPPRESS)
    flag("--info", "-i", metavar="WHAT", type=OneOf("--info", *INFOS), help=SUPPRESS)
    for names in (("--run", "-r"), ("--resolve",), ("--hydra-help",)):
        flag(*names, nargs=0, help=SUPPRESS)


def meant(flag: str, value: str, flags: Iterable[str]) -> str:
    """``did you mean zoo.k=10`` for ``--k 10``: keys that end in such a name, those of the run before others."""
    from paramdiff.runs.launch import composed
    from paramdiff.runs.recipe_names import GROUPS

    name = flag.strip("-").replace("-", "_")
    keys = [*GROUPS, *_keys(composed([]))]
    found = [key for key in keys if key == name or key.endswith(f".{name}")]
    if found:
        first = min(key.count(".") for key in found)
        found = [key for key in found if key.count(".") == first][:3]
        return f"did you mean {', '.join(f'{key}={value}' for key in found)}"
    ends = dict.fromkeys(key.rpartition(".")[2] for key in keys)
    return near(name, [*ends, *flags])


def _keys(node: Any, before: str = "") -> Iterator[str]:
    """Dotted keys of all settings; those of baselines, which repeat them, left out."""
    from omegaconf import DictConfig

    for key in map(str, node) if isinstance(node, DictConfig) else ():
        child = node._get_node(key)
        if isinstance(child, DictConfig) and key != "compare" and not child._is_missing():
            yield from _keys(child, f"{before}{key}.")
        elif key != "compare":
            yield f"{before}{key}"
