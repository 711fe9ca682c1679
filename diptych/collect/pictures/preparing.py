"""A picture's bytes, as they came, made ready for a shard: upright, 8 bits a channel, without transparency."""

from __future__ import annotations

import hashlib
import io
from functools import partial
from typing import NamedTuple

from PIL import Image

from diptych.collect.pairs import Picture
from diptych.collect.pictures.colours import is_srgb, to_srgb
from diptych.collect.pictures.hashing import GREY_PX, perceptual_hash
from diptych.collect.pictures.lossless import without_metadata
from diptych.collect.pictures.rules import PictureRules
from diptych.errors import ArgumentError, ImageError
from diptych.media import memory
from diptych.media.formats.opener import MAX_PIXELS, Fits
from diptych.media.images import open_decoded
from diptych.media.pixels.orientation import is_on_its_side, orientation
from diptych.media.undecoded import metadata_of

QUALITY = 95
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}  # formats that may stay as they are
_LOOK_PX = 2 * GREY_PX  # a picture that stays as it is is decoded at this size at least
# As near to Lanczos as OpenCV's area averaging is, in the same time: over 20 photographs made 1.65 to 3 times smaller,
# PSNR 38.3 to 38.8 dB (area averaging 37.9 to 39.2); bicubic (44.5) takes 1.3 times as long.
_RESAMPLING = Image.Resampling.HAMMING
# Pictures that become smaller by more: whole pixels are averaged first, down to 1.5 times the size at least, and a JPEG
# is decoded at a fraction of its size, at least twice the target's. Bicubic then costs less than Hamming at once, and
# is nearer to Lanczos: 3 times smaller 39.6 dB (area averaging 38.4), 4 times 39.4 (37.7), 6 times 40.7 (37.3).
_MANY_TIMES, _GAP_OF_MANY, _DRAFT_MARGIN = 3.0, 1.5, 2
_MAX_JPEG_PX = 65_500  # of libjpeg
_EXIF_IN_PNG = (b"eXIf", b"Raw profile type exif")  # may follow the pixels


class PictureRefused(Exception):
    """A picture that is left out: a short countable `reason`, a rule's name or what its file suffers from, and a
    `message` that says what came and what was wanted."""

    def __init__(self, reason: str, message: str):
        super().__init__(reason, message)
        self.reason, self.message = reason, message

    def __str__(self) -> str:
        return self.message


def prepare(content: bytes, *, size: int | None = None, rules: PictureRules | None = None) -> Picture:
    """A picture ready for a shard, from the bytes of a file in any format that is read here.

    With `size`, in px, a picture whose shorter side is longer is made so small that its shorter side has `size`; none
    is ever enlarged. A JPEG, PNG or WebP whose pixels need no change keeps its own bytes, without its metadata: EXIF
    with its positions, comments, previews. Every other one becomes a JPEG, with the colours of its profile in sRGB, on
    white where it is transparent, with the first frame of an animation that is not blank. Raises PictureRefused by
    `rules` (by default PictureRules()) and for files that are damaged, cut or too large.
    """
    if size is not None and size < 1:
        raise ArgumentError(f"size={size}; wanted a number of pixels, 1 or more.", argument="size")
    rules = PictureRules() if rules is None else rules
    header = _Header.of(content, size)
    if header.size:
        _refuse(rules.refusal_by_header(header.size, is_animated=header.is_animated))
        _refuse(_refusal_by_area(header.size, size))
    try:
        with memory.MemoryReservation() as reservation:
            return _prepared(content, header, size, rules, reservation)
    except ImageError as error:
        raise PictureRefused(error.reason, error.detail) from error
    except (OSError, ValueError) as error:  # of encoders and conversions
        raise PictureRefused("damaged", f"It could not be converted ({error}); wanted a picture.") from error


class _Header(NamedTuple):
    """What a file says of its picture before it is decoded: its size as shown (None if unknown), and the bytes that
    may be kept instead of encoding it again, if its pixels need no change but a smaller size."""

    size: tuple[int, int] | None
    is_animated: bool
    profile: bytes | None
    kept: bytes | None
    suffix: str

    @classmethod
    def of(cls, content: bytes, size_px: int | None) -> _Header:
        """`size_px` as in `prepare`: what becomes smaller is not kept."""
        image = metadata_of(content)
        if image is None or image.format is None:
            return cls(None, False, None, None, "")
        turn, profile = orientation(image), image.info.get("icc_profile") or None
        size = (image.height, image.width) if is_on_its_side(turn) else image.size
        is_animated = image.format != "MPO" and bool(getattr(image, "is_animated", False))
        kept = None
        may_stay = turn == 1 and not is_animated and not _is_larger(size, size_px)
        if may_stay and _stays(image, content) and is_srgb(profile, image.mode):
            kept = without_metadata(content)
        return cls(size, is_animated, profile, kept, _SUFFIXES.get(image.format, ""))


def _stays(image: Image.Image, content: bytes) -> bool:
    """Whether readers see the pixels of an upright picture as they are."""
    if image.format not in _SUFFIXES or image.mode not in ("RGB", "L") or "transparency" in image.info:
        return False
    if image.format != "PNG":
        return True
    head = content[: content.find(b"IDAT")]
    return content[24] <= 8 and b"cICP" not in head and not any(mark in content for mark in _EXIF_IN_PNG)


def _prepared(
    content: bytes, header: _Header, size: int | None, rules: PictureRules, reservation: memory.MemoryReservation
) -> Picture:
    stays = header.kept is not None and header.size is not None and not _is_larger(header.size, size)
    reduce = partial(_decoded_small, size_px=_LOOK_PX) if stays else partial(_decoded_near, size_px=size)
    image, original, partial_ = open_decoded(content, reservation, "fast", reduce)
    if partial_:
        raise PictureRefused("truncated", f"{partial_} Wanted the whole file.")
    if header.size is None:
        _refuse(rules.refusal_by_header(original))
    width, height = original
    if not stays:
        image = to_srgb(_resized(image, original, size), header.profile)
        width, height = image.size
    _refuse(rules.refusal_by_pixels(image))
    found = (header.kept, header.suffix) if stays and header.kept is not None else _encoded(image)
    return Picture(*found, width, height, *original, hashlib.sha256(content).hexdigest(), perceptual_hash(image))


def _refusal_by_area(original: tuple[int, int], size: int | None) -> tuple[str, str] | None:
    """A huge JPEG can be decoded at a fraction of its size, but not written whole for others to read."""
    if original[0] * original[1] <= MAX_PIXELS or _is_larger(original, size):
        return None
    return "too large", f"{original[0]} x {original[1]} pixels; wanted {MAX_PIXELS:,} or fewer, or a size to make it."


def _is_larger(original: tuple[int, int], size: int | None) -> bool:
    return size is not None and min(original) > size


def _decoded_small(image: Image.Image, fits: Fits, size_px: int) -> Image.Image:
    """A JPEG of which no pixel is written: a fraction shows whether it is whole, and what it looks like."""
    image.draft(None, (size_px, size_px))
    return image


def _decoded_near(image: Image.Image, fits: Fits, size_px: int | None) -> Image.Image:
    if size_px is not None:
        image.draft(None, (_DRAFT_MARGIN * size_px, _DRAFT_MARGIN * size_px))
    return image


def _resized(image: Image.Image, original: tuple[int, int], size: int | None) -> Image.Image:
    """A decoded picture in its final size; a JPEG may have been decoded smaller than it is."""
    if size is None or not _is_larger(original, size):
        return image
    short = min(original)
    target = max(1, round(original[0] * size / short)), max(1, round(original[1] * size / short))
    (across, rest), (down, left) = divmod(image.width, target[0]), divmod(image.height, target[1])
    if not rest and not left:  # a mean of whole pixels, as area averaging is
        return image.reduce((across, down))
    if min(original) < _MANY_TIMES * size:
        return image.resize(target, _RESAMPLING)
    return image.resize(target, Image.Resampling.BICUBIC, reducing_gap=_GAP_OF_MANY)


def _encoded(image: Image.Image) -> tuple[bytes, str]:
    """The bytes of an RGB or grey picture, and their suffix."""
    file, is_long = io.BytesIO(), max(image.size) > _MAX_JPEG_PX
    image.info = {}  # savers would write what they find there
    if is_long:
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue(), ".png" if is_long else ".jpg"


def _refuse(refusal: tuple[str, str] | None) -> None:
    if refusal:
        raise PictureRefused(*refusal)
