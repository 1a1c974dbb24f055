"""Artefacts: folders that are written, replaced and copied as a whole, and hashes of what is in them."""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from paramdiff.atomic import LEFT, nothing_there, settle, writing
from paramdiff.errors import CheckpointError, ParamdiffError
from paramdiff.files import ABOUT, load_metadata, read_json

LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that file managers leave in folders."""


@dataclass(frozen=True)
class ArtefactFolder:
    """A kind of folder that is written as a whole, and how it is recognised.

    Attributes:
        what: e.g. ``saved zoo``; its tensor files say so in their headers.
        marker: the JSON file that says it.
        keys: which that file has at least.
        parts: names of the other files.
        error: raised where something else is in the way.
        beside: names of files that may lie with them, such as a README.
        older: marker files of versions before, and which keys those have.
    """

    what: str
    marker: str
    keys: Collection[str]
    parts: Collection[str]
    error: type[ParamdiffError]
    beside: Collection[str] = ()
    older: Mapping[str, Collection[str]] = field(default_factory=dict)

    @contextmanager
    def writing(self, folder: Path | str) -> Iterator[Path]:
        """A temporary folder that takes the place of ``folder``; a link is followed, what it leads to is replaced.

        Raises:
            ParamdiffError: ``folder`` is neither new nor empty nor one of this kind with nothing else in it.
            DiskError: as :func:`paramdiff.atomic.writing`.
        """
        folder = Path(folder).expanduser()
        folder = folder.resolve() if folder.is_symlink() else folder
        settle(folder.parent)
        self.require_replaceable(folder)
        with writing(folder, self.require_replaceable) as partial:
            partial.mkdir()
            yield partial

    def require_replaceable(self, folder: Path) -> None:
        """Raise unless ``folder`` may be removed for another of this kind."""
        if not folder.exists():
            return
        if not folder.is_dir():
            raise self._refused(f"{folder} is a file")
        ours = {self.marker, *self.parts, *self.beside, *self.older, *LITTER}
        names = sorted(p.name for p in folder.iterdir() if not LEFT.fullmatch(p.name))
        strange = [name for name in names if name not in ours or (folder / name).is_dir()]
        if strange:
            more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            raise self._refused(f"{folder} holds {strange[0]}{more}, and saving would remove it")
        if set(names) - set(LITTER) and not self.marks(folder):
            raise self._refused(f"{folder} is not empty and no {self.what}")

    def _refused(self, came: str) -> ParamdiffError:
        return self.error(
            came,
            expected=f"a new or empty folder, or a {self.what} to replace",
            remedy="choose another folder",
        )

    def marks(self, folder: Path) -> bool:
        """Whether a folder is of this kind, even if damaged: its marker says so, or a tensor file does."""
        markers = {self.marker: self.keys, **self.older}
        marked = any(_has_keys(folder / name, keys) for name, keys in markers.items())
        return marked or any(self._says(folder / name) for name in self.parts)

    def _says(self, file: Path) -> bool:
        try:
            return json.loads(load_metadata(file)[ABOUT])["what"].startswith(self.what)
        except (ParamdiffError, KeyError, TypeError, ValueError, AttributeError):
            return False

    def says(self, part: str) -> str:
        """The description in the header of one of its tensor files."""
        return f"{self.what}: {part}"


def _has_keys(file: Path, keys: Collection[str]) -> bool:
    """Whether a file is a JSON dictionary with at least these keys."""
    with suppress(ParamdiffError):
        found = read_json(file)
        return isinstance(found, dict) and set(keys) <= found.keys()
    return False


def copy(source: Path, path: Path, kinds: Collection[ArtefactFolder] = ()) -> None:
    """Copy a file or folder; it takes no more space where the file system has links.

    Files here are only ever replaced, never changed, so links are safe.

    Args:
        source: a file or folder.
        path: its new name.
        kinds: of folders; where the source is of one of them, it may replace another.

    Raises:
        DiskError: as :func:`writing`.
    """
    own = next((kind for kind in kinds if source.is_dir() and kind.marks(source)), None)
    with writing(path, own.require_replaceable if own else nothing_there) as partial:
        if source.is_dir():
            shutil.copytree(source, partial, copy_function=_link)
        else:
            _link(source, partial)


def _link(source: Path | str, path: Path | str) -> None:
    try:
        os.link(source, path)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, path)


def sha256(path: Path) -> str:
    """Hash of a file, or of the names and hashes of all files in a folder.

    Raises:
        CheckpointError: it is neither; reading a pipe would block, and reading a device would never end.
    """
    path = Path(path)
    digest = hashlib.sha256()
    if not (path.is_dir() or path.is_file()):
        raise CheckpointError(f"{path} is neither a file nor a folder")
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()} {sha256(file)}\n".encode())
    else:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
