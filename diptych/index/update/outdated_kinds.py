"""Tells by a file's bytes whether version 2 of reading reads it differently from version 1, with as few bytes as
possible. No decoder is used, because the files may be malicious and this runs in the program's own process."""

from __future__ import annotations

import os
import re
from typing import IO, Literal

from diptych.media.items import FileKind
from diptych.media.scanning.suffixes import RAW_SUFFIXES
from diptych.untrusted.regular_files import open_file

_HEAD_BYTES = 2**17  # hold the format, and most metadata
_COLOURS = ((0,), (1,), (2,), (5,), (6,))  # PhotometricInterpretation: grey, RGB, CMYK, YCbCr
_WHOLE = (None, (0,))  # NewSubfileType: no thumbnail
_MAX_HEIF_BYTES = 2**26  # of a HEIC or AVIF, whose boxes may be anywhere
_RAW = frozenset(RAW_SUFFIXES)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# An auxiliary item with the transparency of the first one (ISO 23008-12, 6.5.8; also HEVC's own)
_HEIF_ALPHA = re.compile(rb"auxid:1\0|:systems:auxiliary:alpha")
_HEIF_RANGE = re.compile(rb"colrnclx..\0[\x10\x12]", re.S)  # values of PQ or HLG
# A rotation in XMP, and any in EXIF, which had precedence (TIFF 6.0: tag 0x112, SHORT, one)
_XMP_ROTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*[2-8]")
_EXIF_ROTATION = re.compile(rb"\x12\x01\x03\0\x01\0\0\0|\x01\x12\0\x03\0\0\0\x01", re.S)
_DATE = re.compile(rb"(?:19|20)\d\d[:.\-/]\d?\d|\x1c\x02\x37\0", re.S)  # also IPTC's 2:55 with any value
_GPS_REFERENCE = re.compile(rb"\x01\0\x02\0\x02\0\0\0[NS]|\0\x01\0\x02\0\0\0\x02[NS]", re.S)  # GPSLatitudeRef
_PLAIN_TIFF = {0x102: (8,), 0x11C: (1,), 0x153: (1,)}  # by tag (TIFF 6.0): bits, interleaved planes, integers
METADATA_ONLY = ("with a date", "with a place")  # kinds whose pixels are the same
_MAX_CHUNKS = 1000  # of a PNG before its pixels


def outdated_kind(path: str, kind: FileKind) -> str | None:
    """The kind of a file that is read differently ("TIFF", "transparent", ...); None where its pixels are the same, or
    where it cannot be opened."""
    if kind == "video":
        return "film"
    if kind == "text" or os.path.splitext(path)[1].lower() in _RAW:
        return None
    try:
        with open_file(path) as file:
            return _of_picture(file)
    except OSError:
        return None


def has_new_metadata(path: str, *, is_undated: bool, has_gps: bool) -> str | None:
    """The kind of metadata, in a file or its XMP sidecar, that version 1 may have missed: "with a date" where it found
    no date, "with a place" where it read a latitude without its hemisphere. None where there is neither."""
    if is_undated and any(os.path.exists(f"{stem}.xmp") for stem in (path, os.path.splitext(path)[0])):
        return "with a date"
    try:
        with open_file(path) as file:
            metadata = _ends(file)
    except OSError:
        return None
    if is_undated and _DATE.search(metadata):
        return "with a date"
    return "with a place" if has_gps and b"Exif\0\0" in metadata and not _GPS_REFERENCE.search(metadata) else None


def _of_picture(file: IO[bytes]) -> str | None:
    head = file.read(64).ljust(64, b"\0")
    if head.startswith(_TIFF):
        return None if _is_plain_tiff(file, head) else "TIFF"
    if head.startswith(b"\xff\xd8"):
        return _turned(file)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _of_png(file, head)
    if head.startswith(b"GIF8"):
        return "with a palette"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _of_webp(file, head)
    if head[4:8] == b"ftyp":
        return _of_heif(file, head)
    if head.startswith(b"BM"):
        return _of_bmp(head)
    if head.startswith((b"\0\0\0\x0cjP  ", b"\xffO\xffQ")):
        return "JPEG 2000"
    if head.startswith((b"P1", b"P4")):
        return "black and white"
    if re.match(rb"P[25]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s+\d{4,5}\s", head):
        return "grey of 16 bits"
    if head.startswith(b"\0\0\1\0") or (head.startswith(b"qoif") and head[12] == 4):
        return "transparent"
    return None


def _of_png(file: IO[bytes], head: bytes) -> str | None:
    if head[25] == 3:
        return "with a palette"
    if head[24] == 1:
        return "black and white"
    if head[25] in (4, 6):
        return "transparent"
    file.seek(8)
    for _ in range(_MAX_CHUNKS):
        length, name = file.read(4), file.read(4)
        if name == b"tRNS":
            return "transparent"
        if name == b"cICP":
            return "of high dynamic range"
        if name == b"acTL":
            return "animation"
        if len(name) < 4 or name in (b"IDAT", b"IEND"):
            break
        file.seek(int.from_bytes(length, "big") + 4, os.SEEK_CUR)
    return _turned(file)


def _of_webp(file: IO[bytes], head: bytes) -> str | None:
    form, flags = head[12:16], head[20]
    if form == b"VP8X":
        return "animation" if flags & 2 else "transparent" if flags & 16 else _turned(file)
    return "transparent" if form == b"VP8L" and head[24] & 16 else None


def _of_heif(file: IO[bytes], head: bytes) -> str | None:
    if head[8:12] in (b"avis", b"hevc", b"msf1"):
        return "animation"
    file.seek(0)
    content = file.read(_MAX_HEIF_BYTES)
    kinds = {"transparent": _HEIF_ALPHA, "turned": _XMP_ROTATION, "of high dynamic range": _HEIF_RANGE}
    return next((kind for kind, mark in kinds.items() if mark.search(content)), None)


def _turned(file: IO[bytes]) -> str | None:
    """The kind "turned" for a picture that is rotated by XMP alone."""
    metadata = _ends(file)
    return "turned" if _XMP_ROTATION.search(metadata) and not _EXIF_ROTATION.search(metadata) else None


def _ends(file: IO[bytes]) -> bytes:
    """The beginning and the end of a file: a WebP's metadata is at its end, and often a PNG's."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(len(head), size - _HEAD_BYTES // 4))
    return head + file.read(_HEAD_BYTES // 4)


def _is_plain_tiff(file: IO[bytes], head: bytes) -> bool:
    """Whether it is one page of 8-bit grey or colour, as most are: version 1 read these correctly."""
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    if head[2:4] not in (b"*\0", b"\0*"):  # BigTIFF
        return False

    def number(data: bytes) -> int:
        return int.from_bytes(data, order)

    file.seek(number(head[4:8]))
    count = number(file.read(2))
    entries = file.read(12 * count)
    if (
        not 0 < count < 500 or len(entries) < 12 * count or number(file.read(4)) != 0
    ):  # truncated, or with a second page
        return False
    found: dict[int, tuple[int, ...]] = {}
    for entry in (entries[at : at + 12] for at in range(0, len(entries), 12)):
        tag, kind, values = number(entry[:2]), number(entry[2:4]), number(entry[4:8])
        if kind == 3 and values > 2 and tag in _PLAIN_TIFF:
            file.seek(number(entry[8:12]))
            entry = entry[:8] + file.read(2 * min(values, 8))
        width = 2 if kind == 3 else 4
        found[tag] = tuple(number(entry[at : at + width]) for at in range(8, 8 + width * min(values, 8), width))
    is_usual = all(set(found.get(tag, usual)) <= set(usual) for tag, usual in _PLAIN_TIFF.items())
    return (
        is_usual
        and 0x102 in found
        and found.get(0x106) in _COLOURS
        and 0x152 not in found
        and found.get(0xFE) in _WHOLE
    )


def _of_bmp(head: bytes) -> str | None:
    bits = int.from_bytes(head[24:26] if head[14] == 12 else head[28:30], "little")
    return "with a palette" if bits <= 8 else "transparent" if bits == 32 else None
