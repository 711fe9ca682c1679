"""JPEG 2000 of more than 8 bits a colour: Pillow rounds its brightest values over the top, to black."""

from __future__ import annotations

import numpy as np
from PIL import Image

CODESTREAM, CONTAINER = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"


def is_deep(content: bytes) -> bool:
    """Whether it has several components, one of them of more than 8 bits (ISO 15444-1, A.5.1)."""
    at = content.find(CODESTREAM) + 2
    count = int.from_bytes(content[at + 38 : at + 40], "big")
    return at > 1 and count > 2 and any((depth & 127) > 7 for depth in content[at + 40 : at + 40 + 3 * count : 3])


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
    return Image.fromarray((values >> (bits - 8)).astype(np.uint8))
