"""Locating things in a picture: maps from the scores of windows or patches, and boxes around their highest regions.
Arrays in, arrays out; `diptych.heat_map` adds a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

SCALES = (1.0, 0.7, 0.5, 0.35, 0.25)  # sides of windows, as fractions of the picture's short side
OVERLAP = 0.6
THRESHOLD = 0.5  # as a fraction of the way from the median to the highest score
MAX_WINDOWS = 5000
MAP_LONG_SIDE = 64  # points of a map along the picture's longer side
FILTER_RADIUS, FILTER_EPSILON = 10, 1e-3


class Box(NamedTuple):
    """A rectangle in pixels of the picture, and the highest score in it."""

    x: float
    y: float
    width: float
    height: float
    score: float


def windows(width: int, height: int, *, scales: Sequence[float] | None = None, overlap: float = OVERLAP) -> list[Box]:
    """Square windows of several sizes, with scores of 0, that overlap by at least `overlap`, are at least a pixel
    apart, and cover a picture of so many pixels. The default scales are SCALES, without the smallest if a thin picture
    would need more than MAX_WINDOWS. Raises ArgumentError for scales outside 0 to 1, an overlap outside 0 to under 1,
    or too many windows."""
    is_default, scales = scales is None, SCALES if scales is None else scales
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ArgumentError(
            f"scales are {tuple(scales)}; expected numbers above 0, up to 1 (the picture's short side)."
        )
    if not 0 <= overlap < 1:
        raise ArgumentError(f"overlap is {overlap}; expected 0 to under 1.")
    result = []
    for side in dict.fromkeys(max(1.0, scale * min(width, height)) for scale in scales):
        step = max(1.0, side * (1 - overlap))
        rows, columns = _starts(height - side, step), _starts(width - side, step)
        if len(result) + len(rows) * len(columns) > MAX_WINDOWS:
            if result and is_default:
                break
            raise ArgumentError(
                f"{width} x {height} px need over {MAX_WINDOWS:,} windows; pass fewer, larger scales or less overlap."
            )
        result += [Box(x, y, side, side, 0.0) for y in rows for x in columns]
    return result


def _starts(room: float, step: float) -> list[float]:
    """From 0 to `room` in equal steps of `step` or less."""
    return np.linspace(0, room, 1 + int(np.ceil(room / step - 1e-9))).tolist() if room > 0 else [0.0]


def map_shape(width: int, height: int) -> tuple[int, int]:
    """The rows and columns of the map of a picture of so many pixels."""
    scale = MAP_LONG_SIDE / max(width, height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def window_scores_to_map(
    scores: Float[np.ndarray, " windows"], windows: Sequence[Box], size: tuple[int, int], *, scale: float
) -> Float[np.ndarray, "rows columns"]:
    """The cosines of windows as a map of cosines over a picture of `size` (width, height).

    A point of the map is the weighted mean of exp(`scale` x cosine) over the windows that contain it, as a cosine;
    `scale` is an inverse temperature similar to the model's, so windows far below the best have no influence. The
    weight of a window falls from its middle to its edges and is inverse to its area: small windows locate more
    precisely.
    """
    width, height = size
    rows, columns = map_shape(width, height)
    total, weight, top = np.zeros((rows, columns)), np.full((rows, columns), 1e-12), float(scores.max())
    for (x, y, w, h, _), share in zip(windows, relative_likelihood(scores, scale).tolist(), strict=True):
        bell = np.outer(_bell(rows, y / height, h / height), _bell(columns, x / width, w / width)) / (w * h)
        total += bell * share
        weight += bell
    return (top + np.log(np.maximum(total / weight, 1e-12)) / scale).astype(np.float32)


def relative_likelihood(scores: Float[np.ndarray, "*n"], scale: float) -> Float[np.ndarray, "*n"]:
    """The likelihood of each score relative to the best, 0 to 1, at a model's inverse temperature `scale`."""
    return np.exp(scale * (scores.astype(np.float64) - scores.max()))


def _bell(count: int, start: float, length: float) -> np.ndarray:
    """Weights (count,) along an axis: highest in the middle of a window, 0 outside it."""
    middle = (np.arange(count) + 0.5) / count
    return np.clip(1 - np.abs(middle - start - length / 2) / (length / 2), 0, None) ** 2


def upsampled(scores: Float[np.ndarray, " patches"], size: tuple[int, int]) -> Float[np.ndarray, "rows columns"]:
    """The scores of a square grid of patches, row by row, as a map over a picture of `size` (width, height) that was
    squashed to the square."""
    from PIL import Image

    grid = round(len(scores) ** 0.5)
    rows, columns = map_shape(*size)
    small = Image.fromarray(scores.reshape(grid, grid).astype(np.float32))
    return np.asarray(small.resize((columns, rows), Image.Resampling.BICUBIC), np.float32)


def guided_filter(
    scores: Float[np.ndarray, "rows columns"],
    picture: Float[np.ndarray, "rows columns 3"],
    *,
    radius: int = FILTER_RADIUS,
    epsilon: float = FILTER_EPSILON,
) -> Float[np.ndarray, "rows columns"]:
    """A map with the edges of the picture: around each point it is the linear function of the colours, 0 to 1, that
    fits the scores within `radius` points best (He, Sun and Tang 2010, "Guided image filtering", section 3.4).
    `epsilon` is the variance of colours below which an area counts as flat."""
    guide, scores = picture.astype(np.float64), scores.astype(np.float64)[..., None]
    pairs = guide[..., [0, 0, 0, 1, 1, 2]] * guide[..., [0, 1, 2, 1, 2, 2]]
    means = _box_means(np.concatenate([guide, scores, guide * scores, pairs], axis=-1), radius)
    colour, score, together, squares = np.split(means, [3, 4, 7], axis=-1)
    variance = squares - colour[..., [0, 0, 0, 1, 1, 2]] * colour[..., [0, 1, 2, 1, 2, 2]]
    slope = _solved(variance + epsilon * np.array([1, 0, 0, 1, 0, 1]), together - colour * score)
    rest = score - (slope * colour).sum(axis=-1, keepdims=True)
    fitted = _box_means(np.concatenate([slope, rest], axis=-1), radius)
    return ((fitted[..., :3] * guide).sum(axis=-1) + fitted[..., 3]).astype(np.float32)


def _box_means(values: Float[np.ndarray, "rows columns channels"], radius: int) -> np.ndarray:
    """The mean around each point, over `radius` points to each side."""
    for axis in (0, 1):
        widths = [(radius + 1 if each == axis else 0, radius if each == axis else 0) for each in range(values.ndim)]
        sums = np.moveaxis(np.pad(values, widths, "edge"), axis, 0).cumsum(axis=0)
        values = np.moveaxis((sums[2 * radius + 1 :] - sums[: -2 * radius - 1]) / (2 * radius + 1), 0, axis)
    return values


def _solved(symmetric: Float[np.ndarray, "*n 6"], right: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """x of A x = b for many A of 3 x 3, passed as (xx, xy, xz, yy, yz, zz): by cofactors, faster than LAPACK."""
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
    """A box around each connected region of a map whose scores exceed `threshold`, as a fraction of the way from the
    median to the highest; the best `most`, best first. A flat map has none."""
    low, high = float(np.median(scores)), float(scores.max())
    if high - low < 1e-6:
        return ()
    if not 0 <= threshold < 1:
        raise ArgumentError(f"threshold is {threshold}; expected 0 to under 1.", argument="threshold")
    regions = connected_components(scores > low + threshold * (high - low))
    result = [_bounding_box(scores, region, size) for region in regions]
    return tuple(sorted(result, key=lambda box: -box.score)[:most])


def connected_components(mask: Bool[np.ndarray, "rows columns"]) -> Iterator[Bool[np.ndarray, "rows columns"]]:
    """The connected regions of a mask, ordered by their first points; corners do not connect."""
    remaining = mask.copy()
    while remaining.any():
        region = np.zeros_like(remaining)
        region.flat[remaining.argmax()] = True
        size = 0
        while size < (size := int(region.sum())):
            region = _dilated(region) & remaining
        remaining &= ~region
        yield region


def _dilated(region: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """The region with the neighbours above, below, left and right."""
    dilated = region.copy()
    dilated[1:] |= region[:-1]
    dilated[:-1] |= region[1:]
    dilated[:, 1:] |= region[:, :-1]
    dilated[:, :-1] |= region[:, 1:]
    return dilated


def _bounding_box(scores: np.ndarray, region: np.ndarray, size: tuple[int, int]) -> Box:
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    down, across = size[1] / region.shape[0], size[0] / region.shape[1]
    x, y = columns[0] * across, rows[0] * down
    width, height = (columns[-1] + 1) * across - x, (rows[-1] + 1) * down - y
    return Box(float(x), float(y), float(width), float(height), float(scores[region].max()))


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes (x, y, width, height, ...)."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, across) * max(0.0, down)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared) if shared else 0.0
