"""Estimates the memory for decoding a picture from its header, and limits it.

Each decoder's peak was measured, the decoded picture included: libavif and libheif hold the planes, libwebp and
OpenJPEG several copies, libjxl floats.
"""

from __future__ import annotations

import math
import os
import threading
from typing import TYPE_CHECKING

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from PIL import Image

USUAL = 2**30  # bytes that decoding one picture may take
SWITCH = "DIPTYCH_PICTURE_GB"
ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
VIDEO = 32  # bytes a pixel of a video: up to 16 reference frames, and the displayed one
RAW = 8  # bytes a pixel of a sensor: its numbers, and the picture at half the size
_MAX_ADVISED = 64  # gigabytes; a picture that takes more is a bomb or beyond most machines
_FREE = USUAL // 32  # smaller pictures need no reservation

# Bytes a pixel at the peak, without and with an alpha channel; other decoders hold the picture alone
_STILL = {"WEBP": (20, 20), "AVIF": (14, 16), "HEIF": (8, 11), "GIF": (5, 5)}
_MOVING = {"WEBP": (28, 28), "AVIF": (31, 31), "PNG": (22, 22), "GIF": (16, 16)}
_MODES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # Pillow has 4 for all others


def memory_limit() -> int:
    """Bytes that decoding one picture may take: a gigabyte, or DIPTYCH_PICTURE_GB of the environment, for huge scans.
    Raises ArgumentError if that is no number above 0."""
    value = os.environ.get(SWITCH, "").strip()
    try:
        limit = USUAL * float(value or 1)
        if 0 < limit < 2**60:
            return round(limit)
    except ValueError:
        pass
    raise ArgumentError(f"{SWITCH}={value!r} is no limit; wanted gigabytes for one picture, such as 4.")


def refusal(size: tuple[int, int], needed: float) -> str:
    """The error text for a picture that exceeds the memory limit."""
    return (
        f"{size[0]} x {size[1]} pixels, which take {needed / USUAL:.2g} GB to decode; wanted up to "
        f"{memory_limit() / USUAL:.2g}. {advice(needed / USUAL)}"
    )


def advice(gigabytes: float) -> str:
    """The advice for a picture that takes so many gigabytes."""
    if gigabytes > _MAX_ADVISED:
        return "Make it smaller first."
    return f"Make it smaller first, or allow more: {SWITCH}={max(2, math.ceil(gigabytes))} in the environment."


def is_moving(image: Image.Image) -> bool:
    """Whether it is an animation in a format whose frames are searched."""
    return image.format in _MOVING and bool(getattr(image, "is_animated", False))


def needed(image: Image.Image, *, is_searched: bool, is_turned: bool, moves: bool = False) -> int:
    """Bytes that an undecoded picture takes until it is upright and has 8 bits: the greater of the decoder's peak and
    of the decoded picture with the copies made of it. `moves` is for going through an animation's frames."""
    stored, has_alpha = stored_bytes(image.mode), image.mode in ALPHA or "transparency" in image.info
    decoding = (_MOVING if moves else _STILL).get(image.format or "", (stored, stored))[has_alpha]
    shown, finished = stored, stored
    if image.mode in ("I", "F"):
        shown, finished = 1, 2 * stored + 1
    elif image.mode.startswith("I;16"):
        shown = 4 if has_alpha else 1
        finished += shown
    elif has_alpha or (is_searched and image.mode in ("P", "1")) or image.mode == "CMYK":
        shown = 1 if image.mode == "1" else 4
        finished += shown
    return image.width * image.height * max(decoding, finished + (shown if is_turned else 0))


def stored_bytes(mode: str) -> int:
    """Bytes a pixel of Pillow's picture in this mode."""
    return _MODES.get(mode, 4)


class MemoryReservation:
    """Memory reserved for one picture. All that are decoded at once, in any threads, share one `memory_limit`. Use as a
    context. Small pictures do not wait."""

    def __init__(self) -> None:
        self._reserved = 0

    def __enter__(self) -> MemoryReservation:
        return self

    def __exit__(self, *_: object) -> None:
        self.reserve(0)

    def reserve(self, size: int) -> None:
        """Reserve so many bytes instead of those reserved before; wait until others have released theirs."""
        size = size if size > _FREE else 0
        if size != self._reserved:
            _POOL.change(self._reserved, size)
            self._reserved = size


class _MemoryPool:
    """The bytes that the threads of one process have reserved."""

    def __init__(self) -> None:
        self._reserved, self._changed = 0, threading.Condition()

    def change(self, old: int, new: int) -> None:
        with self._changed:
            self._reserved -= old
            self._changed.notify_all()
            self._changed.wait_for(lambda: not new or not self._reserved or self._reserved + new <= memory_limit())
            self._reserved += new


_POOL = _MemoryPool()
if hasattr(os, "register_at_fork"):  # in a fork, reservations of other threads would never be released
    os.register_at_fork(after_in_child=_POOL.__init__)
