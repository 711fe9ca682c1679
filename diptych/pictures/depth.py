"""Numbers of any depth as 8 bits: grey and colours of 12, 16, 32 and 64 bits, signed, and floats."""

from __future__ import annotations

import numpy as np
from PIL import Image

# The ranges that numbers without a declared one usually have; the smallest that holds them is taken.
_WHOLE = (255, 1023, 4095, 16383, 65535)
_REAL = (1.0, 255.0, 65535.0)
_SAMPLE = 2**20  # values, evenly spread, that tell the range of more
_GAMMA = 1 / 2.2


def eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits scaled to 8; any other mode as it is, but for PA, which Pillow resizes wrongly."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image.convert("RGBA") if image.mode == "PA" else image
    values = np.asarray(image)
    # Sixteen bits are a declared range, and grey in "I" is what a program made of one.
    grey = scaled(values, full=65535 if image.mode not in ("I", "F") else None)
    clear = image.info.get("transparency")
    if isinstance(clear, int) and image.mode.startswith("I;16"):
        return Image.fromarray(np.stack([grey, np.where(values == clear, 0, 255).astype(np.uint8)], -1), "LA")
    return Image.fromarray(grey)


def scaled(values: np.ndarray, *, full: float | None = None) -> np.ndarray:
    """Numbers as uint8 of the same shape, 0 to `full` as 0 to 255. Where `full` is None: the smallest of the usual
    ranges that holds the numbers, else their own span, but for a thousandth at each end. What is not finite is 0."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values.astype(np.float32, copy=False), posinf=0, neginf=0)
    low, high, gamma = (0.0, float(full), 1.0) if full else _range(values)
    if (low, high, values.dtype) == (0, 255, np.uint8):
        return values
    share = (values.astype(np.float32) - np.float32(low)) * np.float32(1 / (high - low))
    share = np.clip(share, 0, 1) ** np.float32(gamma) if gamma != 1 else np.clip(share, 0, 1)
    return np.rint(share * 255).astype(np.uint8)


def _range(values: np.ndarray) -> tuple[float, float, float]:
    """What is black, what is white, and the exponent between."""
    if values.dtype == np.uint8:
        return 0, 255, 1
    if values.dtype.kind == "f":
        return _range_of_reals(values)
    low, high, _ = _span(values)
    full = next((full for full in _WHOLE if low >= 0 and high <= full), None)
    least, most = np.iinfo(values.dtype).min, np.iinfo(values.dtype).max
    if full is None and max(high, -low) > most // 2:  # it makes use of all that the type holds
        return least if low < 0 else 0, most, 1
    return (low, high, 1) if full is None else (0, full, 1)


def _range_of_reals(values: np.ndarray) -> tuple[float, float, float]:
    low, high, _ = _span(values)
    if low < -0.05 * abs(high):
        return low, high, 1
    is_light = values.ndim == 3 and high > _REAL[0] * 1.05 and float(values.mean()) < 4
    if is_light:  # light itself, in which white is somewhere and the brightest far above
        return 0, float(np.percentile(_some(values), 99)), _GAMMA
    full = next((full for full in _REAL if high <= full * 1.05), None)
    is_black = high < 1 / 255  # of the smallest range, so these are numbers of another kind
    return (low, high, 1) if full is None or is_black else (0, full, 1)


def _span(values: np.ndarray) -> tuple[float, float, float]:
    low, high = (float(value) for value in np.percentile(_some(values), (0.1, 99.9)))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1, 1


def _some(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(-1)
    return flat[:: max(1, flat.size // _SAMPLE)]
