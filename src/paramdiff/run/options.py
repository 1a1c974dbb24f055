"""Names of the recipes that ship with the package, found without importing anything heavy."""

from pathlib import Path

RECIPES = Path(__file__).parents[1] / "recipes"


def list_options(group: str) -> list[str]:
    """Options of a configuration group, e.g. ``experiment`` -> ``["digits", "digits_full"]``."""
    folder = RECIPES / group
    return sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))
