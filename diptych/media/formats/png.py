"""PNG: what is damaged beside the pixels is left out, so that they can be read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FIRST = {b"IHDR": 0, b"PLTE": 1, b"tRNS": 2}
_CRITICAL = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND"))
_ANIMATION = {b"acTL": (8, 8), b"fcTL": (26, 26), b"fdAT": (4, 2**31)}  # and how long they may be
_TEXT = frozenset((b"tEXt", b"iTXt"))
_MOST_TEXT = 2**18  # bytes of words that are kept


class _Chunk(NamedTuple):
    kind: bytes
    data: bytes
    raw: bytes  # with its length and check sum
    is_sound: bool


def without_damage(content: bytes, *, is_still: bool = False) -> bytes:
    """The same picture without what a decoder may stumble over: colour profiles, packed texts, and whatever else beside
    the pixels has a wrong check sum or an impossible length. What is critical stays, in its right place; of
    an animation that is damaged, or where it is to be `is_still`, the default picture alone."""
    chunks = sorted(_chunks(content), key=lambda chunk: _FIRST.get(chunk.kind, len(_FIRST)))
    is_still |= any(not chunk.is_sound or not _fits(chunk) for chunk in chunks if chunk.kind in _ANIMATION)
    kept, words = [SIGNATURE], 0
    for chunk in chunks:
        words += len(chunk.data) if chunk.kind in _TEXT else 0
        if _is_kept(chunk, chunks[0].data, is_still) and (chunk.kind not in _TEXT or words <= _MOST_TEXT):
            kept.append(chunk.raw)
    return b"".join(kept)


def transparent_grey(content: bytes) -> int | None:
    """Of grey that is 2 or 4 bits deep: the value that is transparent as a number of 8 bits. Pillow leaves it as it is
    in the file while it widens the pixels."""
    depth, colour = content[24:26] if len(content) > 25 else (8, 0)
    if colour != 0 or depth not in (2, 4):
        return None
    said = next((chunk.data for chunk in _chunks(content) if chunk.kind == b"tRNS"), b"")
    return int.from_bytes(said, "big") * 255 // (2**depth - 1) if len(said) == 2 else None


def _chunks(content: bytes) -> Iterator[_Chunk]:
    at = len(SIGNATURE)
    while at + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, data = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        raw = content[at : at + 12 + length]
        yield _Chunk(kind, data, raw, raw[8 + length :] == struct.pack(">I", zlib.crc32(raw[4 : 8 + length])))
        at += 12 + length


def _is_kept(chunk: _Chunk, header: bytes, is_still: bool) -> bool:
    if chunk.kind in _CRITICAL:
        is_useless_palette = chunk.kind == b"PLTE" and header[9:10] != b"\x03"
        return not is_useless_palette
    if not chunk.is_sound:
        return False
    if chunk.kind in _ANIMATION:
        return not is_still
    if chunk.kind == b"tRNS":
        wanted = {0: 2, 2: 6}.get(header[9]) if len(header) > 9 else None
        return len(chunk.data) == wanted if wanted else 0 < len(chunk.data) <= 256
    if chunk.kind in _TEXT:
        return _is_plain(chunk)
    return chunk.kind == b"eXIf"


def _fits(chunk: _Chunk) -> bool:
    least, most = _ANIMATION[chunk.kind]
    return least <= len(chunk.data) <= most


def _is_plain(chunk: _Chunk) -> bool:
    """Whether a text is not packed: what is, may be of any size."""
    if chunk.kind == b"tEXt":
        return b"\0" in chunk.data
    key, _, rest = chunk.data.partition(b"\0")
    return bool(key) and rest[:1] == b"\0" and rest.count(b"\0") >= 4
