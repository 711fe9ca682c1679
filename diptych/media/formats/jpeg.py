"""JPEG: opened whatever its header claims, for it can be decoded at a fraction; mended where its end is missing."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from itertools import takewhile
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

END, _EOI, _SOS = b"\xff\xd9", 0xD9, 0xDA
_KEPT = frozenset((*range(0xC0, 0xD8), *range(0xDB, 0xE0), 0xE1, 0xEE))  # frames, tables, EXIF, Adobe
MOST_A_BYTE = 512  # pixels: a block of 64 takes a bit at least, so what claims more does not hold them
MOST_MISSING = 0.24  # as estimated from what is there: of 60 photographs without their last tenth the most was .239
_LAST_BIT = 1.2  # times as long as the scan of the bit before: that of photographs
_LEAST_SEEN = 1 / 8  # of the rows: a scan that has changed fewer holds little, as that of an ink that is not used
_FLAT = 128  # what a decoder makes of a block that never came
_COMPARED = 2**24  # pixels, at most that many of which are compared before and after a scan
_HUGE = 2**26  # pixels: more are not decoded twice to be compared
MOST_SCANS = 512  # more are no picture's, but made to keep a decoder busy
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
    return samples(image)


def samples(image: Image.Image) -> int:
    """The numbers of all its colours, of which some have fewer than it has pixels."""
    layers = getattr(image, "layer", ())
    across, down = (max((layer[at] for layer in layers), default=1) for at in (1, 2))
    share = sum(layer[1] * layer[2] for layer in layers) / max(across * down, 1)
    return round(image.width * image.height * share)


def is_one_scan(image: Image.Image, file: IO[bytes]) -> bool:
    """Whether all is in its first scan, at whose data a file stands that was just opened: the scan names as many
    components as there are (ITU T.81, B.2.3)."""
    count = len(getattr(image, "layer", ()))
    file.seek(max(file.tell() - 6 - 2 * count, 0))
    return file.read(3) == struct.pack(">HB", 6 + 2 * count, count) and not image.info.get("progressive")


def count_scans(content: bytes) -> int:
    """Its scans, and those of a preview in it: among pixels an FF byte is followed by 0."""
    return content.count(b"\xff\xda")


def bare(content: bytes) -> bytes:
    """The same picture without what stands beside it, but for EXIF and Adobe's word on its colours."""
    head = b"".join(
        content[segment.start : segment.start + 4 + len(segment.data)]
        for segment in takewhile(lambda segment: segment.code != _SOS, _segments(content))
        if segment.code in _KEPT
    )
    rest = next((segment.start for segment in _segments(content) if segment.code == _SOS), len(content))
    return b"\xff\xd8" + head + content[rest:]


def completed(content: bytes) -> bytes:
    """A JPEG that breaks off, with an end: all but a segment that is not whole."""
    *_, last = _segments(content)
    return content[: last.start if last.is_cut else len(content)] + END


def share_missing(content: bytes) -> float:
    """Of a JPEG that breaks off: which part of its bytes is missing, about; 1 where that cannot be told."""
    scans = list(_scans(content))
    if not scans or len(scans) > MOST_SCANS:
        return 1.0
    start = scans[-1].start
    there = _rows_there(content) if len(scans) == 1 else _rows_changed(content, start) or _LEAST_SEEN
    if not there:
        return 1.0
    ends = [*(scan.start for scan in scans[1:]), start + (len(content) - start) / there]
    to_come = _bytes_to_come(scans, ends, content)
    return 1.0 if to_come is None else 1 - len(content) / (ends[-1] + to_come)


class _Scan(NamedTuple):
    """A start-of-scan segment (ITU T.81, B.2.3): which coefficients of which components, down to which bit. Its data
    begin at `start`."""

    start: int
    components: tuple[int, ...]
    first: int
    last: int
    low_bit: int


class _Segment(NamedTuple):
    start: int
    code: int
    data: bytes
    is_cut: bool


def _segments(content: bytes) -> Iterator[_Segment]:
    """What stands between the pixels: from each marker to the end of what belongs to it."""
    yield _Segment(0, 0xD8, b"", False)
    at = 2
    while (at := content.find(b"\xff", at)) >= 0:
        code = content[at + 1] if at + 1 < len(content) else 0xFF
        if code in _ALONE:
            at += 1 if code == 0xFF else 2
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        end = at + 2 + max(length, 2)
        yield _Segment(at, code, content[at + 4 : end], end > len(content) and code != _EOI)
        at = end if code != _EOI else len(content)


def _scans(content: bytes) -> Iterator[_Scan]:
    for segment in _segments(content):
        data = segment.data
        if segment.code == _SOS and not segment.is_cut and data and len(data) >= 2 * data[0] + 4:
            first, last, bits = data[2 * data[0] + 1 : 2 * data[0] + 4]
            start = segment.start + 4 + len(data)
            yield _Scan(start, tuple(data[1 : 2 * data[0] : 2]), first, last, bits & 15)


def _bytes_to_come(scans: list[_Scan], ends: list[float], content: bytes) -> float | None:
    """About how long the scans are that have not begun: 0 where those that have, the one that breaks off included, hold
    every coefficient of every component to its last bit. None where more than last bits are missing."""
    try:
        names = [layer[0] for layer in open_jpeg(io.BytesIO(content)).layer]  # type: ignore[attr-defined]
    except Exception:
        return None
    low_bits = np.full((len(names), 64), 99)
    lengths = np.zeros((len(names), 64))
    for scan, end in zip(scans, ends, strict=True):
        for row, name in enumerate(names):
            if name in scan.components:
                low_bits[row, scan.first : scan.last + 1] = scan.low_bit
                lengths[row, scan.first : scan.last + 1] = end - scan.start
    if low_bits.max() > 1:
        return None
    return float(sum(_LAST_BIT * lengths[row][low_bits[row] == 1].max(initial=0) for row in range(len(names))))


def _rows_there(content: bytes) -> float:
    """The share of the picture before what is flat to the bottom: whole rows of blocks, and a part of the last."""
    image = reduced(open_jpeg(io.BytesIO(completed(content))), 8)
    blocks = np.asarray(image).reshape(image.height, image.width, -1).astype(np.int16)
    drawn = np.abs(blocks - _FLAT).max(axis=-1) > 1
    if not drawn.any():
        return 0.0
    height = max((layer[2] for layer in getattr(image, "layer", ())), default=1)  # of a row, in blocks
    row = int(np.flatnonzero(drawn.any(axis=1))[-1]) // height * height
    share = (np.flatnonzero(drawn[row : row + height].any(axis=0))[-1] + 1) / image.width
    return min((row + share * height) / image.height, 1.0)


def _rows_changed(content: bytes, start: int) -> float:
    """The share of the rows that the last scan, whose data begin at `start`, has reached; of a huge picture all."""
    image = open_jpeg(io.BytesIO(content))
    if image.width * image.height > _HUGE:  # it would take seconds more to tell
        return 1.0
    before, after = (_coarse(part) for part in (content[:start] + END, completed(content)))
    changed = np.flatnonzero((before != after).reshape(len(after), -1).any(axis=1))
    return (changed[-1] + 1) / len(after) if len(changed) else 0.0


def _coarse(content: bytes) -> np.ndarray:
    """The pixels, of a large picture at a half or a quarter of its size; an eighth would show no last scan."""
    image = open_jpeg(io.BytesIO(content))
    part = next((part for part in (1, 2) if image.width * image.height <= _COMPARED * part**2), 4)
    return np.asarray(reduced(image, part))
