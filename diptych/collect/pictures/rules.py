"""Which pictures are kept, by their sizes and by what a glance at their pixels shows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from PIL import Image

from diptych.errors import ArgumentError
from diptych.media.pixels.transparency import is_blank

# name -> what it removes; a name is the reason under which a refused picture is counted
PICTURE_RULES = {
    "small": "pictures whose shorter side has few pixels: icons, spacers, counters",
    "aspect": "pictures that are long and narrow: banners, rulers, of which a model sees a small part",
    "animated": "animations, whose first picture may not be what the words describe",
    "single-colour": "pictures of one colour, apart from noise",
}

_POINTS = 16


@dataclass(frozen=True)
class PictureRules:
    """The rules of PICTURE_RULES, without those that are `disabled`.

    `min_side_px` bounds the shorter side. `max_aspect` bounds the ratio of the longer side to the shorter one: 3 as in
    DataComp's basic filtering (Gadre et al. 2023, section 4). Raises ArgumentError for unknown names and for bounds
    that nothing passes.
    """

    min_side_px: int = 64
    max_aspect: float = 3.0
    disabled: Collection[str] = field(default=())

    def __post_init__(self) -> None:
        unknown = sorted({*self.disabled} - {*PICTURE_RULES})
        if unknown:
            raise ArgumentError(f"no rule on pictures is called {unknown[0]!r}; there are {', '.join(PICTURE_RULES)}.")
        if self.min_side_px < 1 or self.max_aspect < 1:
            raise ArgumentError(
                f"min_side_px={self.min_side_px}, max_aspect={self.max_aspect}; wanted 1 or more for both."
            )

    def refusal_by_header(self, size: tuple[int, int], *, is_animated: bool = False) -> tuple[str, str] | None:
        """The rule that refuses a picture of this width and height in px, and a sentence; None if none does."""
        short, long = sorted(size)
        if self._has("small") and short < self.min_side_px:
            return "small", f"{size[0]} x {size[1]} pixels; wanted {self.min_side_px} or more on both sides."
        if self._has("aspect") and long > self.max_aspect * short:
            wanted = f"wanted at most {self.max_aspect:g} times as long as wide"
            return "aspect", f"{size[0]} x {size[1]} pixels; {wanted}."
        if self._has("animated") and is_animated:
            return "animated", "It is an animation; wanted a still picture."
        return None

    def refusal_by_pixels(self, image: Image.Image) -> tuple[str, str] | None:
        """The same for its pixels, upright and in RGB or grey, in any size."""
        points = image.resize((_POINTS, _POINTS), Image.Resampling.NEAREST)  # mostly enough to see that it is not blank
        if self._has("single-colour") and is_blank(points) and is_blank(image):
            return "single-colour", "It has a single colour; wanted something to see."
        return None

    def _has(self, name: str) -> bool:
        return name not in self.disabled
