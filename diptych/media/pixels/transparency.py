"""A picture as people see it: palettes resolved, transparency on white, the first frame that is not blank."""

from __future__ import annotations

import contextlib
from typing import Any

from PIL import Image

from diptych.media.pixels.bands import bands, map_bands, rows_of

MAX_FRAMES = 64
_BLANK_LEVELS = 8  # at most, between the darkest and the brightest pixel of a blank frame
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_UNUSED_ALPHA = ("BMP", "ICO")  # programs often leave an unused alpha at 0; browsers show such pictures, too
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")


def on_white(image: Image.Image) -> Image.Image:
    """The picture in a mode that can be resized, on white where it is transparent. Palettes become RGB, and
    black-and-white becomes grey, because their numbers cannot be averaged."""
    if image.mode in _ALPHA or "transparency" in image.info:
        return _without_alpha(image)
    if image.mode not in ("P", "1"):
        return image
    mode = {"P": "RGB", "1": "L"}[image.mode]
    return map_bands(image, lambda band: band.convert(mode))


def first_not_blank(image: Image.Image, max_pixels: int) -> Image.Image:
    """The first frame of an animation that is not blank, decoded; the very first if all of the first MAX_FRAMES are
    blank, or those within `max_pixels` in total."""
    image.load()
    if image.format not in _ANIMATED or not getattr(image, "is_animated", False) or not is_blank(image):
        return image
    first, limit = image.copy(), min(MAX_FRAMES, max_pixels // max(image.width * image.height, 1))
    with contextlib.suppress(Exception):  # a damaged second frame does not spoil the first
        for number in range(1, limit):
            image.seek(number)  # EOFError after the last
            image.load()
            if not is_blank(image):
                return image
    return first


def is_blank(image: Image.Image) -> bool:
    """Whether it has one colour, apart from noise, on white."""
    least, most = [float("inf")] * 4, [float("-inf")] * 4
    for top, bottom in bands(*image.size):
        extrema: Any = on_white(rows_of(image, top, bottom)).getextrema()
        for channel, (low, high) in enumerate(extrema if isinstance(extrema[0], tuple) else (extrema,)):
            least[channel], most[channel] = min(least[channel], low), max(most[channel], high)
            if most[channel] - least[channel] > _BLANK_LEVELS:
                return False
    return True


def _without_alpha(image: Image.Image) -> Image.Image:
    if image.format in _UNUSED_ALPHA and _is_invisible(image):
        return map_bands(image, lambda band: band.convert("RGBA").convert("RGB"))
    return map_bands(image, _composited_on_white)


def _is_invisible(image: Image.Image) -> bool:
    """Whether all of it is fully transparent."""
    converted = (rows_of(image, top, bottom).convert("RGBA") for top, bottom in bands(*image.size))
    return all(band.getchannel("A").getextrema() == (0, 0) for band in converted)


def _composited_on_white(image: Image.Image) -> Image.Image:
    transparent = image.info.get("transparency")
    # The colour may have 16 bits, and the pixels 8.
    if image.mode == "RGB" and isinstance(transparent, tuple) and max(transparent) > 255:
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image.convert("RGB"), mask=alpha)
    return white
