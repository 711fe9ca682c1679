"""Any picture as an upright 8-bit RGB image.

Decoded "exact", it equals the reference (Pillow's decoding) to the last bit, except that it is upright, that deep
pictures are scaled to 8 bits rather than clipped, and that pictures which Pillow reads wrongly are read rightly.
Decoded "fast", it is the picture that people see, and that is searched, sorted and compared: palettes and
black-and-white become RGB before resizing, transparency is on white, and the first frame of an animation that is not
blank counts.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

from PIL import Image

from diptych.errors import ArgumentError
from diptych.media import memory
from diptych.media.formats.opener import MAX_PIXELS, Fits, OpenedPicture, Reduce
from diptych.media.opening import Source, open_picture

Decode = Literal["exact", "fast"]

# A JPEG decoded at 1/2, 1/4 or 1/8 keeps at least so many times the target size, because the decoder's resampling is
# crude: with a margin of two, the worst of 39 photographs fell to a cosine of 0.995.
_DRAFT_MARGIN = 3


def open_image(
    source: Source, *, decode: Decode = "exact", size_px: int | None = None, max_pixels: int | None = None
) -> Image.Image:
    """Open a picture as upright 8-bit RGB, the first frame of an animation. Raises ImageError.

    `source` is a path, a file:// address, the bytes of a file, a binary file object, a PIL image, an array or a tensor
    (`pixels.arrays.picture_of`: uint8 or floats from 0 to 1), or a string that starts with http:// or https://, which
    is downloaded: pass on no such string from a stranger. Alpha is dropped, as the reference does, or composited on
    white with `decode="fast"`. With "fast" and `size_px`, a JPEG may be returned at 1/2, 1/4 or 1/8 of its size, at
    least three times `size_px` on its short side. Pictures of more than `max_pixels` (MAX_PIXELS by default), or that
    take more memory than `media.memory` allows, are refused before decoding, unless they are JPEGs that fit at a
    fraction of their size.
    """
    reduce = partial(_draft, size_px=size_px) if size_px is not None else None
    with memory.MemoryReservation() as reservation:
        return to_rgb(open_decoded(source, reservation, decode, reduce, max_pixels).image)


def open_decoded(
    source: Source,
    reservation: memory.MemoryReservation,
    decode: Decode,
    reduce: Reduce | None = None,
    max_pixels: int | None = None,
) -> OpenedPicture:
    """The picture in its own mode, decoded as `decode` says. `reduce` is for "fast" alone."""
    check_choice("decode", decode, Decode)
    is_fast, limit = decode == "fast", max_decoded_pixels() if max_pixels is None else max_pixels
    reduce = reduce if is_fast else None
    return open_picture(source, reservation, reduce=reduce, is_searched=is_fast, max_pixels=limit)


def max_decoded_pixels() -> int:
    """The most pixels of a decoded picture: MAX_PIXELS, or more if more memory is allowed."""
    return MAX_PIXELS * max(memory.memory_limit(), memory.USUAL) // memory.USUAL


def draft_to(image: Image.Image, size_px: int) -> tuple[float, float, float, float] | None:
    """Set a JPEG to be decoded at a fraction of its size, for `size_px` on its short side. Returns the box of the whole
    picture in the smaller one, in fractions of a pixel, because its sides are rounded up; None if it stays as it
    was."""
    draft = image.draft(None, (_DRAFT_MARGIN * size_px, _DRAFT_MARGIN * size_px))
    return draft and draft[1]


def _draft(image: Image.Image, fits: Fits, size_px: int) -> Image.Image:
    draft_to(image, size_px)
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture as RGB; alpha and a transparent colour are dropped, without Pillow's warning."""
    if image.mode == "RGB":
        return image
    if "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raise ArgumentError unless `value` is one of a Literal's `choices`."""
    if value not in get_args(choices):
        raise ArgumentError(f"{name}={value!r}; wanted one of {', '.join(get_args(choices))}.")
