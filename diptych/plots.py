"""Numbers in, pictures out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont, ImageOps

from diptych.images import Source, open_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THUMBNAIL_PX = 160
MARGIN_PX = 8
LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue look (Rec. 601)
MAX_SIDE_PX = 2**15  # matplotlib's own limit is twice that


def thumbnail(source: Source, size_px: int = THUMBNAIL_PX) -> Image.Image:
    """The picture inside a square of `size_px`, upright, its shape kept."""
    image = open_image(source, decode="fast", size_px=size_px)
    image.thumbnail((size_px, size_px))
    return image


def contact_sheet(pictures: Sequence[tuple[Image.Image, str]], *, columns: int = 5) -> Image.Image:
    """Pictures in rows with a line of text under each."""
    columns = min(columns, max(1, len(pictures)))
    cell, line = THUMBNAIL_PX + MARGIN_PX, 20
    sheet = Image.new(
        "RGB", (columns * cell + MARGIN_PX, math.ceil(len(pictures) / columns) * (cell + line) + MARGIN_PX), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, (picture, title) in enumerate(pictures):
        left, top = MARGIN_PX + index % columns * cell, MARGIN_PX + index // columns * (cell + line)
        fitted = ImageOps.contain(picture, (THUMBNAIL_PX, THUMBNAIL_PX))
        sheet.paste(fitted, (left + (THUMBNAIL_PX - fitted.width) // 2, top + (THUMBNAIL_PX - fitted.height) // 2))
        while title and draw.textlength(title, font) > THUMBNAIL_PX:
            title = title[:-2] + "…"
        draw.text((left, top + THUMBNAIL_PX + 2), title, "black", font)
    return sheet


def similarity_figure(
    matrices: Mapping[str, Float[np.ndarray, "pictures texts"]], pictures: Sequence[Image.Image], texts: Sequence[str]
) -> Figure:
    """Heat maps, one a measure, with the pictures down the side and the sentences along the top."""
    from matplotlib.figure import Figure

    rows, columns = len(pictures), len(texts)
    width, height = 1.3 + 0.95 * columns, 2.0 + 0.8 * rows
    dpi = min(110, MAX_SIDE_PX / max(width * len(matrices), height))
    figure = Figure(figsize=(width * len(matrices), height), dpi=dpi, layout="constrained")
    for axes, (name, matrix) in zip(np.atleast_1d(figure.subplots(1, len(matrices))), matrices.items(), strict=True):
        _draw_matrix(axes, name, matrix, texts)
        _draw_thumbnails(axes, pictures)
    return figure


def _draw_matrix(axes: Axes, name: str, matrix: np.ndarray, texts: Sequence[str]) -> None:
    shades = axes.imshow(
        matrix, cmap="viridis_r" if name == "euclidean" else "viridis", aspect="auto"
    )  # near is bright
    labels = ["\n".join(wrap(shortened(text), 20)) for text in texts]
    axes.set_xticks(
        range(len(texts)), labels, rotation=40, ha="left", fontsize=8, rotation_mode="anchor", parse_math=False
    )  # a dollar is a dollar
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel(name)
    is_light = shades.to_rgba(matrix)[..., :3] @ LUMA > 0.5
    for (row, column), value in np.ndenumerate(matrix):
        colour = "black" if is_light[row, column] else "white"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)


def _draw_thumbnails(axes: Axes, pictures: Sequence[Image.Image]) -> None:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    axes.set_yticks(range(len(pictures)), [" " * 16] * len(pictures))  # keeps room for the pictures
    for row, picture in enumerate(pictures):
        fitted = ImageOps.contain(picture, (THUMBNAIL_PX, THUMBNAIL_PX))
        box = OffsetImage(np.asarray(fitted), zoom=52 / THUMBNAIL_PX)
        axes.add_artist(
            AnnotationBbox(
                box,
                (0, row),
                xycoords=("axes fraction", "data"),
                xybox=(-30, 0),
                boxcoords="offset points",
                frameon=False,
            )
        )


def shortened(text: str, length: int = 60) -> str:
    """The text on one line, cut with an ellipsis; between words where there are any."""
    whole = " ".join(text.split())
    if len(whole) <= length:
        return whole
    cut = whole[: length - 1]
    return (cut.rpartition(" ")[0] or cut) + "…"


def file_name(source: object) -> str:
    """A picture's name for a label: its last part, what cannot be drawn replaced."""
    name = Path(str(source)).name
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
