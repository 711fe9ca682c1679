"""The answers of servers as archives keep them: status, headers, body."""

from __future__ import annotations

import io
import re
import zlib
from typing import NamedTuple

from fastwarc.stream_io import BrotliReader

MAX_BODY_BYTES = 64 << 20
_STATUS = re.compile(rb"HTTP/[\d.]+ (\d{3})")
_SIZE = re.compile(rb"\s*([0-9a-fA-F]{1,8})[^\r\n]*\r?\n")


class Answer(NamedTuple):
    """An answer: its status, its headers with names in lower case (several of one name joined by commas), and its body
    as it was sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def answer_in(content: bytes) -> Answer | None:
    """The answer in a record of the type `response`; None where it is none."""
    status, end = _STATUS.match(content), content.find(b"\r\n\r\n")
    if status is None or end < 0:
        return None
    headers: dict[str, str] = {}
    for line in content[:end].decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            name = name.strip().lower()
            headers[name] = f"{headers[name]},{value.strip()}" if name in headers else value.strip()
    return Answer(int(status[1]), headers, content[end + 4 :])


def decoded_body(answer: Answer) -> bytes | None:
    """The body without the encodings in which it was sent; None where they are damaged or unknown, or it is larger
    than MAX_BODY_BYTES. Crawlers that decode keep the headers under names with a prefix."""
    body = answer.body
    if "chunked" in answer.headers.get("transfer-encoding", "").lower():
        body = _joined_chunks(body) or body  # some archives keep the header of a body that they have joined
    for encoding in reversed(answer.headers.get("content-encoding", "").lower().replace(" ", "").split(",")):
        try:
            decoded = _decompressed(body, encoding)
        except (zlib.error, OSError, ValueError):
            return None
        if decoded is None or len(decoded) > MAX_BODY_BYTES:
            return None
        body = decoded
    return body


def _joined_chunks(body: bytes) -> bytes | None:
    parts, at = [], 0
    while found := _SIZE.match(body, at):
        size, at = int(found[1], 16), found.end()
        if not size:
            return b"".join(parts)
        if at + size > len(body):
            return None
        parts.append(body[at : at + size])
        at += size
        at += 2 if body[at : at + 2] == b"\r\n" else 0
    return None


def _decompressed(body: bytes, encoding: str) -> bytes | None:
    if encoding in ("", "identity"):
        return body
    if encoding in ("gzip", "x-gzip"):
        return zlib.decompressobj(31).decompress(body, MAX_BODY_BYTES + 1) if body[:2] == b"\x1f\x8b" else body
    if encoding == "deflate":
        return zlib.decompressobj(15 if body[:1] == b"\x78" else -15).decompress(body, MAX_BODY_BYTES + 1)
    if encoding == "br":
        return BrotliReader(io.BytesIO(body)).read(MAX_BODY_BYTES + 1)
    return None
