"""Picture files as pixels for an image tower, with their metadata; RAW files by their embedded preview."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from diptych.errors import ImageError
from diptych.media import memory
from diptych.media.content.metadata import exif_details, picture_details
from diptych.media.formats.opener import Fits
from diptych.media.images import max_decoded_pixels, open_decoded, open_image, to_rgb
from diptych.media.items import Details
from diptych.media.preprocessing import Preprocess, prepare_image, resized_and_cropped
from diptych.media.scanning.suffixes import RAW_SUFFIXES
from diptych.media.undecoded import metadata_of

if TYPE_CHECKING:
    from PIL.Image import Exif

LARGEST_PICTURE = 2**30  # bytes of a file, which is held in memory
_ORIENTATION = 0x112
# LibRaw's `flip` -> EXIF's orientation; `flip` is 0, 3 (180°), 5 (90° counterclockwise) or 6 (90° clockwise)
_FLIPS = {3: 3, 5: 8, 6: 6}


class Photograph(NamedTuple):
    """Pixels (size_px, size_px, 3) uint8 before normalising, the file's metadata, and, if the picture was read in part,
    a description of the missing part."""

    pixels: np.ndarray
    details: Details
    partial: str = ""


class WholePicture(NamedTuple):
    """An upright picture, perhaps at a reduced size, and the displayed size (width, height) of the whole."""

    image: Image.Image
    size: tuple[int, int]


def read_photograph(content: bytes, name: str, spec: Preprocess) -> Photograph:
    """Reads a picture file's bytes; the first frame of an animation. The suffix of `name` marks RAW files; the bytes
    decide everything else. Raises ImageError."""
    if os.path.splitext(name)[1].lower() in RAW_SUFFIXES:
        with contextlib.suppress(_NotRaw):
            return _read_raw(content, name, spec)
    pixels, (width, height), partial = prepare_image(content, spec, decode="fast")
    image = metadata_of(content)
    details = Details() if image is None else picture_details(image)
    return Photograph(pixels, replace(details, width=width, height=height), partial)


def read_whole(content: bytes, name: str, size_px: int) -> WholePicture:
    """A picture file's bytes as one upright picture that fits into a square of `size_px`, never enlarged. `name` is as
    for `read_photograph`. Raises ImageError."""
    if os.path.splitext(name)[1].lower() in RAW_SUFFIXES:
        with contextlib.suppress(_NotRaw):
            source, size, _ = _raw_picture(content, name, size_px // 2)
            return WholePicture(_fitted(open_image(source, decode="fast", size_px=size_px), size_px), size)
    with memory.MemoryReservation() as reservation:
        reduce = partial(_drafted, size_px=size_px)
        image, size, _ = open_decoded(content, reservation, "fast", reduce)
        return WholePicture(_fitted(to_rgb(image), size_px), size)


def _drafted(image: Image.Image, fits: Fits, size_px: int) -> Image.Image:
    """A JPEG set to be decoded at a fraction of its size that is enough for a thumbnail."""
    image.draft(None, (2 * size_px, 2 * size_px))
    return image


def _fitted(image: Image.Image, size_px: int) -> Image.Image:
    image.thumbnail((size_px, size_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image


class _NotRaw(Exception):
    """LibRaw does not support the file."""


class _RawPicture(NamedTuple):
    """A RAW file's preview, or its developed data; the displayed size of the whole, and the preview's EXIF."""

    source: Image.Image | bytes | np.ndarray
    size: tuple[int, int]
    exif: Exif | None


def _read_raw(content: bytes, name: str, spec: Preprocess) -> Photograph:
    source, (width, height), exif = _raw_picture(content, name, spec.size_px)
    pixels = resized_and_cropped(source, spec, decode="fast")
    return Photograph(pixels, replace(_raw_details(content, exif), width=width, height=height))


def _raw_picture(content: bytes, name: str, size_px: int) -> _RawPicture:
    """The picture of a RAW file, with a short side of `size_px` or more if the file has so much."""
    import rawpy

    try:
        with rawpy.imread(io.BytesIO(content)) as raw:
            sizes = raw.sizes
            needed = memory.RAW * sizes.raw_width * sizes.raw_height
            if sizes.width * sizes.height > max_decoded_pixels() or needed > memory.memory_limit():
                raise ImageError("too large", name, memory.refusal((sizes.width, sizes.height), needed))
            preview, exif = _preview(raw, min(size_px, sizes.width, sizes.height))
            if preview is None:
                with memory.MemoryReservation() as reservation:
                    reservation.reserve(needed)
                    preview = _developed(raw)
    except rawpy.LibRawFileUnsupportedError as error:  # another kind of picture with this suffix, or none
        raise _NotRaw from error
    except rawpy.LibRawError as error:
        message = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        reason = "truncated" if isinstance(error, rawpy.LibRawIOError) else "damaged"
        raise ImageError(reason, name, f"LibRaw: {message}.") from error
    is_turned = _FLIPS.get(sizes.flip) in (6, 8)
    return _RawPicture(preview, (sizes.height, sizes.width) if is_turned else (sizes.width, sizes.height), exif)


def _preview(raw: Any, least_px: int) -> tuple[Image.Image | bytes | None, Exif | None]:
    """The largest embedded preview, upright by its own EXIF or rotated already, and that EXIF; None for the preview if
    there is none or its short side is under `least_px`."""
    import rawpy

    try:
        thumb = raw.extract_thumb()
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        return None, None
    image = _opened(thumb.data) if thumb.format == rawpy.ThumbFormat.JPEG else Image.fromarray(thumb.data)
    if image is None:
        return None, None
    exif = image.getexif()
    if min(image.size) < least_px:
        return None, exif
    return (thumb.data if _ORIENTATION in exif else _turned(image, raw)), exif


def _opened(jpeg: bytes) -> Image.Image | None:
    try:
        return Image.open(io.BytesIO(jpeg), formats=["JPEG"])
    except Exception:  # Pillow raises many kinds for damaged files
        return None


def _turned(image: Image.Image, raw: Any) -> Image.Image:
    """Rotates a preview without an orientation tag upright."""
    ways = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    way = ways.get(_FLIPS.get(raw.sizes.flip, 1))
    return image if way is None else image.transpose(way)


def _developed(raw: Any) -> np.ndarray:
    """The sensor data demosaiced, upright, at half size: a quarter of the work, without interpolation."""
    return raw.postprocess(half_size=True, use_camera_wb=True, output_bps=8)


def _raw_details(content: bytes, exif: Exif | None) -> Details:
    """The RAW file's own EXIF if it is TIFF-based, as most are; otherwise the preview's."""
    with contextlib.suppress(Exception):
        order = content[:2]
        if order in (b"II", b"MM"):
            own = Image.Exif()
            own.load((b"II*\0" if order == b"II" else b"MM\0*") + content[4:])
            details = exif_details(own)
            if details.taken_at or details.camera:
                return details
    return Details() if exif is None else exif_details(exif)
