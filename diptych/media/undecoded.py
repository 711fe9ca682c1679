"""Picture files opened and not decoded: what they are, and what they say of themselves."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import IO

from PIL import Image, UnidentifiedImageError

from diptych.media.formats import jpeg, jxl, png
from diptych.media.formats.signatures import formats_of

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def opened_by_pillow(file: IO[bytes], formats: list[str] | None = None) -> Image.Image:
    """The picture, not decoded yet, as Image.open does it, but for its limit of pixels, which a caller here must know.
    Raises UnidentifiedImageError."""
    formats = formats_of(file) if formats is None else formats
    file.seek(0)
    head = file.read(16)
    for name in formats:
        if name not in Image.OPEN:
            Image.preinit()
        factory, accepts = Image.OPEN[name]
        may_be = not accepts or accepts(head)
        if not may_be or isinstance(may_be, str):  # words say what an installation lacks for it
            continue
        file.seek(0)
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # as Image.open does
            return factory(file, "")
    raise UnidentifiedImageError("no picture of a kind that is read here")


def metadata_of(content: bytes) -> Image.Image | None:
    """A picture that need not be decoded, for what its file says of itself; None where Pillow opens none."""
    file = io.BytesIO(content)
    with contextlib.suppress(Exception):
        return jpeg.open_jpeg(file) if content.startswith(b"\xff\xd8") else opened_by_pillow(file)
    with contextlib.suppress(Exception):
        if content.startswith(png.SIGNATURE):
            return opened_by_pillow(io.BytesIO(png.without_damage(content)), ["PNG"])
        return _tags_alone(content)
    return None


def _tags_alone(content: bytes) -> Image.Image:
    """The EXIF of a TIFF whose pixels Pillow does not know, or of a JPEG XL, on a picture that is none."""
    image = Image.new("1", (1, 1))
    if content.startswith(TIFF):
        order = content[:2]
        offset = int.from_bytes(content[4:8], "little" if order == b"II" else "big")
        image.getexif().load_from_fp(io.BytesIO(content), offset)
    elif exif := jxl.exif(content):
        image.info["exif"] = exif
    return image
