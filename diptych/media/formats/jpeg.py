"""JPEG: decoded at a fraction of its size if the whole is too large, and completed if its end is missing."""

from __future__ import annotations

import io
from typing import IO

from PIL import Image, UnidentifiedImageError

from diptych.errors import ImageError
from diptych.media.formats.jpeg_structure import (
    MAX_MISSING,
    MAX_SCANS,
    buffered_samples,
    count_samples,
    count_scans,
    is_one_scan,
    missing_fraction,
    open_jpeg,
    reduced,
    with_end_marker,
    without_metadata,
)
from diptych.media.formats.opener import OpenedPicture, Opener
from diptych.media.pixels.orientation import is_on_its_side, orientation

_MAX_COMPONENTS = 4
_COEFFICIENT_BYTES = 2  # for each sample of a JPEG that a decoder must hold whole, whatever the fraction that it makes
_HEAD_BYTES = 2**26  # the first scan begins within them
_MAX_PIXELS_A_BYTE = 512  # a block of 64 takes a bit at least, so a header that claims more is false


def open_picture(file: IO[bytes], opener: Opener) -> OpenedPicture:
    """Open a JPEG. Raises ImageError, and whatever Pillow raises."""
    try:
        image, partial = open_jpeg(file), ""
    except UnidentifiedImageError:  # its metadata may be damaged
        file = io.BytesIO(without_metadata(opener.read_whole(file)))
        image, partial = open_jpeg(file), ""
    (width, height), turn = image.size, orientation(image)
    try:
        small = _decoded(image, file, turn, opener)
    except OSError as error:
        if "truncated" not in str(error).lower():
            raise
        content = opener.read_whole(file)
        missing = missing_fraction(content)
        if missing > MAX_MISSING:
            raise
        partial = f"{f'About {missing:.0%} of its' if missing > 0.005 else 'Its last'} bytes are missing."
        completed = io.BytesIO(with_end_marker(content))
        small = _decoded(open_jpeg(completed), completed, turn, opener)
    return opener.finish(small, turn, (height, width) if is_on_its_side(turn) else (width, height), partial)


def _decoded(image: Image.Image, file: IO[bytes], turn: int, opener: Opener) -> Image.Image:
    """A JPEG's pixels, at a fraction of its size if the whole does not fit."""
    buffered = _buffered_bytes(image, file, opener)

    def fits(image: Image.Image) -> bool:
        needed = buffered + opener.needed(image, turn)
        if image.width * image.height > opener.max_pixels or needed > opener.max_bytes:
            return False
        opener.reservation.reserve(needed)
        return True

    small = opener.reduce(image, fits) if opener.reduce else image
    for divisor in (2, 4, 8):
        needed = buffered + opener.needed(small, turn)
        if small.width * small.height <= opener.max_pixels and needed <= opener.max_bytes:
            break
        small = reduced(open_jpeg(file), divisor)
    opener.check(small.size)
    opener.reserve(small.size, buffered + opener.needed(small, turn))
    small.load()
    return small


def _buffered_bytes(image: Image.Image, file: IO[bytes], opener: Opener) -> int:
    """Bytes that the decoder holds whatever the fraction that it decodes. Raises ImageError if there are too many, or
    if the file is too short for the size that it claims."""
    pixels = image.width * image.height
    if not pixels:
        opener.check(image.size)
    if pixels <= opener.max_pixels and pixels * _MAX_COMPONENTS * _COEFFICIENT_BYTES <= opener.max_bytes:
        if is_one_scan(image, file):
            return 0
        _check_scans(file, opener)
        return count_samples(image) * _COEFFICIENT_BYTES
    _check_scans(file, opener)
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    samples = buffered_samples(image, head)
    if samples > _MAX_COMPONENTS * opener.max_pixels or pixels > _MAX_PIXELS_A_BYTE * len(head):
        opener.check(image.size)
    if samples * _COEFFICIENT_BYTES > opener.max_bytes:
        opener.reserve(image.size, samples * _COEFFICIENT_BYTES)
    return samples * _COEFFICIENT_BYTES


def _check_scans(file: IO[bytes], opener: Opener) -> None:
    """Raise ImageError if there are too many scans: each takes a pass over the whole picture, however short it is."""
    file.seek(0)
    if (count := count_scans(file.read(_HEAD_BYTES))) > MAX_SCANS:
        detail = f"It has {count:,} scans; pictures have about ten. Save it again or leave it out."
        raise ImageError("damaged", opener.name, detail)
