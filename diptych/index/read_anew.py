"""Which files version 2 of reading reads otherwise than version 1, told by their bytes, of which as few as need be are
looked at. No decoder is asked: what strangers sent is looked at in the program's own process here."""

from __future__ import annotations

import os
import re
from typing import IO

from diptych.index.items import Kind
from diptych.index.scan import RAW_ENDINGS

HEAD_BYTES = 2**16  # where a file says what it is, and most say when they were made
_WHOLE_BYTES = 2**26  # of a HEIC or AVIF, whose boxes may lie anywhere
_RAW = frozenset(f".{ending}" for ending in RAW_ENDINGS.split("|"))
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# A second item that is the first one's transparency (ISO 23008-12, 6.5.8; HEVC's own), a word on turning in XMP, and
# values of PQ or HLG
_HEIF_MARKS = re.compile(rb"auxid:1\0|:systems:auxiliary:alpha|tiff:Orientation|colrnclx..\0[\x10\x12]", re.S)
_DATE = re.compile(rb"(?:19|20)\d\d[:.\-/]\d?\d[:.\-/]\d?\d")
_MOST_CHUNKS = 1000  # of a PNG before its pixels


def kind_read_anew(path: str, kind: Kind) -> str | None:
    """What kind of file it is that is read otherwise ("TIFF", "transparent", ...); None where its pixels are what they
    were, and where it cannot be opened."""
    if kind == "video":
        return "film"
    if kind == "text" or os.path.splitext(path)[1].lower() in _RAW:
        return None
    try:
        with open(path, "rb") as file:
            return _of_picture(file)
    except OSError:
        return None


def tells_date(path: str) -> bool:
    """Whether a file, or the XMP beside it, may say a date that version 1 did not understand."""
    if any(os.path.exists(f"{stem}.xmp") for stem in (path, os.path.splitext(path)[0])):
        return True
    try:
        with open(path, "rb") as file:
            return bool(_DATE.search(file.read(HEAD_BYTES)))
    except OSError:
        return False


def _of_picture(file: IO[bytes]) -> str | None:
    head = file.read(64).ljust(64, b"\0")
    if head.startswith(_TIFF):
        return "TIFF"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _of_png(file, head)
    if head.startswith(b"GIF8"):
        return "with a palette"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _of_webp(head)
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
    for _ in range(_MOST_CHUNKS):
        length, name = file.read(4), file.read(4)
        if name == b"tRNS":
            return "transparent"
        if name == b"cICP":
            return "of high dynamic range"
        if name == b"acTL":
            return "animation"
        if len(name) < 4 or name in (b"IDAT", b"IEND"):
            return None
        file.seek(int.from_bytes(length, "big") + 4, os.SEEK_CUR)
    return None


def _of_webp(head: bytes) -> str | None:
    form, flags = head[12:16], head[20]
    if form == b"VP8X":
        return "animation" if flags & 2 else "transparent" if flags & 16 else None
    return "transparent" if form == b"VP8L" and head[24] & 16 else None


def _of_heif(file: IO[bytes], head: bytes) -> str | None:
    if head[8:12] in (b"avis", b"hevc", b"msf1"):
        return "animation"
    file.seek(0)
    return (
        "HEIC or AVIF that is transparent, turned or of high dynamic range"
        if _HEIF_MARKS.search(file.read(_WHOLE_BYTES))
        else None
    )


def _of_bmp(head: bytes) -> str | None:
    bits = int.from_bytes(head[24:26] if head[14] == 12 else head[28:30], "little")
    return "with a palette" if bits <= 8 else "transparent" if bits == 32 else None
