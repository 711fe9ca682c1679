"""JPEG XL, by imagecodecs: pixels as shown, and the EXIF that the container holds."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from PIL import Image

from diptych.media.formats.tiff import NeedsPackage
from diptych.media.pixels.bands import in_bands
from diptych.media.pixels.depth import scale_of

CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_DECODING, _MOST_FRAMES = 7, 4096  # bytes for each number of a picture, measured; frames of one that does not tell
_RATIOS = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # ISO 18181-1, B.2: width to height


def size(content: bytes) -> tuple[int, int]:
    """Width and height as stored. Raises SyntaxError where there is no code stream."""
    stream = next((data for kind, data in _boxes(content) if kind in (b"jxlc", b"jxlp")), b"")
    stream = content if content.startswith(CODESTREAM) else stream[4:] if stream[4:6] == CODESTREAM else stream
    if not stream.startswith(CODESTREAM):
        raise SyntaxError("no code stream of JPEG XL")
    bits = _Bits(stream[2:20])
    is_small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if is_small else bits.length()
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio]
        return height * across // down, height
    return (8 * (bits.take(5) + 1) if is_small else bits.length()), height


def decode(content: bytes) -> Image.Image:
    """The picture upright, the first frame of an animation. Raises NeedsPackage, and what the decoder raises."""
    try:
        import imagecodecs
    except ImportError:
        raise NeedsPackage("JPEG XL needs imagecodecs: pip install 'diptych[formats]'.") from None
    values = imagecodecs.jpegxl_decode(content, index=0, numthreads=1)
    return _picture(values[0] if values.ndim == 4 or (values.ndim == 3 and values.shape[2] > 4) else values)


def needed(content: bytes, size: tuple[int, int], *, is_first: bool) -> int:
    """Bytes that decoding takes: of the first frame, or of all. libjxl computes in floats."""
    shape = _shape(content) or (_MOST_FRAMES, *size[::-1], 4)
    count, samples = shape[0] if len(shape) == 4 else 1, shape[-1] if len(shape) > 2 else 1
    return size[0] * size[1] * samples * (_DECODING + (0 if is_first else 4 * count))


def _shape(content: bytes) -> tuple[int, ...] | None:
    """(frames, h, w, samples), or without what is one: the decoder says it of an array that does not fit, before it
    decodes anything. None where it says nothing of the kind."""
    try:
        import imagecodecs

        imagecodecs.jpegxl_decode(content, out=np.empty(0, np.uint8), numthreads=1)
    except ImportError:
        pass
    except Exception as error:
        if said := re.search(r" shape=\(([\d, ]+)\)$", str(error)):
            return tuple(int(side) for side in re.findall(r"\d+", said[1]))
    return None


def frames(content: bytes) -> Iterator[Image.Image]:
    """All frames of an animation, decoded at once: beyond the last, the decoder would give what was in the memory."""
    import imagecodecs

    values = imagecodecs.jpegxl_decode(content, numthreads=1)
    if values.ndim == 4 or (values.ndim == 3 and values.shape[2] > 4):
        yield from map(_picture, values)


def _picture(values: np.ndarray) -> Image.Image:
    scale = scale_of(values, full=1 if values.dtype.kind == "f" else 2 ** (8 * values.dtype.itemsize) - 1)

    def draw(top: int, bottom: int) -> Image.Image:
        eight = scale.applied(values[top:bottom])
        return Image.fromarray(eight[..., 0] if eight.ndim == 3 and eight.shape[2] == 1 else eight)

    return in_bands((values.shape[1], values.shape[0]), draw)


def exif(content: bytes) -> bytes:
    """The container's EXIF, without the orientation's meaning: the code stream says that. b"" where there is none."""
    said = next((data for kind, data in _boxes(content) if kind == b"Exif"), b"")
    return said[4 + int.from_bytes(said[:4], "big") :]


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, data) of a container's boxes."""
    at = 0
    while content.startswith(CONTAINER) and at + 8 <= len(content):
        length, kind, head = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8], 8
        if length == 1:
            length, head = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        end = at + length if length else len(content)
        if end < at + head:
            return
        yield kind, content[at + head : end]
        at = end


class _Bits:
    """A bit reader: the lowest bit of the first byte comes first."""

    def __init__(self, data: bytes):
        self._number, self._at = int.from_bytes(data, "little"), 0

    def take(self, count: int) -> int:
        value = self._number >> self._at & (1 << count) - 1
        self._at += count
        return value

    def length(self) -> int:
        """A side: 1 and a number of 9, 13, 18 or 30 bits."""
        return 1 + self.take((9, 13, 18, 30)[self.take(2)])
