"""The picture formats, one a row. To add one, add its row here.

A format that Pillow reads rightly needs no more. Any other also needs a module beside this one with a function
`open_picture(file, opener)`, which the row names; `opener.Opener` has the limits and the last steps that all share.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO, NamedTuple

from diptych.media.formats import jp2, jpeg, jxl, png, tiff
from diptych.media.formats.opener import OpenedPicture, Opener


class PictureFormat(NamedTuple):
    """`suffixes` are those of file names, `signature` is a regular expression of the first bytes, `decoder` is Pillow's
    name of the format ("" if Pillow does not read it), `open_picture` opens a file whose signature matches (None:
    Pillow does). If `is_distinctive` is False, files of other kinds may begin with the signature too, so the file name
    has precedence."""

    suffixes: tuple[str, ...]
    signature: bytes
    decoder: str
    open_picture: Callable[[IO[bytes], Opener], OpenedPicture] | None = None
    is_distinctive: bool = True

    def matches(self, head: bytes) -> bool:
        """Whether a file with these first bytes is of this format."""
        return re.match(self.signature, head, re.S) is not None


# Pillow's decoders are tried in this order.
PICTURE_FORMATS = (
    PictureFormat((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), rb"\xff\xd8", "JPEG", jpeg.open_picture),
    PictureFormat((".png", ".apng"), rb"\x89PNG\r\n\x1a\n", "PNG", png.open_picture),
    PictureFormat((".webp",), rb"RIFF....WEBP", "WEBP"),
    PictureFormat((".gif",), rb"GIF8[79]a", "GIF"),
    PictureFormat((".bmp",), rb"BM....\0\0\0\0", "BMP"),
    PictureFormat((".tif", ".tiff"), rb"II[*+]\0|MM\0[*+]", "TIFF", tiff.open_picture),
    PictureFormat((".avif",), rb"....ftypavi[fs]", "AVIF"),
    PictureFormat((".pbm", ".pgm", ".pnm", ".ppm"), rb"P[1-7]\s", "PPM", is_distinctive=False),
    PictureFormat(
        (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        rb"\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51",
        "JPEG2000",
        jp2.open_picture,
    ),
    PictureFormat((), rb"\0\0\x01\0", "ICO", is_distinctive=False),
    PictureFormat((".qoi",), rb"qoif", "QOI"),
    PictureFormat((".heic", ".heif", ".hif"), rb"....ftyp(hei[cmsx]|hev[cmsx]|mif[12]|msf1|mia[fh])", "HEIF"),
    PictureFormat((".jxl",), rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "", jxl.open_picture),
)
PICTURE_SUFFIXES = tuple(suffix for known in PICTURE_FORMATS for suffix in known.suffixes)
PILLOW_DECODERS = tuple(known.decoder for known in PICTURE_FORMATS if known.decoder)
