"""Picture files without their metadata, the pixels' own bytes unchanged: no position or camera goes with them."""

from __future__ import annotations

import re
import struct

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]", re.S)  # in entropy-coded data, where FF 00 and restarts are data
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
# Frames and tables (ITU T.81, table B.1). JFIF's and Adobe's segments say which colours the numbers are.
_TABLES = frozenset((*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD)) - {0xC8}
_COLOURS = {0xE0: b"JFIF\0", 0xEE: b"Adobe"}
_PNG = b"\x89PNG\r\n\x1a\n"
_CRITICAL = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND"))


def without_metadata(content: bytes) -> bytes | None:
    """The same JPEG, PNG or WebP without metadata and without what follows it, such as a film or a second picture. The
    given object itself if there is none; None if its structure is not that of a plain still picture."""
    try:
        if content.startswith(b"\xff\xd8"):
            kept = _jpeg(content)
        elif content.startswith(_PNG):
            kept = _png(content)
        else:
            kept = _webp(content)
    except (struct.error, IndexError):
        return None
    return content if kept == content else kept


def _jpeg(content: bytes) -> bytes | None:
    kept, start = [content[:2]], 2
    while start < len(content):
        if content[start] != 0xFF:
            return None
        code = content[start + 1]
        if code == 0xFF:  # a fill byte
            start += 1
            continue
        if code == _EOI:
            kept.append(content[start : start + 2])
            return b"".join(kept)
        (length,) = struct.unpack_from(">H", content, start + 2)
        end = start + 2 + length
        if code == _SOS:
            marker = _MARKER.search(content, end)
            if marker is None:
                return None
            end = marker.start()
        if code in _TABLES or code == _SOS or content.startswith(_COLOURS.get(code, b"?"), start + 4):
            kept.append(content[start:end])
        start = end
    return None


def _png(content: bytes) -> bytes | None:
    kept, start = [_PNG], len(_PNG)
    while start < len(content):
        (length,) = struct.unpack_from(">I", content, start)
        kind, end = content[start + 4 : start + 8], start + 12 + length
        if kind in _CRITICAL:
            kept.append(content[start:end])
        if kind == b"IEND":
            return b"".join(kept)
        start = end
    return None


def _webp(content: bytes) -> bytes | None:
    """RIFF with the one chunk of pixels: without an extended header there is neither metadata nor transparency."""
    start = 12
    while start < len(content):
        kind, (length,) = content[start : start + 4], struct.unpack_from("<I", content, start + 4)
        end = start + 8 + length
        if kind in (b"VP8 ", b"VP8L"):
            chunk = content[start:end] + b"\0" * (length % 2)
            return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk if end <= len(content) else None
        start = end + length % 2
    return None
