"""A 64-bit hash of what a picture looks like: copies in another size or compression have nearly the same bits.

The DCT hash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1, as
in the library pHash: of a grey 32 x 32 version the lowest frequencies, each above or below their median.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

GREY_PX, BITS = 32, 64
_FREQUENCIES = np.arange(1, 9)  # frequency 0 is brightness, which a copy may change
_COSINES = np.cos(np.outer(_FREQUENCIES, 2 * np.arange(GREY_PX) + 1) * np.pi / (2 * GREY_PX)).astype(np.float32)


def perceptual_hash(image: Image.Image) -> int:
    """The hash of a picture in any of the modes L and RGB: `BITS` bits, of which the first is the highest."""
    grey = image.convert("L").resize((GREY_PX, GREY_PX), Image.Resampling.BOX)
    found = (_COSINES @ np.asarray(grey, np.float32) @ _COSINES.T).ravel()
    bits = found > np.partition(found, BITS // 2 - 1)[BITS // 2 - 1]  # the lower of the two in the middle
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distance(one: int, other: int) -> int:
    """The number of bits in which two hashes differ, 0 to `BITS`."""
    return (one ^ other).bit_count()
