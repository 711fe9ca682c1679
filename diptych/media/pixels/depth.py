"""Numbers of any depth as 8 bits: grey and colours of 12, 16, 32 and 64 bits, signed, and floats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from diptych.media.pixels.bands import bands, changed, numbers

# The ranges that numbers without a declared one usually have; the smallest that holds them is taken.
_WHOLE = (255, 1023, 4095, 16383, 65535)
_REAL = (1.0, 255.0, 65535.0)
_SAMPLE = 2**20  # values, evenly spread, that tell the range of more
_GAMMA = 1 / 2.2


def eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits scaled to 8; any other mode as it is, but for PA, which Pillow resizes wrongly."""
    if image.mode in ("I", "F"):  # grey in "I" is what a program made of sixteen bits
        values = numbers(image)
        return Image.fromarray(scaled(values))
    if image.mode.startswith("I;16"):  # a declared range
        return changed(image, _of_sixteen)
    return changed(image, lambda part: part.convert("RGBA")) if image.mode == "PA" else image


def _of_sixteen(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    grey, clear = scaled(values, full=65535), image.info.get("transparency")
    if isinstance(clear, int):
        return Image.fromarray(np.stack([grey, np.where(values == clear, 0, 255).astype(np.uint8)], -1), "LA")
    return Image.fromarray(grey)


class Scale(NamedTuple):
    """What is black, what is white, and the exponent between."""

    low: float
    high: float
    gamma: float = 1.0

    def applied(self, values: np.ndarray) -> np.ndarray:
        """Numbers as uint8 of the same shape. What is not finite is 0."""
        if (self.low, self.high, values.dtype) == (0, 255, np.uint8):
            return values
        share = (_finite(values).astype(np.float32) - np.float32(self.low)) * np.float32(1 / (self.high - self.low))
        share = np.clip(share, 0, 1) ** np.float32(self.gamma) if self.gamma != 1 else np.clip(share, 0, 1)
        return np.rint(share * 255).astype(np.uint8)


def scaled(values: np.ndarray, *, full: float | None = None) -> np.ndarray:
    """Numbers as uint8 of the same shape, 0 to `full` as 0 to 255. Where `full` is None: the smallest of the usual
    ranges that holds the numbers, else their own span, but for a thousandth at each end. What is not finite is 0."""
    scale = scale_of(values, full=full)
    if (scale.low, scale.high, values.dtype) == (0, 255, np.uint8):
        return values
    eight = np.empty(values.shape, np.uint8)
    for top, bottom in _parts(values):
        eight[top:bottom] = scale.applied(values[top:bottom])
    return eight


def scale_of(values: np.ndarray, *, full: float | None = None) -> Scale:
    """What `scaled` does to these numbers, to be done to parts of them."""
    return Scale(0.0, float(full)) if full else _range(values)


def _finite(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "f":
        return values
    return np.nan_to_num(values.astype(np.float32, copy=False), posinf=0, neginf=0)


def _parts(values: np.ndarray) -> Iterator[tuple[int, int]]:
    """Bands of rows, by how many numbers there are in one."""
    return bands(values[:1].size, len(values))


def _range(values: np.ndarray) -> Scale:
    if values.dtype == np.uint8:
        return Scale(0, 255)
    if values.dtype.kind == "f":
        return _range_of_reals(values)
    low, high = _span(values)
    full = next((full for full in _WHOLE if low >= 0 and high <= full), None)
    least, most = np.iinfo(values.dtype).min, np.iinfo(values.dtype).max
    if full is None and max(high, -low) > most // 2:  # it makes use of all that the type holds
        return Scale(least if low < 0 else 0, most)
    return Scale(low, high) if full is None else Scale(0, full)


def _range_of_reals(values: np.ndarray) -> Scale:
    low, high = _span(values)
    if low < -0.05 * abs(high):
        return Scale(low, high)
    is_light = values.ndim == 3 and high > _REAL[0] * 1.05 and _mean(values) < 4
    if is_light:  # light itself, in which white is somewhere and the brightest far above
        return Scale(0, float(np.percentile(_some(values), 99)), _GAMMA)
    full = next((full for full in _REAL if high <= full * 1.05), None)
    is_black = high < 1 / 255  # of the smallest range, so these are numbers of another kind
    return Scale(low, high) if full is None or is_black else Scale(0, full)


def _span(values: np.ndarray) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(_some(values), (0.1, 99.9)))
    if high <= low:
        ends = [(part.min(), part.max()) for part in (_finite(values[a:b]) for a, b in _parts(values))]
        low, high = float(min(low for low, _ in ends)), float(max(high for _, high in ends))
    return low, high if high > low else low + 1


def _mean(values: np.ndarray) -> float:
    return sum(float(_finite(values[a:b]).sum(dtype=np.float64)) for a, b in _parts(values)) / values.size


def _some(values: np.ndarray) -> np.ndarray:
    """Without a copy of all of them, wherever they lie."""
    return _finite(values.flat[:: max(1, values.size // _SAMPLE)])
