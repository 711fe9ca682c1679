"""PNG: damaged metadata and animations are left out, so that the pixels can be read."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from diptych.errors import ImageError
from diptych.media.formats.opener import OpenedPicture, Opener
from diptych.media.formats.pillow import open_undecoded

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FIRST = {b"IHDR": 0, b"PLTE": 1, b"tRNS": 2}
_CRITICAL = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND"))
_ANIMATION = {b"acTL": (8, 8), b"fcTL": (26, 26), b"fdAT": (4, 2**31)}  # the least and greatest lengths
_TEXT = frozenset((b"tEXt", b"iTXt"))
_MAX_TEXT = 2**18  # bytes of text that are kept


class _Chunk(NamedTuple):
    kind: bytes
    data: bytes
    raw: bytes  # with its length and checksum
    is_valid: bool


def open_picture(file: IO[bytes], opener: Opener) -> OpenedPicture:
    """Open a PNG; a damaged one without its metadata or, if need be, without its animation."""
    try:
        return _open(file, opener)
    except ImageError:
        raise
    except Exception:
        content = opener.read_whole(file)
    try:
        return _open(io.BytesIO(without_damage(content)), opener)
    except Exception:  # frames out of order
        if b"acTL" not in content:
            raise
        return _open(io.BytesIO(without_damage(content, is_still=True)), opener)


def _open(file: IO[bytes], opener: Opener) -> OpenedPicture:
    image = open_undecoded(file, ["PNG"])
    if opener.is_searched and isinstance(image.info.get("transparency"), int) and image.mode == "L":
        file.seek(0)
        image.info["transparency"] = transparent_grey(file.read(2**16)) or image.info["transparency"]
        file.seek(0)
    return opener.load_first(image)


def without_damage(content: bytes, *, is_still: bool = False) -> bytes:
    """The same picture without the chunks that decoders fail at: colour profiles, compressed texts, and other ancillary
    chunks with a wrong checksum or an impossible length. Critical chunks stay, in the right order. A damaged animation,
    or any with `is_still`, is reduced to its default picture."""
    chunks = sorted(_chunks(content), key=lambda chunk: _FIRST.get(chunk.kind, len(_FIRST)))
    is_still |= any(not chunk.is_valid or not _fits(chunk) for chunk in chunks if chunk.kind in _ANIMATION)
    kept, text_bytes = [SIGNATURE], 0
    for chunk in chunks:
        text_bytes += len(chunk.data) if chunk.kind in _TEXT else 0
        if _is_kept(chunk, chunks[0].data, is_still) and (chunk.kind not in _TEXT or text_bytes <= _MAX_TEXT):
            kept.append(chunk.raw)
    return b"".join(kept)


def transparent_grey(content: bytes) -> int | None:
    """The transparent value of 2-bit or 4-bit grey, as an 8-bit number: Pillow widens the pixels and not this value."""
    depth, colour = content[24:26] if len(content) > 25 else (8, 0)
    if colour != 0 or depth not in (2, 4):
        return None
    transparent = next((chunk.data for chunk in _chunks(content) if chunk.kind == b"tRNS"), b"")
    return int.from_bytes(transparent, "big") * 255 // (2**depth - 1) if len(transparent) == 2 else None


def _chunks(content: bytes) -> Iterator[_Chunk]:
    start = len(SIGNATURE)
    while start + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, start)
        kind, data = content[start + 4 : start + 8], content[start + 8 : start + 8 + length]
        raw = content[start : start + 12 + length]
        yield _Chunk(kind, data, raw, raw[8 + length :] == struct.pack(">I", zlib.crc32(raw[4 : 8 + length])))
        start += 12 + length


def _is_kept(chunk: _Chunk, header: bytes, is_still: bool) -> bool:
    if chunk.kind in _CRITICAL:
        is_useless_palette = chunk.kind == b"PLTE" and header[9:10] != b"\x03"
        return not is_useless_palette
    if not chunk.is_valid:
        return False
    if chunk.kind in _ANIMATION:
        return not is_still
    if chunk.kind == b"tRNS":
        expected = {0: 2, 2: 6}.get(header[9]) if len(header) > 9 else None
        return len(chunk.data) == expected if expected else 0 < len(chunk.data) <= 256
    if chunk.kind in _TEXT:
        return _is_plain(chunk)
    return chunk.kind == b"eXIf"


def _fits(chunk: _Chunk) -> bool:
    least, most = _ANIMATION[chunk.kind]
    return least <= len(chunk.data) <= most


def _is_plain(chunk: _Chunk) -> bool:
    """Whether a text is not compressed: a compressed one may expand to any size."""
    if chunk.kind == b"tEXt":
        return b"\0" in chunk.data
    key, _, rest = chunk.data.partition(b"\0")
    return bool(key) and rest[:1] == b"\0" and rest.count(b"\0") >= 4
