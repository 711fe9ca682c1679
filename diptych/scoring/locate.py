"""Where in a picture something is: scores of windows or of places laid over the whole picture, and boxes around what
stands out. Arrays in, arrays out; `diptych.scoring.heat_map` puts a model before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

SCALES = (1.0, 0.7, 0.5, 0.35, 0.25)  # sides of windows, as shares of the picture's short side
OVERLAP = 0.6
THRESHOLD = 0.5  # of the way from the background to the best
MOST_WINDOWS = 5000
LONG_SIDE = 64  # places of a map along the picture's longer side
REACH, SMOOTH = 10, 1e-3


class Box(NamedTuple):
    """A part of a picture in its own pixels, and the best score in it."""

    x: float
    y: float
    width: float
    height: float
    score: float


def windows(width: int, height: int, *, scales: Sequence[float] | None = None, overlap: float = OVERLAP) -> list[Box]:
    """Square windows (their scores 0) of several sizes, which overlap by at least `overlap` and together cover a
    picture of so many pixels to its edges. Raises ArgumentError for scales outside 0 to 1, an overlap outside 0 to
    under 1, or what would be more than MOST_WINDOWS. They are a pixel apart or more. By default the scales are SCALES;
    of a very thin picture those that make so many windows are left out."""
    given, scales = scales, SCALES if scales is None else scales
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ArgumentError(f"scales are {tuple(scales)}; wanted numbers above 0, up to 1 (the picture's short side).")
    if not 0 <= overlap < 1:
        raise ArgumentError(f"overlap is {overlap}; wanted 0 to under 1.")
    found = []
    for side in dict.fromkeys(max(1.0, scale * min(width, height)) for scale in scales):
        step = max(1.0, side * (1 - overlap))
        rows, columns = _starts(height - side, step), _starts(width - side, step)
        if len(found) + len(rows) * len(columns) > MOST_WINDOWS:
            if found and given is None:
                break
            raise ArgumentError(
                f"{width} x {height} px make over {MOST_WINDOWS:,} windows; pass fewer, larger scales or less overlap."
            )
        found += [Box(x, y, side, side, 0.0) for y in rows for x in columns]
    return found


def _starts(room: float, step: float) -> list[float]:
    """From 0 to `room` in equal steps of `step` or less."""
    return np.linspace(0, room, 1 + int(np.ceil(room / step - 1e-9))).tolist() if room > 0 else [0.0]


def map_shape(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the map of a picture of so many pixels."""
    scale = LONG_SIDE / max(width, height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def laid_back(
    scores: Float[np.ndarray, " windows"], places: Sequence[Box], size: tuple[int, int], *, scale: float
) -> Float[np.ndarray, "rows columns"]:
    """Windows' cosines over a picture of `size` (width, height), as cosines.

    Each place has the mean of exp(`scale` x cosine) of the windows over it, with `scale` an inverse temperature of the
    order of the model's: windows far below the best count for nothing, and what stays is where the good ones of all
    sizes meet. Those in whose middle a place lies count most, and small ones more than large, by their area: they say
    more exactly where.
    """
    width, height = size
    rows, columns = map_shape(width, height)
    total, weight, top = np.zeros((rows, columns)), np.full((rows, columns), 1e-12), float(scores.max())
    for (x, y, w, h, _), share in zip(places, likely(scores, scale).tolist(), strict=True):
        bell = np.outer(_bell(rows, y / height, h / height), _bell(columns, x / width, w / width)) / (w * h)
        total += bell * share
        weight += bell
    return (top + np.log(np.maximum(total / weight, 1e-12)) / scale).astype(np.float32)


def likely(scores: Float[np.ndarray, "*n"], scale: float) -> Float[np.ndarray, "*n"]:
    """How likely each is beside the best, 0 to 1, at a model's inverse temperature `scale`."""
    return np.exp(scale * (scores.astype(np.float64) - scores.max()))


def _bell(count: int, start: float, length: float) -> np.ndarray:
    """(count,) weights along an axis: highest in the middle of a window, 0 outside it."""
    middle = (np.arange(count) + 0.5) / count
    return np.clip(1 - np.abs(middle - start - length / 2) / (length / 2), 0, None) ** 2


def laid_out(scores: Float[np.ndarray, " places"], size: tuple[int, int]) -> Float[np.ndarray, "rows columns"]:
    """A square map's scores, row by row, over a picture of `size` (width, height) that was squashed to the square."""
    from PIL import Image

    grid = round(len(scores) ** 0.5)
    rows, columns = map_shape(*size)
    small = Image.fromarray(scores.reshape(grid, grid).astype(np.float32))
    return np.asarray(small.resize((columns, rows), Image.Resampling.BICUBIC), np.float32)


def along_edges(
    scores: Float[np.ndarray, "rows columns"],
    picture: Float[np.ndarray, "rows columns 3"],
    *,
    reach: int = REACH,
    smooth: float = SMOOTH,
) -> Float[np.ndarray, "rows columns"]:
    """A map whose edges are the picture's: near each place it is the linear function of the colours, 0 to 1, that fits
    the scores within `reach` places best (He, Sun and Tang 2010, "Guided image filtering", section 3.4). `smooth` is
    the variance of colours that counts as none."""
    guide, scores = picture.astype(np.float64), scores.astype(np.float64)[..., None]
    pairs = guide[..., [0, 0, 0, 1, 1, 2]] * guide[..., [0, 1, 2, 1, 2, 2]]
    means = _box_means(np.concatenate([guide, scores, guide * scores, pairs], axis=-1), reach)
    colour, score, together, squares = np.split(means, [3, 4, 7], axis=-1)
    variance = squares - colour[..., [0, 0, 0, 1, 1, 2]] * colour[..., [0, 1, 2, 1, 2, 2]]
    slope = _solved(variance + smooth * np.array([1, 0, 0, 1, 0, 1]), together - colour * score)
    rest = score - (slope * colour).sum(axis=-1, keepdims=True)
    fitted = _box_means(np.concatenate([slope, rest], axis=-1), reach)
    return ((fitted[..., :3] * guide).sum(axis=-1) + fitted[..., 3]).astype(np.float32)


def _box_means(values: Float[np.ndarray, "rows columns channels"], reach: int) -> np.ndarray:
    """Of each place's surroundings, `reach` places to each side."""
    for axis in (0, 1):
        wide = [(reach + 1 if at == axis else 0, reach if at == axis else 0) for at in range(values.ndim)]
        sums = np.moveaxis(np.pad(values, wide, "edge"), axis, 0).cumsum(axis=0)
        values = np.moveaxis((sums[2 * reach + 1 :] - sums[: -2 * reach - 1]) / (2 * reach + 1), 0, axis)
    return values


def _solved(symmetric: Float[np.ndarray, "*n 6"], right: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """x of A x = b for many A of 3 x 3, given as (xx, xy, xz, yy, yz, zz): by cofactors, faster than LAPACK."""
    xx, xy, xz, yy, yz, zz = np.moveaxis(symmetric, -1, 0)
    first = np.stack([yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy], axis=-1)
    second = np.stack([first[..., 1], xx * zz - xz * xz, xy * xz - xx * yz], axis=-1)
    third = np.stack([first[..., 2], second[..., 2], xx * yy - xy * xy], axis=-1)
    determinant = xx * first[..., 0] + xy * first[..., 1] + xz * first[..., 2]
    solved = np.stack([(row * right).sum(axis=-1) for row in (first, second, third)], axis=-1)
    return solved / determinant[..., None]


def boxes(
    scores: Float[np.ndarray, "rows columns"], size: tuple[int, int], *, threshold: float = THRESHOLD, most: int = 5
) -> tuple[Box, ...]:
    """Around each connected part of a map that stands out, the best first: where the score passes `threshold` of the
    way from the median to the highest. A map that is flat has none."""
    low, high = float(np.median(scores)), float(scores.max())
    if high - low < 1e-6:
        return ()
    if not 0 <= threshold < 1:
        raise ArgumentError(f"threshold is {threshold}; wanted 0 to under 1.", argument="threshold")
    found = [_around(scores, part, size) for part in parts(scores > low + threshold * (high - low))]
    return tuple(sorted(found, key=lambda box: -box.score)[:most])


def parts(mask: Bool[np.ndarray, "rows columns"]) -> Iterator[Bool[np.ndarray, "rows columns"]]:
    """The connected parts of a mask, by their first places row by row; corners do not connect."""
    left = mask.copy()
    while left.any():
        part = np.zeros_like(left)
        part.flat[left.argmax()] = True
        size = 0
        while size < (size := int(part.sum())):
            part = _grown(part) & left
        left &= ~part
        yield part


def _grown(part: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """With the neighbours above, below and to both sides."""
    grown = part.copy()
    grown[1:] |= part[:-1]
    grown[:-1] |= part[1:]
    grown[:, 1:] |= part[:, :-1]
    grown[:, :-1] |= part[:, 1:]
    return grown


def _around(scores: np.ndarray, part: np.ndarray, size: tuple[int, int]) -> Box:
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    down, across = size[1] / part.shape[0], size[0] / part.shape[1]
    x, y = columns[0] * across, rows[0] * down
    width, height = (columns[-1] + 1) * across - x, (rows[-1] + 1) * down - y
    return Box(float(x), float(y), float(width), float(height), float(scores[part].max()))


def overlap_of(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes (x, y, width, height, ...)."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, across) * max(0.0, down)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared) if shared else 0.0
