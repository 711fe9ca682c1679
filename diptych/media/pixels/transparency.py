"""What a picture's colours are to people: palettes resolved, transparency laid on white, the first frame not blank."""

from __future__ import annotations

import contextlib
from typing import Any

from PIL import Image

from diptych.media.pixels.bands import bands, changed, rows_of

MOST_FRAMES = 64
_FLAT = 8  # levels between the darkest and the brightest of a frame that shows nothing
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_EMPTY_ALPHA = ("BMP", "ICO")  # whose programs often leave at 0 what means nothing to them: browsers, too, show these
_IN_FRAMES = ("GIF", "PNG", "WEBP", "AVIF")


def as_seen(image: Image.Image) -> Image.Image:
    """The picture in a mode that can be resized: palettes and black-and-white become RGB and grey before, for between
    two of their numbers lies another colour; what is transparent shows white, whatever colour hides in it."""
    if image.mode in _ALPHA or "transparency" in image.info:
        return _on_white(image)
    if image.mode not in ("P", "1"):
        return image
    mode = {"P": "RGB", "1": "L"}[image.mode]
    return changed(image, lambda part: part.convert(mode))


def first_not_blank(image: Image.Image, most_pixels: int) -> Image.Image:
    """The first frame of an animation that shows anything, decoded; the first of all where none of the first
    MOST_FRAMES does, or none within `most_pixels` of them together."""
    image.load()
    if image.format not in _IN_FRAMES or not getattr(image, "is_animated", False) or not is_blank(image):
        return image
    first, left = image.copy(), min(MOST_FRAMES, most_pixels // max(image.width * image.height, 1))
    with contextlib.suppress(Exception):  # a damaged second frame costs no picture
        for number in range(1, left):
            image.seek(number)  # EOFError behind the last
            image.load()
            if not is_blank(image):
                return image
    return first


def is_blank(image: Image.Image) -> bool:
    """Whether all of it is of one colour, but for noise, on white."""
    least, most = [float("inf")] * 4, [float("-inf")] * 4
    for top, bottom in bands(*image.size):
        extrema: Any = as_seen(rows_of(image, top, bottom)).getextrema()
        for at, (low, high) in enumerate(extrema if isinstance(extrema[0], tuple) else (extrema,)):
            least[at], most[at] = min(least[at], low), max(most[at], high)
            if most[at] - least[at] > _FLAT:
                return False
    return True


def _on_white(image: Image.Image) -> Image.Image:
    if image.format in _EMPTY_ALPHA and _is_clear(image):
        return changed(image, lambda part: part.convert("RGBA").convert("RGB"))
    return changed(image, _laid_on_white)


def _is_clear(image: Image.Image) -> bool:
    """Whether nothing of it can be seen."""
    parts = (rows_of(image, top, bottom).convert("RGBA") for top, bottom in bands(*image.size))
    return all(part.getchannel("A").getextrema() == (0, 0) for part in parts)


def _laid_on_white(image: Image.Image) -> Image.Image:
    clear = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:  # of 16 bits, while the pixels have 8
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image.convert("RGB"), mask=alpha)
    return white
