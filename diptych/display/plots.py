"""Contact sheets, overlays and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from diptych.media.images import Source, open_image

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THUMBNAIL_PX = 160
MARGIN_PX, LINE_PX = 8, 14
# From low to high: Google's turbo (Mikhailov 2019) at seventeen even steps; linear interpolation is within 7
TURBO = (
    (48, 18, 59), (64, 64, 162), (70, 107, 227), (66, 148, 255), (40, 188, 235), (24, 221, 194), (50, 242, 152),
    (109, 254, 98), (164, 252, 60), (205, 236, 52), (238, 207, 58), (253, 172, 52), (251, 126, 33), (235, 80, 14),
    (208, 47, 5), (169, 22, 1), (122, 4, 3),
)  # fmt: skip


def thumbnail(source: Source, size_px: int = THUMBNAIL_PX) -> Image.Image:
    """The picture upright, fitted into a square of `size_px` with its aspect ratio kept."""
    image = open_image(source, decode="fast", size_px=size_px)
    image.thumbnail((size_px, size_px))
    return image


def contact_sheet(
    pictures: Sequence[tuple[Image.Image, str]],
    *,
    title: str = "",
    columns: int = 5,
    lines: int = 1,
    size_px: int = THUMBNAIL_PX,
    are_names: bool = False,
) -> Image.Image:
    """Pictures in rows, each in a square of `size_px`, with up to `lines` lines of text under each, and a `title` at
    the top. A line of text ends at a newline, or where it is full; names of files are not broken, but shortened in the
    middle."""
    columns = min(columns, max(1, len(pictures)))
    cell, foot, head = size_px + MARGIN_PX, 6 + LINE_PX * lines, 2 * LINE_PX if title else 0
    size = (columns * cell + MARGIN_PX, head + math.ceil(len(pictures) / columns) * (cell + foot) + MARGIN_PX)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    if title:
        large = ImageFont.load_default(15)
        (heading,) = _lines(title, 1, lambda text: draw.textlength(text, large) <= size[0] - 2 * MARGIN_PX)
        draw.text((MARGIN_PX, MARGIN_PX), heading, "black", large)
    in_lines = _whole_lines if are_names else _lines
    for index, (picture, text) in enumerate(pictures):
        left, top = MARGIN_PX + index % columns * cell, head + MARGIN_PX + index // columns * (cell + foot)
        fitted = ImageOps.contain(picture, (size_px, size_px))
        sheet.paste(fitted, (left + (size_px - fitted.width) // 2, top + (size_px - fitted.height) // 2))
        for row, line in enumerate(in_lines(text, lines, lambda line: draw.textlength(line, font) <= size_px)):
            draw.text((left, top + size_px + 2 + LINE_PX * row), line, "black", font)
    return sheet


def _lines(text: str, count: int, fits: Callable[[str], bool]) -> list[str]:
    """The text in up to `count` lines that fit, broken at newlines, between words, or within words wider than a line;
    the last line is cut with an ellipsis."""
    first, newline, rest = text.partition("\n")
    if newline and count > 1:
        return [*_lines(first, 1, fits), *_lines(rest, count - 1, fits)]
    found, words = [], first.split(" ")
    while words and len(found) < count - 1 and not fits(" ".join(words)):
        taken = next((n for n in range(len(words), 0, -1) if fits(" ".join(words[:n]))), 0)
        if taken:
            found.append(" ".join(words[:taken]))
            words = words[taken:]
        else:
            at = next((n for n in range(len(words[0]), 0, -1) if fits(words[0][:n])), 1)
            found.append(words[0][:at])
            words[0] = words[0][at:]
    return [*found, _cut(" ".join(words), fits)]


def _whole_lines(text: str, count: int, fits: Callable[[str], bool]) -> list[str]:
    """The first `count` lines of the text, each with an ellipsis in its middle if it does not fit whole."""
    return [_without_middle(line, fits) for line in text.split("\n")[:count]]


def _without_middle(line: str, fits: Callable[[str], bool]) -> str:
    shown, kept = line, len(line)
    while kept > 1 and not fits(shown):
        kept -= 1
        shown = f"{line[: (kept + 1) // 2]}…{line[len(line) - kept // 2 :]}"
    return shown


def _cut(line: str, fits: Callable[[str], bool]) -> str:
    while line and not fits(line):
        line = line[:-2] + "…"
    return line


def heat_overlay(
    image: Image.Image, scores: Float[np.ndarray, "rows columns"], boxes: Sequence[Sequence[float]] = ()
) -> Image.Image:
    """A picture under a map of scores, coloured from the map's median to its maximum, with boxes (x, y, width, height
    in the picture's pixels, and optionally a score to draw). The first box is the brightest."""
    low, high = float(np.median(scores)), float(scores.max())
    share = np.clip((scores - low) / max(high - low, 1e-6), 0, 1)
    small = Image.fromarray((share * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    heat = np.asarray(small, np.float32) / 255
    colours = heat_colours(heat)
    grey = np.asarray(image.convert("L"), np.float32)[..., None]
    cover = (0.25 + 0.45 * heat)[..., None]  # at low scores the picture stays visible
    over = Image.fromarray(((0.35 * np.asarray(image) + 0.65 * grey) * (1 - cover) + colours * cover).astype(np.uint8))
    draw, line = ImageDraw.Draw(over), max(2, min(image.size) // 150)
    for index, (x, y, width, height, *score) in reversed(list(enumerate(boxes))):
        corner = (max(x, x + width - 1), max(y, y + height - 1))  # a box may be narrower than a pixel
        colour = "white" if index == 0 else "silver"
        draw.rectangle((x, y, *corner), outline=colour, width=line)
        if score:
            _tag(draw, (x, y, width, height), f"{score[0]:.2f}", colour, size_px=max(9, min(image.size) // 22))
    return over


def heat_colours(shares: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns 3"]:
    """The colours of shares from 0 to 1, from dark blue over green to red; values from 0 to 255."""
    steps = np.linspace(0, 1, len(TURBO))
    return np.stack([np.interp(shares, steps, channel) for channel in np.array(TURBO).T], axis=-1)


def _tag(
    draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], text: str, colour: str, size_px: int
) -> None:
    """Draw a short text on a background, in the corner of a box, or above a box that is smaller than the text."""
    font, pad = ImageFont.load_default(size_px), size_px // 4
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    wide, high = right - left + 2 * pad, bottom - top + 2 * pad
    x, y, width, height = box
    if wide > width or high > height:
        y = max(0, y - high)
    draw.rectangle((x, y, x + wide, y + high), fill=colour)
    draw.text((x + pad - left, y + pad - top), text, font=font, fill="black")


def histogram_figure(series: Mapping[str, Sequence[int]]) -> Figure:
    """Histograms of integers, a panel for each series, with the median marked. The keys are the axes' titles."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.6 * len(series), 3.2), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(series), squeeze=False)[0]
    for axes, (name, values) in zip(panels, series.items(), strict=True):
        low, high = min(values), max(values)
        step = max(1, math.ceil((high - low) / 60))  # a bar covers one integer or several, never a fraction
        axes.hist(values, bins=np.arange(low - 0.5, high + step, step).tolist(), color="#31688e", rwidth=0.9)
        axes.set_xlim(min(low, max(0, high - 8)) - 0.5, max(high, low + 8) + 0.5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        middle = float(np.median(values))
        axes.axvline(middle, color="#d1495b", linewidth=1.2)
        axes.set_title(f"median {middle:,.0f}", color="#d1495b", fontsize=9, loc="right")
        axes.set_xlabel(name)
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.tick_params(labelsize=8)
    return figure


def forgetting_figure(
    alphas: Sequence[float],
    learnt: Sequence[float | None],
    kept: Mapping[str, Sequence[float]],
    *,
    measure: str,
    saved: float,
) -> Figure:
    """Models interpolated between the pretrained (alpha 0) and the fine-tuned (alpha 1), `alphas` rising. The x axis is
    `learnt`, in percent, or alpha where that was not measured; the y axis is the `measure` of each data set in `kept`.
    `saved` is the alpha of the saved model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    across = [alpha if value is None else value for alpha, value in zip(alphas, learnt, strict=True)]
    axes.set_xlabel("alpha (0: before, 1: after)" if None in learnt else "new pairs: mean recall, %")
    axes.set_ylabel(measure)
    axes.margins(x=0.2, y=0.12)  # room for the labels beside the marks
    axes.ticklabel_format(useOffset=False)
    marks = {0.0: ("before", "o"), 1.0: ("after", "s")}
    marks[saved] = (f"{marks[saved][0]} = saved" if saved in marks else f"saved ({saved:g})", "P")
    for name, values in kept.items():
        (line,) = axes.plot(across, values, marker=".", linewidth=1, label=label_of(name, 40))
        for alpha, (mark, shape) in marks.items():
            at = alphas.index(alpha)
            axes.plot(across[at], values[at], shape, color=line.get_color(), markersize=9)
            axes.annotate(mark, (across[at], values[at]), (7, 5), textcoords="offset points", fontsize=8)
    if kept:
        legend(axes, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    else:
        axes.text(0.5, 0.5, "no earlier ability was measured", ha="center", transform=axes.transAxes)
    return figure


def label_of(name: str, length: int) -> str:
    """A name that a legend can show: matplotlib hides a line whose label begins with an underscore."""
    return cut_middle(f" {name}" if name.startswith("_") else name, length)


def legend(axes: Axes, **options: Any) -> None:
    """A legend whose names are not parsed as formulas: `$` is a letter."""
    for text in axes.legend(**options).get_texts():
        text.set_parse_math(False)


def cut_middle(name: str, length: int) -> str:
    """A name; if it is too long, with an ellipsis between its start and its end."""
    return name if len(name) <= length else f"{name[: length - 9]}…{name[-8:]}"


def shortened(text: str, length: int = 60) -> str:
    """The text on one line, cut with an ellipsis, between words if possible."""
    whole = " ".join(text.split())
    if len(whole) <= length:
        return whole
    cut = whole[: length - 1]
    return (cut.rpartition(" ")[0] or cut) + "…"


def file_name(source: object) -> str:
    """A picture's file name for a label, with unprintable characters replaced."""
    name = Path(str(source)).name
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
