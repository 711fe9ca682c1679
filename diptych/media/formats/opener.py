"""The steps that all formats share: limits on size and memory, and the conversion to an upright 8-bit picture."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO, NamedTuple, TypeAlias

from PIL import Image

from diptych.errors import ImageError
from diptych.media import memory
from diptych.media.pixels.depth import to_uint8
from diptych.media.pixels.orientation import orientation, upright
from diptych.media.pixels.transparency import first_not_blank, on_white

MAX_PIXELS = 178_956_970  # Pillow's own default limit: half a gigabyte as RGB


class OpenedPicture(NamedTuple):
    """An upright picture of 8 bits a channel, in its own mode. `size` is the full displayed size, even if the
    picture was decoded smaller. `partial` describes what is missing, if anything."""

    image: Image.Image
    size: tuple[int, int]
    partial: str = ""


Fits: TypeAlias = Callable[[Image.Image], bool]
Reduce: TypeAlias = Callable[[Image.Image, Fits], Image.Image]


class Opener(NamedTuple):
    """Opens one picture within its limits; each format's `open_picture` is given one.

    `name` names the picture in errors. `reduce` may set a JPEG to be decoded at a fraction of its size: it takes the
    undecoded picture and a predicate for whether it fits into memory as it is set. `is_searched` decodes for display:
    the first frame that is not blank, palettes as RGB, transparency on white.
    """

    name: str
    reduce: Reduce | None
    is_searched: bool
    max_pixels: int
    max_bytes: int
    reservation: memory.MemoryReservation

    def check(self, size: tuple[int, int]) -> None:
        """Raise ImageError if a picture of this size has more than `max_pixels`, or none."""
        if not 0 < (pixels := size[0] * size[1]) <= self.max_pixels:
            more = memory.advice(pixels / MAX_PIXELS) if self.max_pixels >= MAX_PIXELS else "Make it smaller first."
            detail = f"{size[0]} x {size[1]} pixels; wanted 1 to {self.max_pixels:,}. {more}"
            raise ImageError("too large" if pixels else "not an image", self.name, detail)

    def reserve(self, size: tuple[int, int], needed: int) -> None:
        """Reserve `needed` bytes for a picture of this size. Raises ImageError beyond `max_bytes`."""
        if needed > self.max_bytes:
            raise ImageError("too large", self.name, memory.refusal(size, needed))
        self.reservation.reserve(needed)

    def needed(self, image: Image.Image, turn: int, *, moves: bool = False) -> int:
        """Bytes that decoding takes; `turn` is the EXIF orientation, `moves` for going through an animation's
        frames."""
        return memory.needed(image, is_searched=self.is_searched, is_turned=turn != 1, moves=moves)

    def read_whole(self, file: IO[bytes]) -> bytes:
        """All bytes of a file, for decoders that take no stream. Raises ImageError if there are too many."""
        if (count := file.seek(0, os.SEEK_END)) > self.max_bytes // 4:
            detail = (
                f"A file of this kind is read whole. It has {count:,} bytes; wanted {self.max_bytes // 4:,} or fewer."
            )
            raise ImageError("too large", self.name, f"{detail} {memory.advice(4 * count / memory.USUAL)}")
        file.seek(0)
        content = file.read()
        file.seek(0)
        return content

    def load_first(self, image: Image.Image) -> OpenedPicture:
        """Decode a picture that Pillow opened for us: the first frame or, if it is searched, the first that is not
        blank."""
        self.check(image.size)
        moving = self.needed(image, 1, moves=True)
        if not self.is_searched or moving > self.max_bytes or not memory.is_moving(image):
            return self._load(image)
        self.reserve(image.size, moving)
        return self.finish(first_not_blank(image, self.max_pixels), orientation(image))

    def load_current(self, image: Image.Image) -> OpenedPicture:
        """Decode the current frame of a caller's picture, which is left on that frame."""
        self.check(image.size)
        return self._load(image)

    def _load(self, image: Image.Image) -> OpenedPicture:
        """Decode it. A PNG may hold its orientation behind the pixels; it is then read after decoding."""
        turn = 1 if image.format == "PNG" and "exif" not in image.info else orientation(image)
        self.reserve(image.size, self.needed(image, turn))
        image.load()
        if turn != (turn := orientation(image)):
            self.reserve(image.size, self.needed(image, turn))
        return self.finish(image, turn)

    def finish(
        self, image: Image.Image, turn: int, size: tuple[int, int] | None = None, partial: str = ""
    ) -> OpenedPicture:
        """A decoded picture with 8 bits a channel, upright by the EXIF orientation `turn`; `size` is the full size
        where it was decoded smaller."""
        image = to_uint8(image)
        image = upright(on_white(image) if self.is_searched else image, turn)
        return OpenedPicture(image, size or image.size, partial)
