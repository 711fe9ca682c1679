"""What a picture's colours are to people: palettes resolved, transparency laid on white, the first frame not blank."""

from __future__ import annotations

import contextlib

from PIL import Image

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
    return image.convert({"P": "RGB", "1": "L"}[image.mode]) if image.mode in ("P", "1") else image


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
    extrema = as_seen(image).getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(band[1] - band[0] <= _FLAT for band in bands)  # type: ignore[index]


def _on_white(image: Image.Image) -> Image.Image:
    clear = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:  # of 16 bits, while the pixels have 8
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    is_often_empty = image.format in _EMPTY_ALPHA
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255) or (is_often_empty and alpha.getextrema() == (0, 0)):
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image.convert("RGB"), mask=alpha)
    return white
