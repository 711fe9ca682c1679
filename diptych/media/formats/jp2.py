"""JPEG 2000 of more than 8 bits a colour: Pillow rounds its brightest values over the top, to black."""

from __future__ import annotations

import numpy as np
from PIL import Image

from diptych.media.pixels.bands import in_bands

MOST_HALVINGS = 5  # that every encoder's usual settings allow
CODESTREAM, CONTAINER = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"


def is_deep(content: bytes) -> bool:
    """Whether it has several components, one of them of more than 8 bits (ISO 15444-1, A.5.1)."""
    at = content.find(CODESTREAM) + 2
    count = int.from_bytes(content[at + 38 : at + 40], "big")
    return at > 1 and count > 2 and any((depth & 127) > 7 for depth in content[at + 40 : at + 40 + 3 * count : 3])


def needed(content: bytes, size: tuple[int, int], reduce: int = 0) -> int:
    """Bytes that OpenJPEG takes for a picture of `size`, at 1 / 2 ** `reduce` of it: each tile whole (A.5.1)."""
    at, pixels = content.find(CODESTREAM) + 2, size[0] * size[1]
    across, down = (int.from_bytes(content[at + offset : at + offset + 4], "big") for offset in (22, 26))
    count = int.from_bytes(content[at + 38 : at + 40], "big")
    tile = min(across, size[0]) * min(down, size[1])
    return (5 * count * tile + 4 * pixels) >> (2 * reduce)


def needed_deep(content: bytes, size: tuple[int, int]) -> int:
    """Bytes that `decode` takes, which knows no tiles."""
    at = content.find(CODESTREAM) + 2
    return size[0] * size[1] * (7 * int.from_bytes(content[at + 38 : at + 40], "big") + 4)


def decode(content: bytes) -> Image.Image | None:
    """The colours with 8 bits each; None where imagecodecs, which reads them, is not installed."""
    try:
        import imagecodecs
    except ImportError:
        return None
    at = content.find(CODESTREAM) + 2
    values = imagecodecs.jpeg2k_decode(content)
    if values.ndim != 3 or values.dtype != np.uint16 or values.shape[2] not in (3, 4):
        return None
    bits = (content[at + 40] & 127) + 1
    size = (values.shape[1], values.shape[0])
    return in_bands(size, lambda top, bottom: Image.fromarray((values[top:bottom] >> (bits - 8)).astype(np.uint8)))
