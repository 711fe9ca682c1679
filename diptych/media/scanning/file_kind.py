"""The kind of a file by its first bytes, because names are often wrong."""

from __future__ import annotations

import os
import re

from diptych.media.formats.table import PICTURE_FORMATS
from diptych.media.items import FileKind
from diptych.media.scanning.suffixes import TEXT_SUFFIXES
from diptych.untrusted.regular_files import open_file

HEAD_LENGTH = 1024  # bytes: enough for five packets of an MPEG transport stream

# Matroska, AVI, QuickTime without a brand, Flash, Ogg, MPEG program and transport streams, Windows Media
_VIDEOS = re.compile(
    rb"\x1a\x45\xdf\xa3|RIFF....AVI |\0...(moov|mdat|wide|free|skip|pnot)|FLV\x01|OggS\0|\0\0\x01[\xb3\xba]|"
    rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11|(....)?\x47.{187}(....)?\x47.{187}(....)?\x47",
    re.S,
)
# Picture brands of the ISO container: HEIF (ISO 23008-12), AVIF, JPEG 2000 and XL, Canon's RAW
_PICTURE_BRANDS = re.compile(rb"hei[cmsx]|hev[cmsx]|mif[12]|msf1|mia[fh]|avi[fs]|j[px][2lx ]|jxl |crx ")
# Signatures of pictures in the ISO container, and of RAW files not based on TIFF
_ISO_PICTURE = rb"....ftyp"
_RAW = rb"FUJIFILMCCD-RAW|FOVb|\0MRM|II(R[OS]\x08|U\0|\x1a\0\0\0HEAPCCDR)|MMOR|IIII|MMMM"
_BY_BYTES = [known.signature for known in PICTURE_FORMATS if known.is_distinctive]
_BY_NAME = [known.signature for known in PICTURE_FORMATS if not known.is_distinctive]
_DISTINCTIVE = re.compile(b"|".join([*_BY_BYTES, _ISO_PICTURE]), re.S)
_OTHERS = re.compile(b"|".join([*_BY_NAME, _RAW]), re.S)
# Texts that may run code when opened: scripts, launchers, web pages
_PROGRAMS = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:#!|\[Desktop |\[InternetShortcut|<!doctype|<html|<script|<svg|<\?)", re.I
)


def is_video(head: bytes) -> bool:
    """Whether a file is a video by its first HEAD_LENGTH bytes, whatever its name."""
    if head[4:8] == b"ftyp":
        return not _PICTURE_BRANDS.match(head, 8)
    return bool(_VIDEOS.match(head))


def detected_kind(path: str | os.PathLike[str]) -> FileKind | None:
    """The kind of an indexable file by its bytes, else None. A picture or a video may have any name; a text needs a
    suffix of texts. Raises OSError, also if the file is not regular."""
    with open_file(path) as file:
        head = file.read(HEAD_LENGTH)
    if is_video(head):
        return "video"
    if _DISTINCTIVE.match(head) or _OTHERS.match(head):
        return "picture"
    is_text = os.path.basename(os.fsdecode(path)).lower().endswith(TEXT_SUFFIXES)
    return "text" if is_text and b"\0" not in head and not _PROGRAMS.match(head) else None


def kind_of(head: bytes, named: FileKind) -> FileKind:
    """The kind of a file by its first HEAD_LENGTH bytes, or `named`, the kind by its name, if they are ambiguous. A
    text without zero bytes stays a text."""
    if named == "text" and b"\0" not in head:
        return named
    if is_video(head):
        return "video"
    return "picture" if _DISTINCTIVE.match(head) else named
