"""Large pictures, a band of rows at a time, so that intermediate results take the memory of one band."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

BAND_PIXELS = 2**20  # a smaller picture is one band


def bands(width: int, height: int) -> Iterator[tuple[int, int]]:
    """The first row of each band, and the row after its last."""
    rows = max(1, BAND_PIXELS // max(width, 1))
    return ((top, min(top + rows, height)) for top in range(0, height, rows))


def in_bands(size: tuple[int, int], draw: Callable[[int, int], Image.Image]) -> Image.Image:
    """The picture of `size` (width, height) whose rows `draw(top, bottom)` makes, all in one mode."""
    width, height = size
    if width * height <= BAND_PIXELS:
        return draw(0, height)
    picture: Image.Image | None = None
    for top, bottom in bands(width, height):
        band = draw(top, bottom)
        picture = picture or Image.new(band.mode, size)
        picture.paste(band, (0, top))
    assert picture is not None
    return picture


def rows_of(image: Image.Image, top: int, bottom: int) -> Image.Image:
    """These rows as a picture with the palette and info of the whole, which is returned itself if they are all its
    rows."""
    return image if (top, bottom) == (0, image.height) else image.crop((0, top, image.width, bottom))


def map_bands(image: Image.Image, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The picture after `change`, which must change each pixel by itself and keep the size."""
    return in_bands(image.size, lambda top, bottom: change(rows_of(image, top, bottom)))


def to_array(image: Image.Image) -> np.ndarray:
    """np.asarray of a picture, without Pillow's copies of all its bytes on the way."""
    if image.width * image.height <= BAND_PIXELS:
        return np.asarray(image)
    first = np.asarray(rows_of(image, 0, 1))
    values = np.empty((image.height, *first.shape[1:]), first.dtype)
    for top, bottom in bands(*image.size):
        values[top:bottom] = np.asarray(rows_of(image, top, bottom))
    return values
