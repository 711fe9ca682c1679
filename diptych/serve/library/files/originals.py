"""Original files, whole or in part, for films that play from any moment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from diptych.errors import FileError
from diptych.media.scanning.file_kind import HEAD_LENGTH, kind_of
from diptych.serve.library.items import shown
from diptych.serve.web.problems import RequestProblem, not_found
from diptych.untrusted.links import RootBoundary
from diptych.untrusted.regular_files import open_file

if TYPE_CHECKING:
    from diptych.index.catalog.catalog import Item
    from diptych.serve.library.index_pool import AnyIndex

_BLOCK = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)
CACHING = "private, no-cache"
# What browsers show by themselves; everything else is offered for download.
_TYPES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".gif": "image/gif", ".webp": "image/webp",
    ".avif": "image/avif", ".bmp": "image/bmp", ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4",
    ".webm": "video/webm", ".mkv": "video/x-matroska", ".ogv": "video/ogg",
}  # fmt: skip


class Span(NamedTuple):
    """The bytes from `start` up to `end`, which is not among them."""

    start: int
    end: int


def span_of(header: str | None, size: int) -> Span | None:
    """The one range that a Range header names; None for the whole file, also where it names several. Raises
    RequestProblem (416) if the file has none of it."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if not found or not (found[1] or found[2]):
        return None
    first, last = found[1], found[2]
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= size or end <= start:
        raise RequestProblem(
            416, "RequestError", f"the file has {size:,} bytes.", headers={"Content-Range": f"bytes */{size}"}
        )
    return Span(start, end)


class OriginalFile(NamedTuple):
    """The open file of an item. `response` closes it in the end."""

    item: Item
    file: IO[bytes]
    size: int
    tag: str
    is_media: bool

    @classmethod
    def of(cls, index: AnyIndex, item: Item) -> OriginalFile:
        """The file of an item. Its path is the index's own; a link that leads out of the folder is not followed unless
        the index follows links. Raises RequestProblem (404)."""
        root = index.pictures_root
        if root is None:
            raise not_found("the files of this index are elsewhere.")
        path = root / item.path
        if not index.rules.follow_links and RootBoundary(root).is_outside(item.path):
            raise not_found("the file leads out of the folder.")
        try:
            file = open_file(path)
        except (FileError, OSError):
            raise not_found("the file is gone.") from None
        try:
            status = os.fstat(file.fileno())
            is_media = item.kind == "text" or kind_of(file.read(HEAD_LENGTH), "text") != "text"
        except BaseException:
            file.close()
            raise
        return cls(item, file, status.st_size, f'"{status.st_mtime_ns:x}-{status.st_size:x}"', is_media)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def response(self, wanted: str | None) -> Response:
        """The file, or the range of it that is `wanted`. Raises RequestProblem (416)."""
        try:
            span = span_of(wanted, self.size)
        except BaseException:
            self.close()
            raise
        start, end = span or Span(0, self.size)
        headers = {
            "Accept-Ranges": "bytes", "Content-Length": str(end - start), "Cache-Control": CACHING, "ETag": self.tag,
            "Content-Disposition": _disposition(self.item, self.is_media),
        }  # fmt: skip
        if span:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{self.size}"
        kind = _media_type(self.item) if self.is_media else "application/octet-stream"
        return StreamingResponse(_blocks(self.file, start, end), 206 if span else 200, headers, kind)


def _media_type(item: Item) -> str:
    if item.kind == "text":
        return "text/plain; charset=utf-8"
    return _TYPES.get(os.path.splitext(item.path)[1].lower(), "application/octet-stream")


def _disposition(item: Item, is_media: bool) -> str:
    how = "inline" if is_media and _media_type(item) != "application/octet-stream" else "attachment"
    return f"{how}; filename*=UTF-8''{quote(shown(os.path.basename(item.path)))}"


def _blocks(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while start < end and (block := file.read(min(_BLOCK, end - start))):
            start += len(block)
            yield block
