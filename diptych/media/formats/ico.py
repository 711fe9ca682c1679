"""ICO: what its pictures are, for its own words on their sizes bind nobody."""

from __future__ import annotations

import struct

from diptych.media.formats.png import SIGNATURE


def largest(content: bytes) -> tuple[int, int]:
    """Width and height of the largest picture in it. Raises struct.error where it breaks off."""
    (count,) = struct.unpack_from("<H", content, 4)
    starts = [struct.unpack_from("<I", content, 6 + 16 * at + 12)[0] for at in range(count)]
    return max((_size(content, at) for at in starts), key=lambda size: size[0] * size[1], default=(0, 0))


def _size(content: bytes, at: int) -> tuple[int, int]:
    """Of a PNG, or of a bitmap, whose height counts its mask, too."""
    if content[at : at + 8] == SIGNATURE:
        return struct.unpack_from(">II", content, at + 16)
    width, height = struct.unpack_from("<ii", content, at + 4)
    return abs(width), abs(height) // 2
