"""Numbers of any bit depth as 8 bits: grey and colours of 12, 16, 32 and 64 bits, signed numbers, and floats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from diptych.media.pixels.bands import bands, map_bands, to_array

# Upper ends of the usual ranges, for numbers without a declared one; the smallest that holds them is taken.
_INTEGERS = (255, 1023, 4095, 16383, 65535)
_FLOATS = (1.0, 255.0, 65535.0)
_SAMPLE = 2**20  # evenly spread values, from which the range of more is estimated
_GAMMA = 1 / 2.2


def to_uint8(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits scaled to 8. Other modes are unchanged, except that PA, which Pillow resizes wrongly,
    becomes RGBA."""
    if image.mode in ("I", "F"):  # in mode "I" a program made it from 16 bits
        return Image.fromarray(scaled(to_array(image)))
    if image.mode.startswith("I;16"):  # a declared range
        return map_bands(image, _from_16_bits)
    return map_bands(image, lambda band: band.convert("RGBA")) if image.mode == "PA" else image


def _from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    grey, transparent = scaled(values, full=65535), image.info.get("transparency")
    if isinstance(transparent, int):
        return Image.fromarray(np.stack([grey, np.where(values == transparent, 0, 255).astype(np.uint8)], -1), "LA")
    return Image.fromarray(grey)


class Scale(NamedTuple):
    """The values of black and white, and the exponent between them."""

    low: float
    high: float
    gamma: float = 1.0

    def applied(self, values: np.ndarray) -> np.ndarray:
        """Numbers as uint8 of the same shape. Infinite values and NaN are 0."""
        if (self.low, self.high, values.dtype) == (0, 255, np.uint8):
            return values
        share = (_finite(values).astype(np.float32) - np.float32(self.low)) * np.float32(1 / (self.high - self.low))
        share = np.clip(share, 0, 1) ** np.float32(self.gamma) if self.gamma != 1 else np.clip(share, 0, 1)
        return np.rint(share * 255).astype(np.uint8)


def scaled(values: np.ndarray, *, full: float | None = None) -> np.ndarray:
    """Numbers as uint8 of the same shape, 0 to `full` as 0 to 255. If `full` is None: the smallest of the usual ranges
    that holds the numbers, else their own span without a thousandth at each end. Infinite values and NaN are 0."""
    scale = scale_of(values, full=full)
    if (scale.low, scale.high, values.dtype) == (0, 255, np.uint8):
        return values
    result = np.empty(values.shape, np.uint8)
    for top, bottom in _row_bands(values):
        result[top:bottom] = scale.applied(values[top:bottom])
    return result


def scale_of(values: np.ndarray, *, full: float | None = None) -> Scale:
    """The scale that `scaled` applies to these numbers, to apply it to parts of them."""
    return Scale(0.0, float(full)) if full else _range(values)


def _finite(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "f":
        return values
    return np.nan_to_num(values.astype(np.float32, copy=False), posinf=0, neginf=0)


def _row_bands(values: np.ndarray) -> Iterator[tuple[int, int]]:
    """Bands of rows, by the count of numbers in a row."""
    return bands(values[:1].size, len(values))


def _range(values: np.ndarray) -> Scale:
    if values.dtype == np.uint8:
        return Scale(0, 255)
    if values.dtype.kind == "f":
        return _range_of_floats(values)
    low, high = _span(values)
    full = next((full for full in _INTEGERS if low >= 0 and high <= full), None)
    least, most = np.iinfo(values.dtype).min, np.iinfo(values.dtype).max
    if full is None and max(high, -low) > most // 2:  # it uses the type's whole range
        return Scale(least if low < 0 else 0, most)
    return Scale(low, high) if full is None else Scale(0, full)


def _range_of_floats(values: np.ndarray) -> Scale:
    low, high = _span(values)
    if low < -0.05 * abs(high):
        return Scale(low, high)
    is_light = values.ndim == 3 and high > _FLOATS[0] * 1.05 and _mean(values) < 4
    if is_light:  # linear light: white is somewhere, and highlights are far above it
        return Scale(0, float(np.percentile(_sample(values), 99)), _GAMMA)
    full = next((full for full in _FLOATS if high <= full * 1.05), None)
    is_black = high < 1 / 255  # within the smallest range, so the numbers are of another kind
    return Scale(low, high) if full is None or is_black else Scale(0, full)


def _span(values: np.ndarray) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(_sample(values), (0.1, 99.9)))
    if high <= low:
        ends = [(band.min(), band.max()) for band in (_finite(values[a:b]) for a, b in _row_bands(values))]
        low, high = float(min(low for low, _ in ends)), float(max(high for _, high in ends))
    return low, high if high > low else low + 1


def _mean(values: np.ndarray) -> float:
    return sum(float(_finite(values[a:b]).sum(dtype=np.float64)) for a, b in _row_bands(values)) / values.size


def _sample(values: np.ndarray) -> np.ndarray:
    """Up to _SAMPLE of them, without a copy of all."""
    return _finite(values.flat[:: max(1, values.size // _SAMPLE)])
