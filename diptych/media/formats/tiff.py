"""TIFF: the page that is the picture, read by Pillow where Pillow reads it rightly, else by tifffile."""

from __future__ import annotations

import contextlib
import logging
from typing import IO, Any

import numpy as np
from PIL import Image

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
)
from diptych.media.pixels.bands import in_bands, numbers
from diptych.media.pixels.depth import Scale, scale_of, scaled
from diptych.media.pixels.orientation import turned

_SAMPLES = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, LAB: 3}  # of a pixel, extra ones aside


class NeedsPackage(Exception):
    """A file of a kind that only an optional package reads; the message says which and for what."""


def read_page(file: IO[bytes], page: Page, most_bytes: int) -> Image.Image:
    """The page, decoded and upright, of no more than `most_bytes` of numbers. Raises NeedsPackage, and whatever a
    decoder raises."""
    with contextlib.suppress(SyntaxError, KeyError):  # a kind that Pillow does not know
        if page.is_plain:
            return _with_whole_colours(_by_pillow(file, page), page)
        if page.is_grey:
            return _grey_by_pillow(file, page)
    try:
        return turned(_by_tifffile(file, page, most_bytes), page.orientation)
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
        raise SyntaxError(f"{image.size} came, {page.size} were announced")
    image.info.pop("xmp", None)  # or Pillow would turn the picture by what it says
    image.load()
    return image


def _with_whole_colours(image: Image.Image, page: Page) -> Image.Image:
    """A colour map has 16 bits a number; some programs write 8, which would all be black."""
    if image.mode in ("P", "PA") and _has_short_colours(page):
        image.putpalette(_by_colour(page).tobytes())
    return image


def _by_colour(page: Page) -> np.ndarray:
    """The colour map as (colours, 3) uint8; in the file all reds come first."""
    count = len(page.colours) // 3
    numbers = (np.array(page.colours[: 3 * count], np.int64) & 0xFFFF).reshape(3, count).T
    return np.ascontiguousarray(np.minimum(numbers, 255) if _has_short_colours(page) else numbers >> 8).astype(np.uint8)


def _has_short_colours(page: Page) -> bool:
    """Whether the colour map's numbers have 8 bits, but for one that is damaged."""
    shown = [number & 0xFFFF for number in page.colours if number]
    return bool(shown) and sum(number > 255 for number in shown) <= len(shown) / 50


def _grey_by_pillow(file: IO[bytes], page: Page) -> Image.Image:
    values = numbers(_by_pillow(file, page))
    if page.bits[0] == 8:
        values = values.view(np.int8)
    elif page.bits[0] == 16 and page.formats[0] == SIGNED:
        values = values.astype(np.int16)  # Pillow's are of 32 bits
    elif page.bits[0] == 32 and page.formats[0] == UNSIGNED:
        values = values.view(np.uint32)  # Pillow's are signed
    return _grey(values, page)


def _grey(values: np.ndarray, page: Page) -> Image.Image:
    grey = scaled(values, full=_full(page))
    return Image.fromarray(255 - grey if page.photometric == WHITE_IS_ZERO else grey)


def _full(page: Page) -> int | None:
    """White, where the number of bits says it: sixteen often hold fewer."""
    bits = page.bits[0]
    return 2**bits - 1 if bits < 16 and page.formats[0] == UNSIGNED else None


def _by_tifffile(file: IO[bytes], page: Page, most_bytes: int) -> Image.Image:
    values = _array(file, page, most_bytes)
    colours = _SAMPLES.get(page.photometric)
    if colours is None:
        raise SyntaxError(f"PhotometricInterpretation {page.photometric} with {page.bits[0]} bits")
    if values.ndim == 2:
        return _palette(values, page) if page.photometric == PALETTE else _grey(values, page)
    if colours == 1:
        colours = 3 if values.shape[2] == 3 and page.photometric == BLACK_IS_ZERO else 1
    shown, extra = values[..., :colours], values[..., colours : colours + 1]
    scale = scale_of(shown, full=_full(page))
    whole = scale_of(extra, full=_whole(extra)) if extra.shape[2] and _is_alpha(page) else None

    def draw(top: int, bottom: int) -> Image.Image:
        alpha = whole.applied(extra[top:bottom]) if whole else None
        return _picture(shown[top:bottom], alpha, scale, page)

    return in_bands((values.shape[1], values.shape[0]), draw)


def _array(file: IO[bytes], page: Page, most_bytes: int) -> np.ndarray:
    """(h, w) or (h, w, samples) of whatever numbers the page holds."""
    try:
        import imagecodecs  # noqa: F401
        import tifffile
    except ImportError:
        what = f"{page.bits[0]} bits" + (", its colours apart" if page.is_planar else "")
        raise NeedsPackage(
            f"A TIFF of {what} needs tifffile and imagecodecs: pip install 'diptych[formats]'."
        ) from None
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it logs would be printed
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        found: Any = tiff.pages[page.index]
        if found.nbytes > most_bytes:  # a volume
            raise MemoryError(f"{found.nbytes:,} bytes of numbers.")
        values, axes = np.asarray(found.asarray(maxworkers=1)), found.axes
    for axis in [name for name in axes if name not in "YXS"]:  # the depth of a volume
        values, axes = values.take(0, axis=axes.index(axis)), axes.replace(axis, "")
    return np.moveaxis(values, axes.index("S"), -1) if "S" in axes else values


def _is_alpha(page: Page) -> bool:
    """Associated or not; or nothing said, which in RGB means alpha to most programs."""
    return page.photometric == RGB if page.extra is None else page.extra[:1] in ((1,), (2,))


def _whole(values: np.ndarray) -> float:
    return float(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else 1.0


def _palette(values: np.ndarray, page: Page) -> Image.Image:
    colours = _by_colour(page)
    if not len(colours):
        raise SyntaxError("it has no colour map")
    size = (values.shape[1], values.shape[0])
    return in_bands(size, lambda a, b: Image.fromarray(colours[np.minimum(values[a:b], len(colours) - 1)]))


def _picture(shown: np.ndarray, alpha: np.ndarray | None, scale: Scale, page: Page) -> Image.Image:
    if page.photometric == LAB:
        tones = np.concatenate([shown[..., :1].view(np.uint16), shown[..., 1:].view(np.uint16)], -1) >> 8
        return Image.fromarray(tones.astype(np.uint8), "LAB")
    eight = scale.applied(shown)
    if page.photometric == CMYK:
        return Image.fromarray(eight, "CMYK")
    if page.photometric == WHITE_IS_ZERO:
        eight = 255 - eight
    if alpha is None:
        return Image.fromarray(eight[..., 0] if eight.shape[2] == 1 else eight)
    if page.extra and page.extra[0] == 1:  # multiplied into the colours already
        eight = np.minimum(eight.astype(np.uint16) * 255 // np.maximum(alpha, 1), 255).astype(np.uint8)
    return Image.fromarray(np.concatenate([eight, alpha], -1))
