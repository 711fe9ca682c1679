"""Still pictures of high dynamic range, as in cameras' HEIC and AVIF files and in PNG screenshots, as sRGB."""

from __future__ import annotations

import math
from typing import IO

import numpy as np
from PIL import Image

from diptych.media.formats.png import SIGNATURE
from diptych.media.pixels.tone_mapping import HLG, PQ, to_srgb

_HEAD_BYTES = 2**16  # the colour coding is before the pixels
_SHORT_PX = 1024  # the short side is reduced to between this and twice this before tone mapping
_MAX_PIXELS = 2**25  # after that reduction: a picture may be very long


def to_standard_range(image: Image.Image, file: IO[bytes]) -> Image.Image:
    """The picture itself or, if its file declares PQ or HLG, its sRGB, perhaps smaller."""
    transfer, primaries = _coding(file)
    if transfer not in (PQ, HLG):
        return image
    factor = max(min(image.size) // _SHORT_PX, math.ceil(math.sqrt(image.width * image.height / _MAX_PIXELS)))
    if factor > 1:
        image = image.reduce(factor)
    values = np.asarray(image.convert("RGB")).astype(np.uint16) * 257
    return Image.fromarray(to_srgb(values, transfer, primaries))


def _coding(file: IO[bytes]) -> tuple[int, int]:
    """H.273's numbers of the transfer and the primaries; 2 means unspecified."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    if head[4:8] == b"ftyp" and (start := head.find(b"colrnclx")) >= 0:  # ISO 14496-12, 12.1.5
        primaries, transfer = head[start + 8 : start + 10], head[start + 10 : start + 12]
        return int.from_bytes(transfer, "big"), int.from_bytes(primaries, "big")
    if head.startswith(SIGNATURE) and (start := head.find(b"cICP", 0, head.find(b"IDAT"))) >= 0:  # PNG 3, 11.3.2.6
        primaries, transfer = head[start + 4 : start + 5], head[start + 5 : start + 6]
        return int.from_bytes(transfer, "big"), int.from_bytes(primaries, "big")
    return 2, 2
