"""Large pictures a band of rows at a time, so that what is between two steps takes the memory of a band."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

BAND_PIXELS = 2**20  # of what is done at once: a picture of fewer is one band


def bands(width: int, height: int) -> Iterator[tuple[int, int]]:
    """The first row of each band, and the row behind its last."""
    rows = max(1, BAND_PIXELS // max(width, 1))
    return ((top, min(top + rows, height)) for top in range(0, height, rows))


def in_bands(size: tuple[int, int], draw: Callable[[int, int], Image.Image]) -> Image.Image:
    """The picture of `size` (width, height) that `draw(top, bottom)` makes of its rows, all in one mode."""
    width, height = size
    if width * height <= BAND_PIXELS:
        return draw(0, height)
    whole: Image.Image | None = None
    for top, bottom in bands(width, height):
        part = draw(top, bottom)
        whole = whole or Image.new(part.mode, size)
        whole.paste(part, (0, top))
    assert whole is not None
    return whole


def rows_of(image: Image.Image, top: int, bottom: int) -> Image.Image:
    """These rows as a picture with the whole one's palette and info; the picture itself where they are all of it."""
    return image if (top, bottom) == (0, image.height) else image.crop((0, top, image.width, bottom))


def changed(image: Image.Image, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """`change` done to a picture whose pixels it changes each by itself; the size stays."""
    return in_bands(image.size, lambda top, bottom: change(rows_of(image, top, bottom)))


def numbers(image: Image.Image) -> np.ndarray:
    """np.asarray of a picture, without the copies that Pillow makes of all its bytes on the way."""
    if image.width * image.height <= BAND_PIXELS:
        return np.asarray(image)
    first = np.asarray(rows_of(image, 0, 1))
    values = np.empty((image.height, *first.shape[1:]), first.dtype)
    for top, bottom in bands(*image.size):
        values[top:bottom] = np.asarray(rows_of(image, top, bottom))
    return values
