"""Members of an imported zoo exactly as they are in their files.

A zoo has one frozen rest, that of its first checkpoint. Where the files differ there, its members are not the networks
they came from, and only the files know these. So records say where a member lies (path, size, sha256), and here its
state dict is read once more, one at a time. Records may have been written by anybody, so only regular files with
the bytes that were imported are read.
"""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from paramdiff.artefacts import sha256
from paramdiff.errors import CheckpointError
from paramdiff.files import why_not
from paramdiff.zoo.records import Record
from paramdiff.zoo.state_dicts import Member
from paramdiff.zoo.zoo import Zoo


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
