"""The similarity matrix of pictures and sentences, as a heat map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from diptych.display.plots import THUMBNAIL_PX, cut_middle, shortened

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MOST = 60  # pictures or sentences that are shown with thumbnails and numbers
CELL_IN, LEFT_IN, FOOT_IN = (0.9, 0.8), 1.3, 0.4  # inches of a heat map: a cell, thumbnails at the left, title below
LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue look (Rec. 601)
MAX_SIDE_PX = 2**15  # matplotlib's own limit is twice that


def similarity_figure(
    matrices: Mapping[str, Float[np.ndarray, "pictures texts"]],
    pictures: Sequence[Image.Image],
    texts: Sequence[str],
    *,
    names: Sequence[str] = (),
) -> Figure:
    """A heat map for each measure, with the pictures (and their `names`) at the side and the sentences at the top. The
    nearest sentence of each picture is in bold. With more than MOST pictures or sentences, only colours are drawn, with
    a dot at the nearest, and as many names as fit; `pictures` may then be empty."""
    from matplotlib.figure import Figure

    rows, columns = next(iter(matrices.values())).shape
    if max(rows, columns) > MOST:
        return _overview(matrices, texts, names)
    labels = ["\n".join(wrap(shortened(text), 20)) for text in texts]
    head, right = _room_for(labels)
    width, height = LEFT_IN + CELL_IN[0] * columns + right, head + CELL_IN[1] * rows + FOOT_IN
    total = width * len(matrices)
    dpi = min(110, MAX_SIDE_PX / max(total, height))
    figure = Figure(figsize=(total, height), dpi=dpi)
    for index, (name, matrix) in enumerate(matrices.items()):
        left = index * width + LEFT_IN
        axes = figure.add_axes(
            (left / total, FOOT_IN / height, CELL_IN[0] * columns / total, CELL_IN[1] * rows / height)
        )
        _draw_bar(axes, _draw_matrix(axes, name, matrix, labels))
        _draw_thumbnails(axes, pictures, names)
    return figure


def _room_for(labels: Sequence[str]) -> tuple[float, float]:
    """Inches that labels at 40 degrees take above the matrix and to its right. A letter is 0.073 inches wide."""
    lines = [line for label in labels for line in label.split("\n")]
    longest = 0.073 * max((sum(1 + (letter > "\u2e7f") for letter in line) for line in lines), default=0)
    deep = 0.135 * max((label.count("\n") for label in labels), default=0)
    return 0.25 + 0.64 * longest + 0.77 * deep, max(0.8, 0.77 * longest + 0.1 - CELL_IN[0] / 2)


def _draw_bar(axes: Axes, shades: AxesImage) -> None:
    """Draw the colour scale beside the first rows, unless all values are equal."""
    rows, columns = shades.get_size()
    if shades.norm.vmin == shades.norm.vmax:
        return
    tall = min(1, 5 / rows)
    thick = 0.12 / (CELL_IN[0] * columns)  # the gap to the matrix is as wide as the bar
    bar = axes.inset_axes((1 + thick, 1 - tall, thick, tall))
    axes.figure.colorbar(shades, cax=bar).ax.tick_params(labelsize=8, length=2)


def _draw_matrix(axes: Axes, name: str, matrix: np.ndarray, labels: Sequence[str]) -> AxesImage:
    shades = axes.imshow(matrix, cmap=_colours(name), aspect="auto")
    axes.set_xticks(
        range(len(labels)), labels, rotation=40, ha="left", fontsize=9, rotation_mode="anchor", parse_math=False
    )  # a dollar starts no formula
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel(name, fontsize=11, fontweight="bold")
    is_light = shades.to_rgba(matrix)[..., :3] @ LUMA > 0.5
    nearest = _nearest(name, matrix)
    for (row, column), value in np.ndenumerate(matrix):
        weight = "bold" if column == nearest[row] else "normal"
        style = {"fontsize": 10, "fontweight": weight, "color": "black" if is_light[row, column] else "white"}
        axes.text(column, row, f"{value:z.2f}", ha="center", va="center", **style)
    return shades


def _draw_thumbnails(axes: Axes, pictures: Sequence[Image.Image], names: Sequence[str]) -> None:
    """Draw each picture left of its row, with its name below it if there are names."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage, TextArea, VPacker

    axes.set_yticks(range(len(pictures)), [""] * len(pictures))
    for row, picture in enumerate(pictures):
        fitted = ImageOps.contain(picture, (THUMBNAIL_PX, THUMBNAIL_PX))
        parts: list = [OffsetImage(np.asarray(fitted), zoom=(46 if names else 54) / THUMBNAIL_PX)]
        if names:
            title = {"fontsize": 7, "parse_math": False}
            parts.append(TextArea(cut_middle(names[row], 22), textprops=title))
        box = AnnotationBbox(
            VPacker(children=parts, align="center", pad=0, sep=1),
            (0, row),
            xycoords=("axes fraction", "data"),
            xybox=(-36 * LEFT_IN, 0),
            boxcoords="offset points",
            frameon=False,
        )
        axes.add_artist(box)


def _overview(matrices: Mapping[str, np.ndarray], texts: Sequence[str], names: Sequence[str]) -> Figure:
    """The matrices in colours only, about a page in size."""
    from matplotlib.figure import Figure

    rows, columns = next(iter(matrices.values())).shape
    across, down = min(14.0, max(2.5, 0.16 * columns)), min(20.0, max(4.0, 0.11 * rows))
    figure = Figure(figsize=(len(matrices) * (across + 3.2), down + 2.2), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
        shades = axes.imshow(matrix, cmap=_colours(name), aspect="auto", interpolation="nearest")
        nearest = _nearest(name, matrix)
        size = min(9.0, (across * 72 / columns) ** 2 / 6, (down * 72 / rows) ** 2 / 3)
        axes.scatter(nearest, range(rows), s=size, color="white", edgecolors="black", linewidths=0.3)
        _some_labels(axes.xaxis, [shortened(text, 30) for text in texts], across, rotation=90)
        _some_labels(axes.yaxis, [cut_middle(each, 26) for each in names], down)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.set_xlabel(f"{name}; a dot is each picture's nearest sentence", fontsize=9)
        figure.colorbar(shades, ax=axes, shrink=min(1.0, 4 / down), aspect=30).ax.tick_params(labelsize=7, length=2)
    return figure


def _some_labels(axis: Axis, labels: Sequence[str], room_in: float, **options: Any) -> None:
    """Set as many of the labels as fit into `room_in` inches, at equal steps."""
    step = max(1, math.ceil(len(labels) / (room_in / 0.11)))
    shown = range(0, len(labels), step)
    axis.set_ticks(shown, [labels[at] for at in shown], fontsize=6, parse_math=False, **options)


def _colours(name: str) -> str:
    return "viridis_r" if name == "euclidean" else "viridis"  # near is bright


def _nearest(name: str, matrix: np.ndarray) -> np.ndarray:
    return matrix.argmin(axis=1) if name == "euclidean" else matrix.argmax(axis=1)
