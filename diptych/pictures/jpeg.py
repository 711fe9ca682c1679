"""JPEG: opened whatever its header claims, for it can be decoded at a fraction; mended where its end is missing."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

END = b"\xff\xd9"
MOST_MISSING = (
    0.2  # of the bytes, as estimated from the rows that are there: a tenth that is flat may be a fifth of them
)
_FLAT = 128  # what a decoder makes of a block that never came
_COMPARED = 2**24  # pixels, at most that many of which are compared before and after a scan
_SCANS = 512  # more are no picture's, but made to keep a decoder busy
_ALONE = frozenset((0x00, 0x01, 0xFF, *range(0xD0, 0xD9)))  # what follows an FF byte and is no marker with a length


def open_jpeg(file: IO[bytes]) -> Image.Image:
    """The picture, not decoded yet. Unlike Image.open it knows no limit of pixels; its caller must."""
    from PIL import JpegImagePlugin

    file.seek(0)
    try:
        return JpegImagePlugin.jpeg_factory(file, "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:  # as Image.open does
        raise UnidentifiedImageError(str(error)) from error


def reduced(image: Image.Image, part: int) -> Image.Image:
    """The same picture, set to be decoded at 1/`part` of its size: a half, a quarter or an eighth."""
    image.draft(None, (max(image.width // part, 1), max(image.height // part, 1)))
    return image


def held_samples(image: Image.Image, content: bytes) -> int:
    """How many numbers a decoder must hold at once whatever the fraction it decodes: all of them for a picture in
    several scans, else none to speak of."""
    layers = getattr(image, "layer", ())
    first = next(_scans(content), None)
    if first is None or (len(first.components) == len(layers) and not image.info.get("progressive")):
        return 0
    across, down = (max((layer[at] for layer in layers), default=1) for at in (1, 2))
    share = sum(layer[1] * layer[2] for layer in layers) / max(across * down, 1)
    return round(image.width * image.height * share)


def share_missing(content: bytes) -> float:
    """Of a JPEG that breaks off: which part of its bytes is missing, about; 1 where that cannot be told."""
    scans = list(_scans(content))
    if not scans or len(scans) > _SCANS:
        return 1.0
    start = scans[-1].start
    if not _is_covered(scans, content):  # whole scans are missing
        return 1.0
    there = _rows_there(content) if len(scans) == 1 else _rows_changed(content, start)
    whole = start + (len(content) - start) / max(there, 1e-9)
    return 1 - len(content) / whole


class _Scan(NamedTuple):
    """A start-of-scan segment (ITU T.81, B.2.3): which coefficients of which components, down to which bit. Its data
    begin at `start`."""

    start: int
    components: tuple[int, ...]
    first: int
    last: int
    low_bit: int


def _scans(content: bytes) -> Iterator[_Scan]:
    at = 2
    while (at := content.find(b"\xff", at)) >= 0 and at + 4 <= len(content):
        code = content[at + 1]
        if code in _ALONE:
            at += 1 if code == 0xFF else 2
            continue
        if code == 0xD9:
            return
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        segment = content[at + 4 : at + 2 + length]
        if code == 0xDA and segment and len(segment) >= 2 * segment[0] + 4:
            count = segment[0]
            first, last, bits = segment[2 * count + 1 : 2 * count + 4]
            yield _Scan(at + 2 + length, tuple(segment[1 : 2 * count : 2]), first, last, bits & 15)
        at += 2 + length


def _is_covered(scans: list[_Scan], content: bytes) -> bool:
    """Whether the scans, the one that breaks off included, hold every coefficient of every component to its last bit:
    then nothing is missing but that one's end."""
    try:
        names = [layer[0] for layer in open_jpeg(io.BytesIO(content)).layer]  # type: ignore[attr-defined]
    except Exception:
        return False
    low_bits = np.full((len(names), 64), 99)
    for scan in scans:
        for row, name in enumerate(names):
            if name in scan.components:
                low_bits[row, scan.first : scan.last + 1] = scan.low_bit
    return not low_bits.any()


def _rows_there(content: bytes) -> float:
    """The share of the rows above those that are flat to the bottom."""
    image = reduced(open_jpeg(io.BytesIO(content + END)), 8)
    rows = np.asarray(image).reshape(image.height, -1).astype(np.int16)
    drawn = np.flatnonzero((np.abs(rows - _FLAT) > 1).any(axis=1))
    return (drawn[-1] + 1) / len(rows) if len(drawn) else 0.0


def _rows_changed(content: bytes, start: int) -> float:
    """The share of the rows that the last scan, whose data begin at `start`, has reached."""
    before, after = (_coarse(part + END) for part in (content[:start], content))
    changed = np.flatnonzero((before != after).reshape(len(after), -1).any(axis=1))
    return (changed[-1] + 1) / len(after) if len(changed) else 0.0


def _coarse(content: bytes) -> np.ndarray:
    """The pixels, of a large picture at a half or a quarter of its size; an eighth would show no last scan."""
    image = open_jpeg(io.BytesIO(content))
    part = next((part for part in (1, 2) if image.width * image.height <= _COMPARED * part**2), 4)
    return np.asarray(reduced(image, part))
