"""JPEG XL, by imagecodecs: its upright pixels, and the EXIF of its container."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import Image

from diptych.media.formats.opener import OpenedPicture, Opener
from diptych.media.formats.tiff import NeedsPackage
from diptych.media.pixels.bands import in_bands
from diptych.media.pixels.depth import scale_of
from diptych.media.pixels.transparency import is_blank

CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_DECODING = 7  # bytes a sample, measured
_MAX_FRAMES = 4096  # assumed if the decoder does not give their number
_RATIOS = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # ISO 18181-1, B.2: width to height


def open_picture(file: IO[bytes], opener: Opener) -> OpenedPicture:
    """Open a JPEG XL: its first frame or, if it is searched, the first that is not blank. Raises NeedsPackage."""
    content = opener.read_whole(file)
    opener.check(whole := size(content))
    opener.reserve(whole, needed(content, whole, is_first=True))
    image = decode(content)
    if opener.is_searched and is_blank(image) and needed(content, whole, is_first=False) <= opener.max_bytes:
        with contextlib.suppress(Exception):  # damaged later frames do not spoil the picture
            image = next(frame for frame in frames(content) if not is_blank(frame))
    return opener.finish(image, 1)


def size(content: bytes) -> tuple[int, int]:
    """Width and height as stored. Raises SyntaxError if there is no codestream."""
    stream = next((data for kind, data in _boxes(content) if kind in (b"jxlc", b"jxlp")), b"")
    stream = content if content.startswith(CODESTREAM) else stream[4:] if stream[4:6] == CODESTREAM else stream
    if not stream.startswith(CODESTREAM):
        raise SyntaxError("no codestream of JPEG XL")
    bits = _Bits(stream[2:20])
    is_small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if is_small else bits.length()
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio]
        return height * across // down, height
    return (8 * (bits.take(5) + 1) if is_small else bits.length()), height


def decode(content: bytes) -> Image.Image:
    """The upright picture, or the first frame of an animation. Raises NeedsPackage, and whatever the decoder raises."""
    try:
        import imagecodecs
    except ImportError:
        raise NeedsPackage("JPEG XL needs imagecodecs: pip install 'diptych[formats]'.") from None
    values = imagecodecs.jpegxl_decode(content, index=0, numthreads=1)
    return _picture(values[0] if values.ndim == 4 or (values.ndim == 3 and values.shape[2] > 4) else values)


def needed(content: bytes, size: tuple[int, int], *, is_first: bool) -> int:
    """Bytes that decoding the first frame takes, or all frames. libjxl computes in floats."""
    shape = _shape(content) or (_MAX_FRAMES, *size[::-1], 4)
    count, samples = shape[0] if len(shape) == 4 else 1, shape[-1] if len(shape) > 2 else 1
    return size[0] * size[1] * samples * (_DECODING + (0 if is_first else 4 * count))


def _shape(content: bytes) -> tuple[int, ...] | None:
    """(frames, h, w, samples), without axes of length one, from the decoder's complaint about an array of the wrong
    size, which it makes before it decodes. None if it makes none."""
    try:
        import imagecodecs

        imagecodecs.jpegxl_decode(content, out=np.empty(0, np.uint8), numthreads=1)
    except ImportError:
        pass
    except Exception as error:
        if match := re.search(r" shape=\(([\d, ]+)\)$", str(error)):
            return tuple(int(side) for side in re.findall(r"\d+", match[1]))
    return None


def frames(content: bytes) -> Iterator[Image.Image]:
    """All frames of an animation, decoded at once: asked for one frame beyond the last, the decoder returns
    uninitialised memory."""
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
    """The container's EXIF, or b"". Its orientation is void: the codestream's counts."""
    data = next((data for kind, data in _boxes(content) if kind == b"Exif"), b"")
    return data[4 + int.from_bytes(data[:4], "big") :]


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, data) of a container's boxes."""
    start = 0
    while content.startswith(CONTAINER) and start + 8 <= len(content):
        length, kind, head = int.from_bytes(content[start : start + 4], "big"), content[start + 4 : start + 8], 8
        if length == 1:
            length, head = int.from_bytes(content[start + 8 : start + 16], "big"), 16
        end = start + length if length else len(content)
        if end < start + head:
            return
        yield kind, content[start + head : end]
        start = end


class _Bits:
    """A bit reader, least significant bit first."""

    def __init__(self, data: bytes):
        self._number, self._position = int.from_bytes(data, "little"), 0

    def take(self, count: int) -> int:
        value = self._number >> self._position & (1 << count) - 1
        self._position += count
        return value

    def length(self) -> int:
        """A side's length: 1 plus a number of 9, 13, 18 or 30 bits."""
        return 1 + self.take((9, 13, 18, 30)[self.take(2)])
