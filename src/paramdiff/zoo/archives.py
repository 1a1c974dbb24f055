"""Check that a file of ``torch.save`` holds what its pickle promises, before any of it is read.

``torch.load`` takes the size of a storage from the pickle and its bytes from a record of the zip archive, and does
not compare the two: from a record that is compressed or too short it reads whatever lies behind. Here the pickle is
walked through once with stand-ins for everything that it names, so that nothing of it is called, and every
storage and tensor is compared with the record that it is read from.
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import torch

ZIP = b"PK\x03\x04"
"""How torch tells its archives from the files of older versions."""

ALIGNMENT = 8
"""Bytes; tensors may be mapped from there on. ``torch.save`` itself aligns to 64."""

LEGACY_PICKLES = 4
"""In a file of an older version: a magic number, the protocol, the system, and then the object."""

HEADER = struct.Struct("<4s22x2H")
"""Of a zip record: its first bytes, and the lengths of its name and of an extra field."""

ITEMS = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8,
    "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
    "ComplexDoubleStorage": 16, "ComplexFloatStorage": 8, "QUInt8Storage": 1, "QInt8Storage": 1,
    "QInt32Storage": 4, "QUInt4x2Storage": 1, "QUInt2x4Storage": 1, "UntypedStorage": 1,
}  # fmt: skip
"""Bytes of an item, by the name of a storage."""

REBUILDS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor")
"""Functions that make a tensor of (storage, offset, size, stride, ...)."""


class BrokenArchiveError(Exception):
    """A file does not hold what it promises; says what, in words."""


@dataclass
class Promised:
    """What a pickle says about the storages that it needs.

    Attributes:
        storages: bytes of each, by key.
    """

    storages: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, stream: Any, pickles: int = 1) -> Self:
        """Read from a pickle, the last of several that follow each other.

        Raises:
            BrokenArchiveError: a tensor does not lie inside its storage.
            Exception: whatever a damaged pickle leads to.
        """
        found = cls()
        for _ in range(pickles):
            _Walk(stream, found).load()
        return found


@dataclass(frozen=True)
class _Storage:
    """A storage as the pickle names it: bytes of an item, and of all."""

    item: int
    size: int


class _Inert:
    """Stands in for any class or function that a pickle names: takes any arguments, does nothing."""

    item = 1

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return object.__new__(cls)

    def _nothing(self, *_: Any) -> None: ...

    __init__ = __setstate__ = __setitem__ = append = extend = add = _nothing


class _Walk(pickle._Unpickler):  # type: ignore[misc, name-defined]  # the one in C keeps its memo in an array, as long as a file says
    """Walks through a pickle; whatever it would call is a stand-in."""

    def __init__(self, stream: Any, found: Promised) -> None:
        super().__init__(stream, encoding="utf-8")
        self.found = found

    def find_class(self, module: str, name: str) -> Any:
        if name in REBUILDS:
            return _rebuild
        dtype = getattr(torch, name, None) if module == "torch" else None
        item = dtype.itemsize if isinstance(dtype, torch.dtype) else ITEMS.get(name, 1)
        return type(name, (_Inert,), {"item": item})

    def persistent_load(self, saved: Any) -> _Storage:
        _, kind, key, _, items = saved[:5]
        size = kind.item * int(items)
        if size < 0:
            raise BrokenArchiveError(f"a storage of {size} bytes")
        self.found.storages[str(key)] = max(size, self.found.storages.get(str(key), 0))
        return _Storage(kind.item, size)


def _rebuild(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: Any
) -> _Inert:
    """Compare a tensor with its storage; returns a stand-in for it."""
    kinds: list[Any] = [one for one in rest if isinstance(one, type) and issubclass(one, _Inert)]
    item = kinds[0].item if kinds else storage.item
    reach = offset + 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min(offset, *size, *stride, 0) < 0 or (0 not in size and reach * item > storage.size):
        raise BrokenArchiveError(
            f"a tensor of shape {list(size)} does not lie inside its {storage.size:,} bytes"
        )
    return _Inert()


def is_archive(path: Path) -> bool:
    """Whether torch takes the file for a zip archive."""
    with path.open("rb") as stream:
        return stream.read(len(ZIP)) == ZIP


def check_archive(path: Path) -> bool:
    """Compare the records of a zip archive with what its pickle promises.

    Returns:
        Whether its tensors may be mapped from where they lie: none is compressed, misaligned or of the other
        byte order.

    Raises:
        BrokenArchiveError: a record is missing or of another size, or two lie over each other.
        Exception: whatever ``zipfile`` and a damaged pickle lead to.
    """
    with zipfile.ZipFile(path) as archive:
        records = _records(archive)
        promised = Promised.of(io.BytesIO(archive.read(records["data.pkl"])))
        for key, size in promised.storages.items():
            record = records.get(f"data/{key}")
            if record is None or record.file_size != size:
                held = f"holds {record.file_size:,}" if record else "is missing"
                raise BrokenArchiveError(f"its record data/{key} should have {size:,} bytes and {held}")
        order = records.get("byteorder")
        plain = order is None or archive.read(order) == b"little"
        data = [records[f"data/{key}"] for key in promised.storages]
        return (
            plain
            and all(record.compress_type == zipfile.ZIP_STORED for record in data)
            and _in_place(path, data)
        )


def packed_bytes(path: Path) -> int:
    """How much a zip archive will unpack to; 0 if nothing is compressed."""
    with zipfile.ZipFile(path) as archive:
        packed = [record for record in archive.infolist() if record.compress_type != zipfile.ZIP_STORED]
    return sum(record.file_size for record in packed)


def check_legacy(path: Path) -> bool:
    """Compare the tensors in a file of an older version with their storages.

    Returns:
        Whether they may be mapped: never.

    Raises:
        BrokenArchiveError: a tensor does not lie inside its storage.
        Exception: whatever a damaged pickle leads to.
    """
    with path.open("rb") as stream:
        Promised.of(stream, LEGACY_PICKLES)
    return False


def _records(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Records by their names inside the archive's one folder."""
    named = [(info.filename.partition("/")[2] or info.filename, info) for info in archive.infolist()]
    records = dict(named)
    if len(records) < len(named):
        raise BrokenArchiveError("two of its records have one name")
    if "data.pkl" not in records:
        raise BrokenArchiveError("it has no record data.pkl")
    return records


def _in_place(path: Path, records: list[zipfile.ZipInfo]) -> bool:
    """Whether stored records lie where tensors can be mapped from."""
    end = path.stat().st_size
    places = sorted(_places(path, records))
    for (start, size), (following, _) in pairwise([*places, (end, 0)]):
        if start + size > following:
            raise BrokenArchiveError("its records lie over each other, or beyond the end of the file")
    return all(start % ALIGNMENT == 0 for start, _ in places)


def _places(path: Path, records: list[zipfile.ZipInfo]) -> Iterator[tuple[int, int]]:
    """(first byte, number of bytes) of each record's data."""
    with path.open("rb") as stream:
        for record in records:
            stream.seek(record.header_offset)
            first, name, extra = HEADER.unpack(stream.read(HEADER.size))
            if first != ZIP:
                raise BrokenArchiveError(f"its record {record.filename} is not where it should be")
            yield record.header_offset + HEADER.size + name + extra, record.compress_size
