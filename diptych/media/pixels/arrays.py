"""Pictures given as arrays or tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from diptych.errors import ArgumentError

WANTED = (
    "Wanted colours (h, w, 3) or (3, h, w), optionally with alpha as a fourth channel, or grey (h, w), as uint8 "
    "from 0 to 255; colours may also be floats from 0 to 1."
)
_CHANNELS = (1, 3, 4)  # grey; red, green, blue; these with alpha


def is_array(source: object) -> bool:
    """Whether this is an array or a PyTorch tensor. Does not import PyTorch."""
    return isinstance(source, np.ndarray) or all(hasattr(source, name) for name in ("detach", "cpu", "numpy", "ndim"))


def as_array(source: Any) -> np.ndarray:
    """An array unchanged, or a tensor as an array; bfloat16, which NumPy lacks, becomes float32."""
    if isinstance(source, np.ndarray):
        return source
    tensor = source.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def picture_of(source: Any) -> Image.Image:
    """The picture of grey (h, w) uint8, or of colours (h, w, 1 or 3 or 4) as uint8 or floats from 0 to 1, channels last
    or first as in PyTorch. Raises ArgumentError for anything else, grey floats included: they may be vectors."""
    values = _colours_last(as_array(source))
    if values.size == 0 or not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))):
        raise ArgumentError(f"Its shape is {values.shape}. {WANTED}")
    if values.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(values))
    if values.dtype.kind != "f" or values.ndim == 2:
        raise ArgumentError(f"It holds {values.dtype}. {WANTED}")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # NaN is neither
        hint = " It looks normalised already: pass the picture before normalisation." if low < 0 else ""
        raise ArgumentError(f"Its floats go from {low:.4g} to {high:.4g}.{hint} {WANTED}")
    return Image.fromarray(np.rint(values.astype(np.float32) * 255).astype(np.uint8))


def _colours_last(values: np.ndarray) -> np.ndarray:
    """Channels last; grey without its third axis."""
    if values.ndim == 3 and values.shape[0] in _CHANNELS and values.shape[2] not in _CHANNELS:
        values = np.moveaxis(values, 0, -1)
    return values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
