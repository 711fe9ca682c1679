"""The sizes in the footer and in the page headers of a Parquet file: pyarrow allocates those of the pages, even if the
footer differs; and its own view of a column chunk ends the process if the footer contradicts itself.

Both are in Thrift's compact protocol (the format's own specification, parquet.thrift: FileMetaData and PageHeader).
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from diptych.untrusted.regular_files import open_file

_FIRST, _LONGEST = 1 << 12, 16 << 20  # bytes of a header: read at first, and at most, as in pyarrow
_DEEPEST = 16
_UNPACKED, _PACKED, _DATA, _DATA_2 = 2, 3, 5, 8  # fields of a PageHeader; the first of the last two is a count
_ROW_GROUPS, _COLUMNS, _METADATA = 4, 1, 3  # fields of FileMetaData, RowGroup and ColumnChunk
_DELTA_LENGTH_BYTE_ARRAY, _DELTA_BYTE_ARRAY = 6, 7  # of Encoding


class ColumnChunk(NamedTuple):
    """One column of one row group according to the footer. `name` is the top-level column, `path` the whole path; sizes
    are in bytes."""

    name: str
    path: str
    has_lengths: bool
    has_differences: bool
    values: int
    unpacked: int
    packed: int
    start: int


def column_chunks(path: Path, group: int) -> list[ColumnChunk]:
    """The column chunks of a row group. Raises ValueError for an invalid footer, OSError if the file cannot be read."""
    status = os.stat(path)
    return _chunks_of_groups(path, status.st_size, status.st_mtime_ns)[group]


@lru_cache(maxsize=4)
def _chunks_of_groups(path: Path, size: int, mtime_ns: int) -> list[list[ColumnChunk]]:
    with open_file(path) as file:
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - 8 - length))
        footer = file.read(min(length, size))
    try:
        groups = _Compact(footer).struct()[_ROW_GROUPS]
        return [[_chunk(column[_METADATA]) for column in group[_COLUMNS]] for group in groups]
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("the footer is invalid") from error


def _chunk(fields: dict[int, Any]) -> ColumnChunk:
    """Of a ColumnMetaData."""
    names = [part.decode() for part in fields[3]]
    data, dictionary = fields[9], fields.get(11, 0)
    numbers = (fields[5], fields[6], fields[7], data, dictionary)
    if not all(type(number) is int for number in numbers):
        raise ValueError("the footer is invalid")
    return ColumnChunk(
        names[0], ".".join(names), _DELTA_LENGTH_BYTE_ARRAY in fields[2], _DELTA_BYTE_ARRAY in fields[2],
        *numbers[:3], dictionary if 0 < dictionary < data else data,
    )  # fmt: skip


def unpacked_sizes(file: BinaryIO, start: int, length: int, values: int) -> Iterator[int]:
    """The unpacked size of each page of a column chunk, which is at `start` and has `length` bytes and
    `values` values. Raises ValueError for an invalid header."""
    at, seen = start, 0
    while at < start + length and seen < values:
        header, used = _header(file, at)
        packed, unpacked = header.get(_PACKED), header.get(_UNPACKED)
        if not isinstance(packed, int) or not isinstance(unpacked, int) or min(packed, unpacked) < 0:
            raise ValueError("a page's header is invalid")
        yield unpacked
        held = (header.get(_DATA) or header.get(_DATA_2) or {}).get(1, 0)
        seen, at = seen + held, at + used + packed


def _header(file: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    size = _FIRST
    while True:
        file.seek(at)
        reader = _Compact(data := file.read(size))
        try:
            return reader.struct(), reader.at
        except IndexError:
            if len(data) < size or size >= _LONGEST:
                raise ValueError("a page's header is truncated") from None
            size *= 16


class _Compact:
    """Thrift's compact protocol. Raises IndexError at the end of the data."""

    def __init__(self, data: bytes):
        self._data, self.at = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The fields by their numbers."""
        found, number = dict[int, Any](), 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._whole()
            found[number] = self._value(head & 15, depth)
        return found

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _natural(self) -> int:
        number, shift = 0, 0
        while shift < 70:
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
        raise ValueError("a number in a page's header is invalid")

    def _whole(self) -> int:
        number = self._natural()
        return (number >> 1) ^ -(number & 1)

    def _bytes(self, length: int) -> bytes:
        self.at += length
        if self.at > len(self._data):
            raise IndexError
        return self._data[self.at - length : self.at]

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("a page's header is nested too deep")
        if kind in (1, 2):  # true and false
            return kind == 1
        if kind in (4, 5, 6):
            return self._whole()
        if kind in (3, 7, 8):  # a byte, a double, bytes
            return self._bytes({3: 1, 7: 8}.get(kind) or self._natural())
        if kind == 12:
            return self.struct(depth + 1)
        if kind not in (9, 10):  # a list or set; neither has a map
            raise ValueError("a page's header or the footer is invalid")
        head = self._byte()
        length = self._natural() if head >> 4 == 15 else head >> 4
        if length > len(self._data):  # each item takes a byte or more
            raise IndexError
        return [self._byte() if head & 15 in (1, 2) else self._value(head & 15, depth + 1) for _ in range(length)]
