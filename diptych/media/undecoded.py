"""Picture files opened without decoding them: their format, and their metadata."""

from __future__ import annotations

import contextlib
import io
from typing import IO

from PIL import Image

from diptych.media.formats import jxl, png
from diptych.media.formats.jpeg_structure import open_jpeg
from diptych.media.formats.pillow import open_undecoded
from diptych.media.formats.table import PILLOW_DECODERS

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def opened_by_pillow(file: IO[bytes]) -> Image.Image:
    """The picture, not decoded yet, in any of our formats that Pillow reads, with no limit of pixels. Raises
    UnidentifiedImageError."""
    return open_undecoded(file, PILLOW_DECODERS)


def metadata_of(content: bytes) -> Image.Image | None:
    """A picture for its metadata alone; None if Pillow cannot open it. Its pixels may be undecoded or missing."""
    file = io.BytesIO(content)
    with contextlib.suppress(Exception):
        return open_jpeg(file) if content.startswith(b"\xff\xd8") else opened_by_pillow(file)
    with contextlib.suppress(Exception):
        if content.startswith(png.SIGNATURE):
            return open_undecoded(io.BytesIO(png.without_damage(content)), ["PNG"])
        return _exif_alone(content)
    return None


def _exif_alone(content: bytes) -> Image.Image:
    """The EXIF of a TIFF whose pixels Pillow does not read, or of a JPEG XL, in an empty picture."""
    image = Image.new("1", (1, 1))
    if content.startswith(_TIFF):
        order = content[:2]
        offset = int.from_bytes(content[4:8], "little" if order == b"II" else "big")
        image.getexif().load_from_fp(io.BytesIO(content), offset)
    elif exif := jxl.exif(content):
        image.info["exif"] = exif
    return image
