"""Colours by a picture's own profile, as sRGB, which is what every reader of a shard takes them for."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from diptych.media.images import to_rgb

_MAX_PROFILE = 2**22  # bytes; those of printers have some 600,000
_SAME = 4  # levels of 255: profiles of sRGB by different makers differ by less


def is_srgb(profile: bytes | None, mode: str) -> bool:
    """Whether pixels of this mode look the same without the profile."""
    return _transform(profile, mode) is None if profile and mode in ("RGB", "L") else True


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A picture in RGB, or in grey if it has no other profile; a profile that cannot be used is ignored."""
    transform = _transform(profile, image.mode) if profile and image.mode in ("RGB", "L", "CMYK") else None
    if transform is None:
        return image if image.mode == "L" else to_rgb(image)
    found = transform.apply(image)
    found.info.pop("icc_profile", None)
    return found


@lru_cache(64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None if it is invalid, of another mode, or changes nothing that can be seen."""
    if len(profile) > _MAX_PROFILE:
        return None
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    if mode == "CMYK":
        return transform
    levels = np.linspace(0, 255, 6 if mode == "RGB" else 256).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(*[levels] * 3), -1).reshape(1, -1, 3) if mode == "RGB" else levels[None]
    image = Image.fromarray(grid)
    changed = np.abs(np.asarray(transform.apply(image), np.int16) - np.asarray(image.convert("RGB"), np.int16))
    return transform if changed.max() > _SAME else None
