"""TIFF: its main page, read by Pillow if Pillow reads it correctly, else by tifffile."""

from __future__ import annotations

import contextlib
import logging
from typing import IO, Any

import numpy as np
from PIL import Image

from diptych.media.formats.opener import OpenedPicture, Opener
from diptych.media.formats.pillow import open_undecoded
from diptych.media.formats.tiff_tags import (
    BLACK_IS_ZERO,
    CMYK,
    LAB,
    PALETTE,
    RGB,
    SIGNED,
    UNSIGNED,
    WHITE_IS_ZERO,
    Page,
    pages,
)
from diptych.media.pixels.bands import in_bands, to_array
from diptych.media.pixels.depth import Scale, scale_of, scaled, to_uint8
from diptych.media.pixels.orientation import upright
from diptych.media.pixels.transparency import is_blank

_SAMPLES = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, LAB: 3}  # a pixel, without extra ones


class NeedsPackage(Exception):
    """A file that only an optional package reads; the message names the package and the kind of file."""


def open_picture(file: IO[bytes], opener: Opener) -> OpenedPicture:
    """Open a TIFF: its main page or, if it is searched, its first page that is not blank."""
    if not (found := pages(file)):  # no tags can be read, so Pillow may try
        return opener.load_first(open_undecoded(file, ["TIFF"]))
    opened, remaining = [], opener.max_pixels
    for page in found if opener.is_searched else found[:1]:
        pixels = page.size[0] * page.size[1]
        if not opened:
            opener.check(page.size)
        elif pixels > remaining or page.needed_bytes + 4 * pixels > opener.max_bytes:
            break
        remaining -= pixels
        opener.reserve(page.size, page.needed_bytes)
        try:
            opened.append(to_uint8(read_page(file, page, opener.max_bytes)))
        except Exception:
            if opened:  # a damaged second page does not spoil the first
                break
            raise
        if not opener.is_searched or not is_blank(opened[-1]):
            return opener.finish(opened[-1], 1)
        del opened[1:]
    return opener.finish(opened[0], 1)


def read_page(file: IO[bytes], page: Page, max_bytes: int) -> Image.Image:
    """The page, decoded and upright, if its numbers take no more than `max_bytes`. Raises NeedsPackage, and whatever a
    decoder raises."""
    with contextlib.suppress(SyntaxError, KeyError):  # Pillow does not read it
        if page.is_plain:
            return _with_whole_colours(_by_pillow(file, page), page)
        if page.is_grey:
            return _grey_by_pillow(file, page)
    try:
        return upright(_by_tifffile(file, page, max_bytes), page.orientation)
    except NeedsPackage:
        if page.is_planar or page.bits[0] != 16 or set(page.formats) != {UNSIGNED}:
            raise
        with contextlib.suppress(SyntaxError, KeyError):
            return _by_pillow(file, page)
        raise


def _by_pillow(file: IO[bytes], page: Page) -> Image.Image:
    from PIL.TiffImagePlugin import TiffImageFile

    file.seek(0)
    if file.read(4) == b"MM\0+":
        raise SyntaxError("Pillow reads no big-endian BigTIFF")
    file.seek(0)
    image = TiffImageFile(file, "")
    if page.index:
        image.seek(page.index)
    if image.size not in (page.size, page.size[::-1]):
        raise SyntaxError(f"its size is {image.size}; its tags announce {page.size}")
    image.info.pop("xmp", None)  # Pillow would rotate the picture by it
    image.load()
    return image


def _with_whole_colours(image: Image.Image, page: Page) -> Image.Image:
    """The picture with a colour map of 16 bits; some programs write 8 bits, which would look black."""
    if image.mode in ("P", "PA") and _has_short_colours(page):
        image.putpalette(_by_colour(page).tobytes())
    return image


def _by_colour(page: Page) -> np.ndarray:
    """The colour map as (colours, 3) uint8; in the file all reds are first."""
    count = len(page.colours) // 3
    numbers = (np.array(page.colours[: 3 * count], np.int64) & 0xFFFF).reshape(3, count).T
    return np.ascontiguousarray(np.minimum(numbers, 255) if _has_short_colours(page) else numbers >> 8).astype(np.uint8)


def _has_short_colours(page: Page) -> bool:
    """Whether the colour map's numbers have 8 bits; a damaged one in 50 is allowed."""
    used = [number & 0xFFFF for number in page.colours if number]
    return bool(used) and sum(number > 255 for number in used) <= len(used) / 50


def _grey_by_pillow(file: IO[bytes], page: Page) -> Image.Image:
    values = to_array(_by_pillow(file, page))
    if page.bits[0] == 8:
        values = values.view(np.int8)
    elif page.bits[0] == 16 and page.formats[0] == SIGNED:
        values = values.astype(np.int16)  # Pillow makes 32 bits
    elif page.bits[0] == 32 and page.formats[0] == UNSIGNED:
        values = values.view(np.uint32)  # Pillow makes them signed
    return _grey(values, page)


def _grey(values: np.ndarray, page: Page) -> Image.Image:
    grey = scaled(values, full=_full(page))
    return Image.fromarray(255 - grey if page.photometric == WHITE_IS_ZERO else grey)


def _full(page: Page) -> int | None:
    """The value of white, if the number of bits determines it: 16-bit files often hold fewer."""
    bits = page.bits[0]
    return 2**bits - 1 if bits < 16 and page.formats[0] == UNSIGNED else None


def _by_tifffile(file: IO[bytes], page: Page, max_bytes: int) -> Image.Image:
    values = _array(file, page, max_bytes)
    colours = _SAMPLES.get(page.photometric)
    if colours is None:
        raise SyntaxError(f"PhotometricInterpretation {page.photometric} with {page.bits[0]} bits")
    if values.ndim == 2:
        return _palette(values, page) if page.photometric == PALETTE else _grey(values, page)
    if colours == 1:
        colours = 3 if values.shape[2] == 3 and page.photometric == BLACK_IS_ZERO else 1
    colour, extra = values[..., :colours], values[..., colours : colours + 1]
    scale = scale_of(colour, full=_full(page))
    alpha_scale = scale_of(extra, full=_type_max(extra)) if extra.shape[2] and _is_alpha(page) else None

    def draw(top: int, bottom: int) -> Image.Image:
        alpha = alpha_scale.applied(extra[top:bottom]) if alpha_scale else None
        return _picture(colour[top:bottom], alpha, scale, page)

    return in_bands((values.shape[1], values.shape[0]), draw)


def _array(file: IO[bytes], page: Page, max_bytes: int) -> np.ndarray:
    """The page's numbers of any type as (h, w) or (h, w, samples)."""
    try:
        import imagecodecs  # noqa: F401
        import tifffile
    except ImportError:
        layout = f"{page.bits[0]} bits" + (", its colours in separate planes" if page.is_planar else "")
        raise NeedsPackage(
            f"A TIFF of {layout} needs tifffile and imagecodecs: pip install 'diptych[formats]'."
        ) from None
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its log would be printed
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        tiff_page: Any = tiff.pages[page.index]
        if tiff_page.nbytes > max_bytes:  # a volume
            raise MemoryError(f"{tiff_page.nbytes:,} bytes of numbers.")
        values, axes = np.asarray(tiff_page.asarray(maxworkers=1)), tiff_page.axes
    for axis in [name for name in axes if name not in "YXS"]:  # the depth of a volume
        values, axes = values.take(0, axis=axes.index(axis)), axes.replace(axis, "")
    return np.moveaxis(values, axes.index("S"), -1) if "S" in axes else values


def _is_alpha(page: Page) -> bool:
    """Whether the extra sample is alpha, associated or not. Most programs take an unspecified one of RGB for alpha."""
    return page.photometric == RGB if page.extra is None else page.extra[:1] in ((1,), (2,))


def _type_max(values: np.ndarray) -> float:
    return float(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else 1.0


def _palette(values: np.ndarray, page: Page) -> Image.Image:
    colours = _by_colour(page)
    if not len(colours):
        raise SyntaxError("it has no colour map")
    size = (values.shape[1], values.shape[0])
    return in_bands(size, lambda a, b: Image.fromarray(colours[np.minimum(values[a:b], len(colours) - 1)]))


def _picture(colour: np.ndarray, alpha: np.ndarray | None, scale: Scale, page: Page) -> Image.Image:
    if page.photometric == LAB:
        tones = np.concatenate([colour[..., :1].view(np.uint16), colour[..., 1:].view(np.uint16)], -1) >> 8
        return Image.fromarray(tones.astype(np.uint8), "LAB")
    uint8 = scale.applied(colour)
    if page.photometric == CMYK:
        return Image.fromarray(uint8, "CMYK")
    if page.photometric == WHITE_IS_ZERO:
        uint8 = 255 - uint8
    if alpha is None:
        return Image.fromarray(uint8[..., 0] if uint8.shape[2] == 1 else uint8)
    if page.extra and page.extra[0] == 1:  # already multiplied into the colours
        uint8 = np.minimum(uint8.astype(np.uint16) * 255 // np.maximum(alpha, 1), 255).astype(np.uint8)
    return Image.fromarray(np.concatenate([uint8, alpha], -1))
