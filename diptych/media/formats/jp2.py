"""JPEG 2000, at a fraction of its size if the whole takes too much memory.

imagecodecs reads pictures with more than 8 bits a colour, because Pillow's rounding overflows the brightest to black.
"""

from __future__ import annotations

from typing import IO

import numpy as np
from PIL import Image

from diptych.media.formats.opener import OpenedPicture, Opener
from diptych.media.formats.pillow import open_undecoded
from diptych.media.pixels.bands import in_bands
from diptych.media.pixels.orientation import is_on_its_side, orientation

MAX_HALVINGS = 5  # as many as the usual settings of every encoder allow
CODESTREAM = b"\xff\x4f\xff\x51"


def open_picture(file: IO[bytes], opener: Opener) -> OpenedPicture:
    """Open a JPEG 2000, decoded by imagecodecs or by OpenJPEG in Pillow."""
    image = open_undecoded(file, ["JPEG2000"])
    opener.check(image.size)
    content, turn = opener.read_whole(file), orientation(image)
    if is_deep(content) and (needed_bytes := needed_deep(content, image.size)) <= opener.max_bytes:
        opener.reservation.reserve(needed_bytes)
        if deep := decode(content):
            return opener.finish(deep, turn)
    size, steps = image.size, range(MAX_HALVINGS + 1)
    halved = next((step for step in steps if needed(content, size, step) <= opener.max_bytes), steps[-1])
    opener.reserve(size, needed(content, size, halved))
    image.reduce = halved  # type: ignore[method-assign, assignment]
    image.load()
    return opener.finish(image, turn, (size[1], size[0]) if is_on_its_side(turn) else size)


def is_deep(content: bytes) -> bool:
    """Whether it has several components, one of them of more than 8 bits (ISO 15444-1, A.5.1)."""
    start = content.find(CODESTREAM) + 2
    count = int.from_bytes(content[start + 38 : start + 40], "big")
    depths = content[start + 40 : start + 40 + 3 * count : 3]
    return start > 1 and count > 2 and any((depth & 127) > 7 for depth in depths)


def needed(content: bytes, size: tuple[int, int], reduce: int = 0) -> int:
    """Bytes that OpenJPEG takes to decode a picture of `size` at 1 / 2 ** `reduce` of it: each tile whole (A.5.1)."""
    start, pixels = content.find(CODESTREAM) + 2, size[0] * size[1]
    across, down = (int.from_bytes(content[start + offset : start + offset + 4], "big") for offset in (22, 26))
    count = int.from_bytes(content[start + 38 : start + 40], "big")
    tile = min(across, size[0]) * min(down, size[1])
    return (5 * count * tile + 4 * pixels) >> (2 * reduce)


def needed_deep(content: bytes, size: tuple[int, int]) -> int:
    """Bytes that `decode` takes: it decodes all tiles at once."""
    start = content.find(CODESTREAM) + 2
    return size[0] * size[1] * (7 * int.from_bytes(content[start + 38 : start + 40], "big") + 4)


def decode(content: bytes) -> Image.Image | None:
    """The picture with 8 bits a colour; None if imagecodecs is not installed."""
    try:
        import imagecodecs
    except ImportError:
        return None
    start = content.find(CODESTREAM) + 2
    values = imagecodecs.jpeg2k_decode(content)
    if values.ndim != 3 or values.dtype != np.uint16 or values.shape[2] not in (3, 4):
        return None
    bits = (content[start + 40] & 127) + 1
    size = (values.shape[1], values.shape[0])
    return in_bands(size, lambda top, bottom: Image.fromarray((values[top:bottom] >> (bits - 8)).astype(np.uint8)))
