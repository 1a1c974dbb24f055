"""What ``manifest.json`` of a run folder holds, and who may write it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paramdiff.errors import CheckpointError, RunFolderError
from paramdiff.reports.schema import read_manifest
from paramdiff.zoo.storage import FOLDER as ZOO

KEPT = {"collect": ("evaluation/training.json",)}
"""Small JSON files by the stage that may write them: the manifest keeps them, too, so that they can be restored."""


@dataclass(frozen=True)
class Stage:
    """A step of a run that turns settings and earlier files into new files.

    Attributes:
        name: key in the manifest, e.g. ``fit``.
        settings: everything of the configuration that decides its outcome, JSON-able.
        needs: files or folders of earlier stages, relative to the run folder.
        makes: files or folders it writes.
        work: does it, given a folder for state that lets it resume after a kill.
        shared: whether all ranks do it together (and the first alone writes what it makes), else the first alone.
        chain: stages of a chain follow each other and need nothing of other chains, so that each chain can be
            another rank's; empty for a stage in none.
    """

    name: str
    settings: Any
    needs: Sequence[str]
    makes: Sequence[str]
    work: Callable[[Path], None]
    shared: bool = False
    chain: str = ""


def resumable(stages: Any) -> dict[str, Any]:
    """The stages of which all is known that resuming needs."""
    return {
        name: done
        for name, done in stages.items()
        if {"fingerprint", "makes", "peak_rss_bytes"} <= done.keys()
    }


def begun_or_new(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder, or an empty one of a folder that is new.

    Raises:
        RunFolderError: it is damaged, or the folder is of something else.
    """
    file = folder / "manifest.json"
    if file.exists():
        try:
            manifest = dict(read_manifest(file))
            return manifest | {"stages": resumable(manifest["stages"])}
        except CheckpointError as error:
            raise _stranded(folder, f"{error.came}", error.expected) from None
    strangers = [p.name for p in folder.iterdir() if not p.name.startswith(".")] if folder.is_dir() else []
    if strangers:
        came = f"run_dir {folder} holds {strangers[0]} but no manifest.json"
        raise _stranded(folder, came, "a run folder or an empty one")
    return {"stages": {}}


def _stranded(folder: Path, came: str, expected: str) -> RunFolderError:
    """A folder whose manifest is gone or damaged; its zoo, which takes longest to make, is not lost."""
    kept = f", or go on with its zoo in another: zoo=import zoo.path={folder / 'zoo'} run_dir={folder}-2"
    zoo = kept if ZOO.marks(folder / "zoo") else ""
    return RunFolderError(
        came, expected=expected, remedy=f"move the folder away to start again, or choose another run_dir{zoo}"
    )


def differing_keys(before: Any, now: Any, path: str = "") -> list[str]:
    """Dotted keys in which two nested settings differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys([*before, *now])
        return [d for key in keys for d in differing_keys(before.get(key), now.get(key), f"{path}.{key}")]
    return [] if before == now else [path.strip(".") or "settings"]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """An advisory lock that the system drops when the process ends, however it ends."""
    import fcntl

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunFolderError(
                f"another process is working in {path.parent}",
                remedy="wait for it, or choose another run_dir",
            ) from None
        yield
