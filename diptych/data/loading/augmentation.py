"""Random augmentation of training pairs that keeps captions true."""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from diptych.data.samples import Region
from diptych.errors import ArgumentError


@dataclass(frozen=True)
class Augmentation:
    """The strength of augmentation. Hue is not changed, because captions name colours.

    `crop_scale`: smallest share of the area that a random resized crop keeps (Szegedy et al. 2015, section 6);
    `flip`: chance of a mirror image, with "left" and "right" swapped in the caption; `jitter`: strength of brightness,
    contrast and saturation; `erase`: chance of a grey rectangle (Zhong et al. 2017); `drop_words`: share of a
    caption's words left out.
    """

    crop_scale: float = 0.3
    flip: float = 0.5
    jitter: float = 0.4
    erase: float = 0.4
    drop_words: float = 0.15

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ArgumentError(f"{name} is {value}; wanted a number from 0 to 1.")


NONE = Augmentation(crop_scale=1, flip=0, jitter=0, erase=0, drop_words=0)


class AugmentedPicture(NamedTuple):
    """A (size, size, 3) uint8 crop of a picture, the region that it shows (left, top, right, bottom, as shares of the
    picture), and whether it was mirrored."""

    pixels: np.ndarray
    region: tuple[float, float, float, float]
    is_mirrored: bool


def augment_picture(
    image: Image.Image, size_px: int, augmentation: Augmentation, rng: np.random.Generator
) -> AugmentedPicture:
    """A random crop of `image`, augmented and resized to `size_px`."""
    box, (width, height) = crop_box(image.size, augmentation, rng), image.size
    image = image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box, reducing_gap=2)
    is_mirrored = bool(rng.random() < augmentation.flip)
    if is_mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augmentation.jitter:
        image = _jitter(image, augmentation.jitter, rng)
    pixels = np.asarray(image)
    if rng.random() < augmentation.erase:
        pixels = _erase(pixels, rng)
    return AugmentedPicture(pixels, (box[0] / width, box[1] / height, box[2] / width, box[3] / height), is_mirrored)


def moved_region(
    region: Region, crop: tuple[float, float, float, float], *, is_mirrored: bool = False, least: float = 0.5
) -> Region | None:
    """A region of a picture that was cropped to `crop` and, with `is_mirrored`, mirrored. None if less than the
    share `least` of it remains. A region without a box stays: it may be anywhere."""
    if region.box is None:
        return Region(mirror_caption(region.phrase), None) if is_mirrored else region
    (left, top, right, bottom), (x0, y0, x1, y1) = region.box, crop
    inside = max(left, x0), max(top, y0), min(right, x1), min(bottom, y1)
    seen = max(0.0, inside[2] - inside[0]) * max(0.0, inside[3] - inside[1])
    if seen < max(1e-9, least * (right - left) * (bottom - top)):
        return None
    start, end = ((at - x0) / (x1 - x0) for at in (inside[0], inside[2]))
    high, low = ((at - y0) / (y1 - y0) for at in (inside[1], inside[3]))
    if is_mirrored:
        return Region(mirror_caption(region.phrase), (1 - end, high, 1 - start, low))
    return Region(region.phrase, (start, high, end, low))


def crop_box(
    size: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A box of random area and a nearly square shape inside a picture of `size` (width, height): left, top, right,
    bottom. If the picture is too narrow for that area, the box is smaller, never stretched. With crop_scale 1 it is
    the centre square, as in inference."""
    width, height = size
    limit = math.log(4 / 3) * min(1.0, 1.6 * (1 - augmentation.crop_scale))
    area, ratio = rng.uniform(augmentation.crop_scale, 1) * width * height, math.exp(rng.uniform(-limit, limit))
    w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
    shrink = min(1.0, width / w, height / h)
    w, h = w * shrink, h * shrink
    x, y = (0.5, 0.5) if augmentation.crop_scale == 1 else rng.uniform(size=2)
    left, top = max(0.0, x * (width - w)), max(0.0, y * (height - h))
    return left, top, min(left + w, width), min(top + h, height)


def _jitter(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Saturation moves each pixel towards its grey, contrast towards the picture's mean, and brightness scales all.
    Together they are one linear map of (red, green, blue, 1), which Pillow applies in one pass."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    mean = sum(image.reduce(image.size).getpixel((0, 0))) / 3  # type: ignore[arg-type]
    own = brightness * contrast * saturation
    grey = brightness * contrast * (1 - saturation) / 3
    offset = brightness * (1 - contrast) * mean
    rows = [[grey + own * (row == column) for column in range(3)] + [offset] for row in range(3)]
    return image.convert("RGB", tuple(value for row in rows for value in row))


def _erase(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = pixels.shape[:2]
    area, ratio = rng.uniform(0.04, 0.2), math.exp(rng.uniform(-1, 1))
    h = min(height, max(1, round(height * math.sqrt(area * ratio))))
    w = min(width, max(1, round(width * math.sqrt(area / ratio))))
    top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    pixels = pixels.copy()
    pixels[top : top + h, left : left + w] = rng.integers(0, 256)  # grey: captions name colours
    return pixels


_SIDES = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "LEFT": "RIGHT", "RIGHT": "LEFT"}
_SIDE = re.compile(r"\b(left|right)(?=\b|most\b|hand\b)", re.IGNORECASE)


def mirror_caption(caption: str) -> str:
    """Swaps "left" and "right", for a mirrored picture."""
    return _SIDE.sub(lambda found: _SIDES.get(found[0], found[0]), caption)


def drop_words(caption: str, share: float, rng: np.random.Generator) -> str:
    """Removes each word with probability `share`; at least one stays."""
    words = caption.split()
    if not share or len(words) < 2:
        return caption
    keep = rng.random(len(words)) >= share
    if not keep.any():
        keep[rng.integers(len(words))] = True
    return " ".join(word for word, kept in zip(words, keep, strict=True) if kept)
