"""Small pictures of files, for the page and for notebooks."""

from __future__ import annotations

import io
from typing import IO

from PIL import Image

from diptych.errors import ImageError
from diptych.media.content.photographs import LARGEST_PICTURE, WholePicture, read_whole
from diptych.media.content.videos import read_frame

_QUALITY = 85


def thumbnail_of(file: IO[bytes], name: str, size_px: int, at_s: float | None = None) -> WholePicture:
    """A picture file, or the frame of a film `at_s` seconds into it, upright, fitted into a square of `size_px`, never
    enlarged; with its own size. The suffix of `name` marks RAW files. Raises ImageError."""
    if at_s is not None:
        image = Image.fromarray(read_frame(file, name, at_s, size_px).pixels)
        size = image.size
        image.thumbnail((size_px, size_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
        return WholePicture(image, size)
    content = file.read(LARGEST_PICTURE)
    if not content:
        raise ImageError("empty file", name, "It has no bytes; copy or download it again.")
    return read_whole(content, name, size_px)


def as_jpeg(image: Image.Image) -> bytes:
    """The bytes of a JPEG file; a large one is shown before it has come whole."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, progressive=max(image.size) > 640)
    return file.getvalue()
