"""Atomic writes: a file or folder gets its name once all of it is on the disk, and never before.

What is written lies in a temporary folder beside its place, ``.NAME.RANDOM.partial``, whose lock file is held as long
as the writer lives: the system drops the lock however the process ends, so a process id that is given out a second
time, as in containers, means nothing. What a kill leaves is removed by whoever writes or opens something in the same
folder next (:func:`settle`).

A folder is exchanged with the one it replaces in one step where the system can do that. Elsewhere it takes two
renames, and :func:`settle` does the second one if a kill came between them.

File contents and names are on the disk (``fsync``) before the next step, so a power loss leaves the old or the new.
"""

import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from paramdiff.errors import DiskError, ParamdiffError

LOCK, OLD = ".paramdiff-lock", ".paramdiff-old"
"""In a temporary folder: the file that is locked, and the folder that keeps what is being replaced."""

LEFT = re.compile(r"\..+\.[0-9a-f]{16}\.partial")
LEFT_BEFORE = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.(?P<kind>partial|old)")
"""Names of temporary folders, now and before there were locks."""

MARKERS = ("manifest.json", "generator.json")
"""Files one of which was in every folder that a version without locks replaced."""

UNKNOWN_FOR_S = 24 * 3600
"""Age at which a leftover is removed where the file system has no locks to tell whether its writer is alive."""

LONGEST_NAME = 80
"""Characters of a name that are repeated in the names of its temporary folders; file systems limit those."""

_settled: dict[Path, int] = {}
"""Folders without leftovers, and when they had last changed."""


def nothing_there(path: Path) -> None:
    """Raise unless there is nothing at the path, or an empty folder: what a folder may replace by default.

    Raises:
        ParamdiffError: there is a file or a folder with something in it.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.is_symlink() or path.exists():
        raise ParamdiffError(f"{path} is there already", remedy="choose another name or move it away")


@contextmanager
def writing(path: Path, replaces: Callable[[Path], None] = nothing_there) -> Iterator[Path]:
    """A temporary path (file or folder) that becomes ``path`` if the block succeeds.

    Args:
        path: its place.
        replaces: called with the path; raises unless what is there may be replaced by a *folder*. A file always
            replaces a file.

    Raises:
        DiskError: the disk is full or not writable; ``path`` is as it was.
    """
    path = Path(path)
    path = path if path.name not in ("", "..") else path.resolve()
    try:
        _make(path.parent)
        settle(path.parent)
        with _workshop(path) as place:
            partial = place / path.name
            yield partial
            _sync_all(partial)
            if partial.is_dir():
                replaces(path)
            _take_place(partial, path, place)
        _note(path.parent)
    except OSError as error:
        raise disk_error(error, path) from error
    except SafetensorError as error:  # safetensors reports a failed write with its own type
        full = errno.ENOSPC if "No space left" in str(error) else 0
        raise disk_error(OSError(full, str(error)), path) from error


def default_mode(partial: Path) -> int:
    """Mode that the system gives new files here, for libraries that write private ones."""
    return os.stat(partial.parent / LOCK).st_mode & 0o777  # noqa: PTH116 (as short as it gets)


def disk_error(error: OSError, path: Path | str) -> DiskError:
    """What the system refused at ``path``, in words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskError(
            f"the disk is full while writing {path}",
            remedy="free some space and run the same command again: it goes on where it stopped",
        )
    return DiskError(
        f"cannot write {path} ({error.strerror or error})",
        remedy="check the permissions or choose another run_dir",
    )


# --- temporary folders -------------------------------------------------------------------------------------


@contextmanager
def _workshop(path: Path) -> Iterator[Path]:
    """A new temporary folder beside ``path``, held by this process; removed with all that is left in it."""
    held = None
    while held is None:  # somebody may have swept it before it was held
        place = path.with_name(f".{path.name[:LONGEST_NAME]}.{secrets.token_hex(8)}.partial")
        place.mkdir()
        held = _hold(place)
    try:
        yield place
    finally:
        _clear(place, held)


def _hold(place: Path, surely: bool = False) -> int | None:
    """The lock of a temporary folder, as an open file; None if another process has it or has removed it.

    Args:
        surely: None also where the file system has no locks.
    """
    try:
        file = os.open(place / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        return None
    with suppress(BlockingIOError, FileNotFoundError):
        locked = _lock(file)
        still_there = os.path.samestat(os.fstat(file), os.stat(place / LOCK))  # noqa: PTH116
        if still_there and (locked or not surely):
            return file
    os.close(file)
    return None


def _lock(file: int) -> bool:
    """Take an advisory lock; False where there are none.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):
        return False
    return True


# --- taking the place --------------------------------------------------------------------------------------


def _take_place(partial: Path, path: Path, place: Path) -> None:
    """Rename over ``path``. A folder that is replaced ends in ``place``, which is removed afterwards."""
    if not (partial.is_dir() and path.is_dir()):
        partial.replace(path)
    elif not exchange(partial, path):
        (place / OLD).mkdir()
        path.rename(place / OLD / path.name)
        partial.rename(path)
    _sync(path.parent)


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; False where the system cannot."""
    names = os.fsencode(one), os.fsencode(other)
    library = ctypes.CDLL(None, use_errno=True)
    try:
        if sys.platform == "darwin":
            return library.renamex_np(*names, 2) == 0  # RENAME_SWAP
        here = -100  # AT_FDCWD: relative to the current folder
        return library.renameat2(here, names[0], here, names[1], 2) == 0  # RENAME_EXCHANGE
    except AttributeError:  # a C library without them
        return False


def _make(folder: Path) -> None:
    """A folder, with its own name and those of its parents on the disk."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync_all(partial: Path) -> None:
    """A file, or a folder with all that is in it, onto the disk."""
    if partial.is_dir():
        for folder, _, files in os.walk(partial, topdown=False):
            for name in files:
                _sync(Path(folder) / name)
            _sync(Path(folder))
    elif partial.exists():
        _sync(partial)


def _sync(path: Path) -> None:
    """What is known of a file, or the names in a folder, onto the disk; some file systems refuse for folders."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(file)


# --- what a kill leaves ------------------------------------------------------------------------------------


def settle(folder: Path) -> None:
    """Finish or undo what dead processes left in ``folder``; nothing happens where we may not write."""
    with suppress(OSError):
        if _settled.get(folder) == os.stat(folder).st_mtime_ns:  # noqa: PTH116
            return
        for name in [entry.name for entry in os.scandir(folder) if entry.name.startswith(".")]:
            with suppress(OSError):
                if LEFT.fullmatch(name):
                    _settle_one(folder / name)
                elif before := LEFT_BEFORE.fullmatch(name):
                    _settle_before(folder / name, before)
        _note(folder)


def _note(folder: Path) -> None:
    _settled[folder] = os.stat(folder).st_mtime_ns  # noqa: PTH116


def _settle_one(place: Path) -> None:
    held = _hold(place, surely=_age(place) < UNKNOWN_FOR_S)
    if held is not None:
        _clear(place, held)


def _clear(place: Path, held: int) -> None:
    """Remove a temporary folder that we hold, after finishing what was begun in it."""
    try:
        for old in list((place / OLD).iterdir()) if (place / OLD).is_dir() else []:
            new, path = place / old.name, place.parent / old.name
            if not path.exists():  # killed between the two renames: the new one is complete
                (new if new.exists() else old).rename(path)
        shutil.rmtree(place, ignore_errors=True)
    finally:
        os.close(held)


def _settle_before(left: Path, name: re.Match[str]) -> None:
    """A leftover of a version without locks: ``.NAME.PID.old`` is what was replaced, ``.partial`` is incomplete."""
    pid = int(name["pid"])
    if pid != os.getpid() and _alive(pid) and _age(left) < UNKNOWN_FOR_S:  # we ourselves write no such names
        return
    path = left.with_name(name["name"])
    if name["kind"] == "old" and not path.exists() and any((left / marker).is_file() for marker in MARKERS):
        left.rename(path)
    elif left.is_dir():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


def _age(path: Path) -> float:
    return time.time() - path.lstat().st_mtime


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
