"""What a file is by its first bytes, and which decoders of Pillow's are tried on a picture's."""

from __future__ import annotations

import contextlib
import re
from typing import IO

from PIL import Image

# Only these are tried, so that no file makes Pillow start an interpreter (EPS: Ghostscript). HEIF is a plug-in's.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "JPEG2000", "ICO", "QOI", "HEIF")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# Matroska, AVI, QuickTime without a brand, Flash, Ogg, MPEG's program and transport streams, Windows Media
_FILMS = re.compile(
    rb"\x1a\x45\xdf\xa3|RIFF....AVI |\0...(moov|mdat|wide|free|skip|pnot)|FLV\x01|OggS\0|\0\0\x01[\xb3\xba]|"
    rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11|(....)?\x47.{187}(....)?\x47.{187}(....)?\x47",
    re.S,
)
# What pictures in ISO's container call themselves: HEIF (ISO 23008-12), AVIF, JPEG 2000 and XL, Canon's RAW
_PICTURE_BRANDS = re.compile(rb"hei[cmsx]|hev[cmsx]|mif[12]|msf1|mia[fh]|avi[fs]|j[px][2lx ]|jxl |crx ")
FILM_HEAD_LENGTH = 1024  # bytes that tell: five packets of an MPEG transport stream


def is_film(head: bytes) -> bool:
    """Whether a file whose first FILM_HEAD_LENGTH bytes these are is a film, whatever it is called."""
    if head[4:8] == b"ftyp":
        return not _PICTURE_BRANDS.match(head, 8)
    return bool(_FILMS.match(head))


def formats_of(file: IO[bytes]) -> list[str]:
    """What a file may be, of what can be read here. HEIC's plug-in is asked for by the first file that begins as HEIC
    does, for it takes a while to import."""
    file.seek(0)
    head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:] in _HEIC_BRANDS and "HEIF" not in Image.OPEN:
        with contextlib.suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]
