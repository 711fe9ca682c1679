"""Whether two pictures are the same but for their size, compression, brightness, an edge that was cropped, a small mark
over it, or left and right: by small grey versions of them. Arrays in, a number out."""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

GREY_PX = 64
SAME = 0.5  # of the correlation of two pictures: see bench/duplicates.py
# Forms of one layout, such as screenshots of one program, agree in their lines but not in what is written there. So the
# differences of neighbouring points along each side have to correlate, too: by this, and not much less than the points.
_LEAST_DETAIL, _DETAIL_LOSS = 0.4, 0.25
_COARSE_PX, _FINE_PX = 24, 48
_COARSE = 0.3  # correlation below which an alignment is not worth refining: twice below that of the worst copies
_ALMOST = 0.02  # of the best coarse correlation: these alignments are refined as well
_BLUR = 5  # points to each side: what is smoother than this is light, not shape
_SIDES = (1.0, 0.95, 0.9, 0.85, 0.8)  # of the part that a crop has left
_STEP = 0.05
_REFINED = (0.02, 0.01, 0.005)
_FRACTIONS = 400  # of a side: windows begin and end at one, so that there are few of them
_FLAT, _LIGHT = 1.0, 8.0  # grey levels: the standard deviation of a picture that shows nothing, and a small difference


class Window(NamedTuple):
    """A part of a picture, as fractions of its height and width."""

    top: float
    height: float
    left: float
    width: float


_WHOLE = Window(0, 1, 0, 1)


class Shape:
    """A picture prepared for comparisons: its shapes without its light, and these of its `parts`, as unit vectors."""

    def __init__(self, grey: Float[np.ndarray, "64 64"]):
        grey = grey.astype(np.float32)
        self.light, self.is_flat = float(grey.mean()), bool(grey.std() < _FLAT)
        self.pixels = grey - _blurred(grey)
        self.whole = _unit(_seen(self.pixels, _WHOLE, _COARSE_PX).ravel())
        self.mirrored = _unit(_seen(self.pixels[:, ::-1], _WHOLE, _COARSE_PX).ravel())
        self.parts = _parts(self.pixels)


def agreement(one: Shape, other: Shape) -> float:
    """The correlation of two pictures where they fit best, of which one may be mirrored or a part of the other: 1 for
    equal ones, 0 where they agree in their layout alone. Two that show nothing agree if they are equally light."""
    if one.is_flat or other.is_flat:
        return float(one.is_flat and other.is_flat and abs(one.light - other.light) <= _LIGHT)
    found = []
    for part, whole in ((one, other), (other, one)):
        for is_mirrored, seen in enumerate((whole.whole, whole.mirrored)):
            fits = part.parts @ seen
            pixels = whole.pixels[:, ::-1] if is_mirrored else whole.pixels
            found.append((float(fits.max()), part.pixels, pixels, _windows()[int(fits.argmax())]))
    fit = max(each[0] for each in found)
    if fit < _COARSE:
        return max(0.0, fit)
    # where the wholes fit best, either may be the part
    return max(_refined(*aligned) for found_fit, *aligned in found if found_fit >= fit - _ALMOST)


def _refined(pixels: np.ndarray, whole: np.ndarray, window: Window) -> float:
    """The agreement of a window of `pixels` near this one with the whole of another picture."""
    target = _seen(whole, _WHOLE, _FINE_PX)
    wanted, fit = _unit(target.ravel()), -1.0
    for step in _REFINED:
        is_moving = True
        while is_moving:
            fits = [
                (float(_unit(_seen(pixels, near, _FINE_PX).ravel()) @ wanted), near) for near in _near(window, step)
            ]
            best, nearer = max(fits, key=lambda each: each[0])
            is_moving = best > fit + 1e-3
            if is_moving:
                fit, window = best, nearer
    seen = _seen(pixels, window, _FINE_PX)
    details = [[_unit(np.diff(each, axis=axis).ravel()) for each in (seen, target)] for axis in (0, 1)]
    detail = min(float(one @ other) for one, other in details)
    return fit if detail >= max(_LEAST_DETAIL, fit - _DETAIL_LOSS) else 0.0


def _near(window: Window, step: float) -> list[Window]:
    """The window, and those with one side moved, or moved as a whole, by a step along one axis; none leaves the
    picture."""
    moves = ((step, 0.0), (-step, 0.0), (step, -step), (-step, step), (0.0, step), (0.0, -step))
    top, height, left, width = window
    near = [window]
    near += [Window(top + start, height + length, left, width) for start, length in moves]
    near += [Window(top, height, left + start, width + length) for start, length in moves]
    return [
        each
        for each in near
        if min(each.top, each.left) >= -1e-6 and max(each.top + each.height, each.left + each.width) <= 1 + 1e-6
    ]


@cache
def _windows() -> tuple[Window, ...]:
    """The whole, and parts of which a copy may be cropped."""
    return tuple(
        Window(top, side, left, side) for side in _SIDES for top, left in product(_starts(side), _starts(side))
    )


def _starts(side: float) -> list[float]:
    return np.linspace(0, 1 - side, round((1 - side) / _STEP) + 1).tolist()


def _parts(pixels: np.ndarray) -> Float[np.ndarray, "windows points"]:
    """Unit vectors of all `_windows`: those of one size are one product."""
    found = []
    for side in _SIDES:
        starts = _starts(side)
        rows = np.concatenate([_averages(start, side, _COARSE_PX) for start in starts])
        seen = (rows @ pixels @ rows.T).reshape(len(starts), _COARSE_PX, len(starts), _COARSE_PX)
        found.append(seen.transpose(0, 2, 1, 3).reshape(len(starts) ** 2, -1))
    return _unit(np.concatenate(found))


def _seen(pixels: np.ndarray, window: Window, size_px: int) -> Float[np.ndarray, "size size"]:
    """A window as a square of `size_px`."""
    rows = _averages(window.top, window.height, size_px)
    return rows @ pixels @ _averages(window.left, window.width, size_px).T


@lru_cache(2048)  # 25 MB
def _averages_of(start: int, length: int, size_px: int) -> Float[np.ndarray, "size pixels"]:
    edges = (start + length * np.arange(size_px + 1) / size_px) * GREY_PX / _FRACTIONS
    pixel, low, high = np.arange(GREY_PX), edges[:-1, None], edges[1:, None]
    shared = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)
    return (shared / (high - low)).astype(np.float32)


def _averages(start: float, length: float, size_px: int) -> Float[np.ndarray, "size pixels"]:
    """What each of `size_px` points of a part of a side takes of its pixels."""
    return _averages_of(round(start * _FRACTIONS), round(length * _FRACTIONS), size_px)


def _blurred(grey: np.ndarray) -> np.ndarray:
    """The means around each point."""
    for axis in (0, 1):
        widths = [(_BLUR + 1, _BLUR) if each == axis else (0, 0) for each in (0, 1)]
        sums = np.moveaxis(np.pad(grey, widths, "edge").astype(np.float64).cumsum(axis=axis), axis, 0)
        grey = np.moveaxis((sums[2 * _BLUR + 1 :] - sums[: -2 * _BLUR - 1]) / (2 * _BLUR + 1), 0, axis)
    return grey.astype(np.float32)


def _unit(values: np.ndarray) -> np.ndarray:
    """Unit vectors along the last axis, around their means: products are correlations. Of flat ones they are 0."""
    values = values - values.mean(axis=-1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-3)
