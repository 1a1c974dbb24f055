"""Members of an imported zoo exactly as they are in their files.

A zoo has one frozen rest, that of its first checkpoint. Where the files differ there, its members are not the networks
they came from, and only the files know these. So records say where a member lies (path, size, sha256), and here its
state dict is read once more, one at a time. Records may be a stranger's: nothing is read but regular files with the
bytes that were imported.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from paramdiff.errors import CheckpointError
from paramdiff.files import sha256
from paramdiff.regular_files import why_not
from paramdiff.zoo.stacked_files import Member, few
from paramdiff.zoo.zoo import Record, Zoo

OUTSIDE = "differ_outside"
"""Key of ``Zoo.about``: names of the frozen tensors in which the checkpoints differ, if there are any."""


def outside(zoo: Zoo) -> list[str]:
    """Frozen tensors in which the networks of the members differ."""
    names = zoo.about.get(OUTSIDE)
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def located(member: Member, record: Record) -> Record:
    """The record with the place of its file."""
    return replace(record, path=str(member.file.absolute()), index=member.index)


def signed(records: list[Record]) -> list[Record]:
    """Records with size and hash of their files, where these are not known; each file is read once."""
    known: dict[str, tuple[int, str]] = {}

    def one(record: Record) -> Record:
        if record.path is None or record.sha256 is not None or why_not(Path(record.path)):
            return record
        if record.path not in known:
            known[record.path] = Path(record.path).stat().st_size, sha256(Path(record.path))
        size, digest = known[record.path]
        return replace(record, size=size, sha256=digest)

    return [one(record) for record in records]


def warning(zoo: Zoo) -> str:
    """What somebody should know who takes the members for their networks; empty if they are."""
    names = outside(zoo)
    if not names:
        return ""
    return (
        f"the checkpoints differ outside the selection {zoo.spec.select!r} ({few(names)}), and the zoo has the frozen "
        "rest of the first: its members are not the networks in the files; select='all' keeps all of each"
    )


def why_unreadable(zoo: Zoo) -> str:
    """Why the members cannot be read as they are, as far as that is seen without reading; empty if nothing is."""
    return next((why for record in zoo.records if (why := _why(record))), "")


def _why(record: Record) -> str:
    known = isinstance(record.path, str) and isinstance(record.sha256, str)
    if not known or not isinstance(record.index, int | None):
        return f"where {record.source or 'a member'} was read from is not known"
    path = Path(str(record.path))
    if why_not(path):
        return f"{path} is no longer there"
    return "" if path.stat().st_size == record.size else f"{path} has changed since it was imported"


def states(zoo: Zoo) -> Iterator[dict[str, Tensor]]:
    """Each member's tensors as they are in its file, memory-mapped where the format allows it.

    Raises:
        CheckpointError: a file is no longer there, or no longer what was imported.
    """
    checked: set[str] = set()
    for record in zoo.records:
        why = _why(record)
        path = Path(str(record.path))
        if not why and str(path) not in checked and sha256(path) != record.sha256:
            why = f"{path} has changed since it was imported"
        if why:
            raise CheckpointError(why, expected="the files that the zoo was imported from")
        checked.add(str(path))
        try:
            state = Member(path, record.index).read(zoo.base)
        except (IndexError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read as it was imported ({error})") from None
        yield state
