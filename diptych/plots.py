"""Numbers in, pictures out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten, wrap
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
    figure = Figure(figsize=(width * len(matrices), height), dpi=110, layout="constrained")
    for axes, (name, matrix) in zip(np.atleast_1d(figure.subplots(1, len(matrices))), matrices.items(), strict=True):
        _draw_matrix(axes, name, matrix, texts)
        _draw_thumbnails(axes, pictures)
    return figure


def _draw_matrix(axes: Axes, name: str, matrix: np.ndarray, texts: Sequence[str]) -> None:
    nearest_is_small = name == "euclidean"
    axes.imshow(matrix, cmap="viridis_r" if nearest_is_small else "viridis", aspect="auto")
    labels = ["\n".join(wrap(shorten(text, 60, placeholder=" …"), 20)) for text in texts]
    axes.set_xticks(range(len(texts)), labels, rotation=40, ha="left", fontsize=8, rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel(name)
    middle = (matrix.min() + matrix.max()) / 2
    for (row, column), value in np.ndenumerate(matrix):
        is_light = (value < middle) if nearest_is_small else (value > middle)
        axes.text(
            column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color="black" if is_light else "white"
        )


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


def file_name(source: object) -> str:
    """A short name of a picture for a label."""
    return Path(str(source)).name
