"""Only ordinary files are opened: a FIFO would be waited for, a device read without end."""

import stat
from pathlib import Path

from paramdiff.errors import CheckpointError, ParamdiffError

KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def why_not(path: Path) -> str:
    """Why a path is not an ordinary file that can be read, in words; empty if it is one. Opens nothing else."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return f"is {KINDS.get(stat.S_IFMT(mode), 'not a file')}, not a file"
        path.open("rb").close()
    except FileNotFoundError:
        return "does not exist"
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    return ""


def require_file(path: Path, kind: type[ParamdiffError] = CheckpointError, expected: str = "a file") -> None:
    """Raise an error of the family unless ``path`` is an ordinary file that can be read."""
    reason = why_not(path)
    if reason:
        raise kind(f"{path} {reason}", expected=expected)
