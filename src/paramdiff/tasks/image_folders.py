"""Folders of images whose names tell training from test data: ``Train_png``, ``test-images``, ``Validation``.

The ``datasets`` library knows ``train`` and its like; here any case will do, and more words around it.
"""

import glob
import re
from pathlib import Path

from paramdiff.errors import TaskError

WORDS = {
    "train": {"train", "training"},
    "test": {"test", "testing"},
    "validation": {"val", "valid", "validation"},
}
"""Words in a folder's name, of which one alone decides."""

KNOWN = {"train", "test", "validation", "valid", "val"}
"""Names that the library knows itself."""

IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"}


def split_folders(folder: Path, train: str | None, test: str | None) -> dict[str, str] | None:
    """Patterns of the images of each split, by its name; None where the library finds the splits itself.

    Args:
        train, test: folders that the user has named, which decide.

    Raises:
        TaskError: several folders could be the one.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and _holds_images(path))
    found: dict[str, list[str]] = {}
    for name in names:
        if split := split_of(name):
            found.setdefault(split, []).append(name)
    if "train" not in found or {name for own in found.values() for name in own} <= KNOWN:
        return None
    for use, asked in (("train", train), ("test", test)):
        if asked in names:
            found = {split: [name for name in own if name != asked] for split, own in found.items()}
            found[use] = [str(asked)]
    patterns = {split: _only(folder, split, own) for split, own in found.items() if own}
    return {split: f"{glob.escape(str(folder / name))}/**" for split, name in patterns.items()}


def split_of(name: str) -> str | None:
    """What a folder of this name is for: ``Train_png`` -> ``train``; None if it does not say, or says two things."""
    parts = set(re.split(r"[^a-z]+", name.lower()))
    meant = [split for split, words in WORDS.items() if words & parts]
    return meant[0] if len(meant) == 1 else None


def _only(folder: Path, split: str, names: list[str]) -> str:
    exact = [name for name in names if name.lower() in WORDS[split]]
    if len(names) > 1 and len(exact) != 1:
        key = "train" if split == "train" else "test"
        raise TaskError(
            f"{folder}: the folders {', '.join(names)} could all be the {split} data",
            remedy=f"set task.reading.{key} to the one to use",
        )
    return exact[0] if len(names) > 1 else names[0]


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGES for path in folder.rglob("*"))
