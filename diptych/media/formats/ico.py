"""ICO: the true sizes of the pictures in it, because those in its directory bind no decoder."""

from __future__ import annotations

import struct

from diptych.media.formats.png import SIGNATURE


def largest(content: bytes) -> tuple[int, int]:
    """Width and height of the largest picture in it. Raises struct.error if it breaks off."""
    (count,) = struct.unpack_from("<H", content, 4)
    starts = [struct.unpack_from("<I", content, 6 + 16 * index + 12)[0] for index in range(count)]
    return max((_size(content, start) for start in starts), key=lambda size: size[0] * size[1], default=(0, 0))


def _size(content: bytes, start: int) -> tuple[int, int]:
    """The size of a PNG, or of a bitmap, whose stored height includes its mask."""
    if content[start : start + 8] == SIGNATURE:
        return struct.unpack_from(">II", content, start + 16)
    width, height = struct.unpack_from("<ii", content, start + 4)
    return abs(width), abs(height) // 2
