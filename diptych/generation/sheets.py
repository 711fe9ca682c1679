"""Pictures of drawn pictures: the grid, and the strip from noise to picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from diptych.display.plots import contact_sheet

if TYPE_CHECKING:
    from diptych.generation.openvino.pipeline import Drawn

_CELL_PX = 160
_MOST_COLUMNS = 6
_STRIP_PX = 96


def enlarged(picture: Image.Image, factor: int) -> Image.Image:
    """The picture `factor` times as wide and high, each pixel a square."""
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def grid(drawn: Drawn, names: Sequence[str], *, title: str = "") -> Image.Image:
    """All pictures with a line of text under each."""
    factor = max(1, _CELL_PX // drawn.pictures.shape[1])
    tiles = [(enlarged(image, factor), name) for image, name in zip(drawn.images(), names, strict=True)]
    return contact_sheet(tiles, title=title, columns=min(_MOST_COLUMNS, len(tiles)), size_px=_CELL_PX)


def strip(drawn: Drawn, names: Sequence[str], steps: int) -> Image.Image:
    """A row for each picture, from noise on the left to the picture on the right, with the step under each."""
    columns, count = drawn.strip.shape[:2]
    moments = [round(column * (steps - 1) / max(1, columns - 2)) for column in range(columns - 1)]
    labels = [f"step {moment + 1}" for moment in moments] + [""]
    factor = max(1, _STRIP_PX // drawn.strip.shape[2])
    tiles = [
        (enlarged(Image.fromarray(drawn.strip[column, row]), factor), labels[column] or names[row])
        for row in range(count)
        for column in range(columns)
    ]
    return contact_sheet(tiles, columns=columns, size_px=_STRIP_PX)
