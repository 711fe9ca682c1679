"""How much memory a picture takes to be decoded, known from its header, and how much it may take.

What each decoder holds at its peak was measured, the picture that it makes included: libavif and libheif have the
planes, libwebp and OpenJPEG several copies, libjxl floats.
"""

from __future__ import annotations

import math
import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from PIL import Image

USUAL = 2**30  # bytes that decoding one picture may take
SWITCH = "DIPTYCH_PICTURE_GB"
ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
VIDEO = 32  # bytes a pixel of a film: up to 16 frames that others refer to, and the one that is shown
RAW = 8  # of a sensor: its numbers, and the picture of half the size
_MOST_ADVISED = 64  # gigabytes; what asks for more is a bomb or beyond most machines
_FREE = USUAL // 32  # what takes less waits for nobody

# Bytes a pixel at the peak, the alpha channel included where it is in brackets; others make the picture itself alone
_STILL = {"WEBP": (20, 20), "AVIF": (14, 16), "HEIF": (8, 11), "GIF": (5, 5)}
_MOVING = {"WEBP": (28, 28), "AVIF": (31, 31), "PNG": (22, 22), "GIF": (16, 16)}
_MODES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # Pillow has 4 for all others


def allowed() -> int:
    """Bytes that decoding one picture may take: a gigabyte, or what the environment's DIPTYCH_PICTURE_GB says, for who
    has huge scans and the memory for them. ArgumentError where that is no number above 0."""
    word = os.environ.get(SWITCH, "").strip()
    try:
        found = USUAL * float(word or 1)
        if 0 < found < 2**60:
            return round(found)
    except ValueError:
        pass
    raise ArgumentError(f"{SWITCH}={word!r} is no limit; wanted gigabytes for one picture, such as 4.")


def refusal(size: tuple[int, int], needed: float) -> str:
    """What to say of a picture that takes more than it may."""
    return (
        f"{size[0]} x {size[1]} pixels, which take {needed / USUAL:.2g} GB to decode; wanted up to "
        f"{allowed() / USUAL:.2g}. {advice(needed / USUAL)}"
    )


def advice(gigabytes: float) -> str:
    """What to do about a picture for which so much would have to be allowed."""
    if gigabytes > _MOST_ADVISED:
        return "Make it smaller first."
    return f"Make it smaller first, or allow more: {SWITCH}={max(2, math.ceil(gigabytes))} in the environment."


def is_moving(image: Image.Image) -> bool:
    """Whether it is an animation of a kind whose frames are looked at."""
    return image.format in _MOVING and bool(getattr(image, "is_animated", False))


def needed(image: Image.Image, *, is_searched: bool, is_turned: bool, moves: bool = False) -> int:
    """Bytes that a picture, opened and not decoded yet, takes until it is upright and has 8 bits: at least what its
    decoder holds, then the picture with what is made of it."""
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
    """Bytes a pixel of a picture of Pillow's."""
    return _MODES.get(mode, 4)


class Turn:
    """A picture's share of what all that are decoded at once, in whatever threads, may take together: the same as one
    alone. Use as a context; small pictures wait for nobody."""

    def __init__(self) -> None:
        self._held = 0

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.take(0)

    def take(self, count: int) -> None:
        """Have so many bytes, in place of those that were taken before; wait until others have given theirs back."""
        count = count if count > _FREE else 0
        if count != self._held:
            _SHARED.change(self._held, count)
            self._held = count


class _Shared:
    """What the threads of one process have taken."""

    def __init__(self) -> None:
        self._taken, self._changed = 0, threading.Condition()

    def change(self, held: int, count: int) -> None:
        with self._changed:
            self._taken -= held
            self._changed.notify_all()
            self._changed.wait_for(lambda: not count or not self._taken or self._taken + count <= allowed())
            self._taken += count


_SHARED = _Shared()
if hasattr(os, "register_at_fork"):  # in a copy of this process nobody would give back what others had taken
    os.register_at_fork(after_in_child=_SHARED.__init__)
