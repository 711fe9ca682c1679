"""What a file is by its first bytes, where these say so: names are often wrong."""

from __future__ import annotations

import re

from diptych.index.items import Kind

HEAD_LENGTH = 1024  # bytes that are looked at: five packets of an MPEG transport stream
# After RIFF, ISO 14496-12 and so on; what is not here is told by its name, as are MPEG's own streams of pictures
_PICTURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II[*+]\0|MM\0[*+]|BM....\0\0\0\0|qoif|"
    rb"\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51|\xff\x0a|\0\0\0\x0cJXL ",
    re.S,
)
_FILMS = re.compile(
    rb"\x1a\x45\xdf\xa3|RIFF....AVI |\0...(moov|mdat|wide|free|skip|pnot)|FLV\x01|OggS\0|\0\0\x01[\xb3\xba]|"
    rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11|(....)?\x47.{187}(....)?\x47.{187}(....)?\x47",
    re.S,
)
# What pictures in ISO's container call themselves: HEIF (ISO 23008-12), AVIF, JPEG 2000 and XL, Canon's RAW
_PICTURE_BRANDS = re.compile(rb"hei[cmsx]|hev[cmsx]|mif[12]|msf1|mia[fh]|avi[fs]|j[px][2lx ]|jxl |crx ")


def kind_of(head: bytes, named: Kind) -> Kind:
    """The kind of a file whose bytes begin so, up to HEAD_LENGTH of them; `named`, the one of its name, where they do
    not tell. No text becomes anything else: it holds no zeros."""
    if named == "text" and b"\0" not in head:
        return named
    if head[4:8] == b"ftyp":
        return "picture" if _PICTURE_BRANDS.match(head, 8) else "video"
    if _PICTURES.match(head):
        return "picture"
    return "video" if _FILMS.match(head) else named
