"""The unpacked sizes in the page headers of a Parquet file: pyarrow allocates these, even if the footer differs.

A page begins with a header in Thrift's compact protocol (the format's own specification, parquet.thrift: PageHeader).
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

_FIRST, _LONGEST = 1 << 12, 16 << 20  # bytes of a header: read at first, and at most, as in pyarrow
_DEEPEST = 16
_UNPACKED, _PACKED, _DATA, _DATA_2 = 2, 3, 5, 8  # fields of a PageHeader; the first of the last two is a count


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

    def _skip(self, length: int) -> None:
        self.at += length
        if self.at > len(self._data):
            raise IndexError

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("a page's header is nested too deep")
        if kind in (1, 2):  # true and false
            return kind == 1
        if kind in (4, 5, 6):
            return self._whole()
        if kind in (3, 7, 8):  # a byte, a double, bytes
            return self._skip({3: 1, 7: 8}.get(kind) or self._natural())
        if kind == 12:
            return self.struct(depth + 1)
        if kind not in (9, 10):  # a list or set; a header has no map
            raise ValueError("a page's header is invalid")
        head = self._byte()
        for _ in range(self._natural() if head >> 4 == 15 else head >> 4):
            self._byte() if head & 15 in (1, 2) else self._value(head & 15, depth + 1)
        return None
