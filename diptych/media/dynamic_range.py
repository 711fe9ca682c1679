"""Pictures of high dynamic range, as cameras write them into HEIC and AVIF, and screenshots into PNG."""

from __future__ import annotations

import math
from typing import IO

import numpy as np
from PIL import Image

from diptych.media.formats.png import SIGNATURE
from diptych.media.pixels.tone_mapping import HLG, PQ, to_srgb

_HEAD_BYTES = 2**16  # before the pixels
_SHORT_PX = 1024  # on its short side a picture is computed no larger than up to twice so
_MOST_PIXELS = 2**25  # of what is computed, for a picture may be very long


def in_ordinary_range(image: Image.Image, file: IO[bytes]) -> Image.Image:
    """The picture as it is or, where its file says that its values are PQ's or HLG's, as sRGB and perhaps smaller."""
    transfer, primaries = _coding(file)
    if transfer not in (PQ, HLG):
        return image
    factor = max(min(image.size) // _SHORT_PX, math.ceil(math.sqrt(image.width * image.height / _MOST_PIXELS)))
    if factor > 1:
        image = image.reduce(factor)
    values = np.asarray(image.convert("RGB")).astype(np.uint16) * 257
    return Image.fromarray(to_srgb(values, transfer, primaries))


def _coding(file: IO[bytes]) -> tuple[int, int]:
    """H.273's numbers for the transfer and the primaries; 2 where nothing is said."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    if head[4:8] == b"ftyp" and (at := head.find(b"colrnclx")) >= 0:  # ISO 14496-12, 12.1.5
        primaries, transfer = head[at + 8 : at + 10], head[at + 10 : at + 12]
        return int.from_bytes(transfer, "big"), int.from_bytes(primaries, "big")
    if head.startswith(SIGNATURE) and (at := head.find(b"cICP", 0, head.find(b"IDAT"))) >= 0:  # PNG 3, 11.3.2.6
        primaries, transfer = head[at + 4 : at + 5], head[at + 5 : at + 6]
        return int.from_bytes(transfer, "big"), int.from_bytes(primaries, "big")
    return 2, 2
