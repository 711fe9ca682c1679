"""The records of an archive, each whole or counted as what it is not.

FastWARC hands out what is left of a cut record and ends as if all were well, and ends at the first byte that it cannot
read. Here the bytes that came are compared with the length that the header promised, what follows the last record is
looked at, and reading goes on at the next record after damage.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from diptych.untrusted.regular_files import open_file

MAX_RECORD_BYTES = 64 << 20
_MAX_HEADER_BYTES = 1 << 16
_MAX_DAMAGES = 1000  # in one archive, after which reading goes on
_PIECE = 1 << 20
_START = re.compile(rb"\x1f\x8b\x08|WARC/1\.[01]\r\n")
_GZIP = b"\x1f\x8b\x08"
_RESPONSE, _METADATA = WarcRecordType.response, WarcRecordType.metadata
_ANY = _RESPONSE | WarcRecordType.resource | _METADATA
CUT, DAMAGED, TOO_LARGE, WRONG_DIGEST = "cut", "damaged", "too large", "wrong digest"
FLAWS = (CUT, DAMAGED, TOO_LARGE, WRONG_DIGEST)  # an archive with one of them was not read as a whole


class ArchiveRecord:
    """A record that is whole: its type (`response`, `resource` or `metadata`) and content, and what its header says,
    which is looked up when it is asked for."""

    __slots__ = ("_record", "content", "type")

    def __init__(self, type: str, content: bytes, record: WarcRecord):
        self.type, self.content, self._record = type, content, record

    def _get(self, name: str) -> str | None:
        return self._record.headers.get(name)  # costs as much as half the reading of a page

    @property
    def url(self) -> str:
        """The address that it is of."""
        return (self._get("WARC-Target-URI") or "").strip("<>")

    @property
    def media_type(self) -> str:
        """The media type of its content."""
        return self._get("Content-Type") or ""

    @property
    def time_s(self) -> float:
        """When it was made, in seconds since 1970; 0 if unknown."""
        return _seconds(self._get("WARC-Date") or "")

    @property
    def is_truncated(self) -> bool:
        """Whether its crawler cut it."""
        return self._get("WARC-Truncated") is not None


def records(path: Path, counts: Counter[str]) -> Iterator[ArchiveRecord]:
    """The records of an archive that may have a page, a picture or metadata. Others, and the `FLAWS`, are counted.
    Raises OSError where the file cannot be read."""
    with open_file(path) as file:
        size, start = path.stat().st_size, 0
        is_zipped = file.read(len(_GZIP)) == _GZIP
        for _ in range(_MAX_DAMAGES):
            file.seek(start)
            before, reading = counts[CUT], _Reading(file, start, counts, is_zipped)
            yield from reading.records()
            is_new = reading.count > 0 or start == 0  # else it is a part of the damage that is counted already
            if reading.error is None:
                counts[CUT] += is_new and counts[CUT] == before and size > 0 and _is_cut(file, reading.last, size)
                break
            counts[DAMAGED] += is_new
            start = _next_start(file, max(start, reading.last) + 1)
            if start < 0:
                break
    for flaw in FLAWS:
        if not counts[flaw]:
            del counts[flaw]


class _Reading:
    """Reads records from an offset in a file up to its end or the first damage. `count` is the number of records, and
    `last` is where the last one begins."""

    def __init__(self, file: BinaryIO, start: int, counts: Counter[str], is_zipped: bool):
        self._counts, self._is_zipped, self.last, self.count = counts, is_zipped, start, 0
        self._iterator = ArchiveIterator(file, record_types=_ANY, parse_http=False, max_header_len=_MAX_HEADER_BYTES)
        self.error: BaseException | None = None

    def records(self) -> Iterator[ArchiveRecord]:
        """The records, until `error` says what is wrong."""
        while True:
            try:
                record = next(self._iterator, None)
                if record is None:
                    return
                self.last, self.count = record.stream_pos, self.count + 1
                whole = self._taken(record)
            except (OSError, ValueError) as error:
                self.error = error
                return
            except BaseException as error:  # FastWARC's own failures are no Exception
                if type(error).__name__ != "PanicException":
                    raise
                self.error = error
                return
            if whole is not None:
                yield whole

    def _taken(self, record: WarcRecord) -> ArchiveRecord | None:
        """The record, read to its end; None where it is of no use."""
        promised = record.content_length
        if promised > MAX_RECORD_BYTES:
            self._counts[TOO_LARGE] += 1
            return None
        content = record.reader.read()
        if len(content) != promised or (not promised and record.headers.get("Content-Length") is None):
            self._counts[CUT] += 1
            return None
        type_of = record.record_type
        kind = "response" if type_of == _RESPONSE else "metadata" if type_of == _METADATA else "resource"
        if kind == "metadata" and not content.lstrip().startswith(b"{"):  # sooner known than by its header
            self._counts["of another type"] += 1
            return None
        # A member of gzip has a checksum, which FastWARC compares
        if not self._is_zipped and not _is_digest(record.headers.get("WARC-Block-Digest"), content):
            self._counts[WRONG_DIGEST] += 1
            return None
        return ArchiveRecord(kind, content, record)


def _is_digest(written: str | None, content: bytes) -> bool:
    """Whether the content has the digest that its header names; true for kinds of digests that are not known."""
    kind, _, value = (written or "").partition(":")
    if kind.lower() not in ("sha1", "sha256", "md5") or not value:
        return True
    digest, value = hashlib.new(kind.lower(), content, usedforsecurity=False), value.rstrip("=").lower()
    return value in (digest.hexdigest(), base64.b32encode(digest.digest()).decode().rstrip("=").lower())


def _seconds(date: str) -> float:
    with suppress(ValueError, OverflowError):
        time = datetime.fromisoformat(date.replace("Z", "+00:00"))  # Python 3.10 knows no Z
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return 0.0


def _is_cut(file: BinaryIO, last: int, size: int) -> bool:
    """Whether a file, whose last record begins at `last`, ends within a record of which FastWARC says nothing."""
    file.seek(last)
    head = file.read(_MAX_HEADER_BYTES)
    if head.startswith(_GZIP):
        return _is_cut_gzip(file, last)
    if not head.startswith(b"WARC/"):  # the whole file is one member of gzip
        file.seek(0)
        return file.read(3) == _GZIP and _is_cut_gzip(file, 0)
    while head.strip():  # records that were skipped follow
        end, length = head.find(b"\r\n\r\n"), re.search(rb"(?i)\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", head)
        if end < 0 or length is None or length.end() > end + 2:
            return True
        last += end + 4 + int(length[1])
        if last > size:
            return True
        file.seek(last)
        head = file.read(_MAX_HEADER_BYTES)
        last += len(head) - len(head.lstrip())
        head = head.lstrip()
    return False


def _is_cut_gzip(file: BinaryIO, start: int) -> bool:
    """Whether the last member from `start` on has no end."""
    file.seek(start)
    member, is_empty = zlib.decompressobj(31), True
    while piece := file.read(_PIECE):
        while piece:
            try:
                member.decompress(piece)
            except zlib.error:  # counted where it was read, or zeros that fill a block
                return bool(piece.strip(b"\0"))
            is_empty, piece = False, member.unused_data
            if member.eof:
                member, is_empty = zlib.decompressobj(31), True
    return not is_empty


def _next_start(file: BinaryIO, start: int) -> int:
    """Where the next record may begin; -1 if nothing looks like one."""
    while True:
        file.seek(start)
        piece = file.read(_PIECE)
        if found := _START.search(piece):
            return start + found.start()
        if len(piece) < _PIECE:
            return -1
        start += len(piece) - 16
