"""Pictures that come as numbers: arrays and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from diptych.errors import ArgumentError

WANTED = (
    "Wanted colours (h, w, 3), of a tensor also (3, h, w), or grey (h, w), as uint8 from 0 to 255; colours may be "
    "floats from 0 to 1, too."
)


def is_numbers(source: object) -> bool:
    """Whether this is an array, or a tensor of PyTorch's, without importing that."""
    return isinstance(source, np.ndarray) or all(hasattr(source, name) for name in ("detach", "cpu", "numpy", "ndim"))


def picture_of(source: Any) -> Image.Image:
    """An (h, w, 3) or (h, w) array of uint8, an (h, w, 3) array of floats from 0 to 1, or a tensor of these or of
    (3, h, w) and (1, h, w), PyTorch's order. ValueError says what is wrong with anything else; grey floats are refused,
    for they may as well be vectors."""
    values = source if isinstance(source, np.ndarray) else _array(source)
    if values.size == 0 or not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3)):
        raise ArgumentError(f"Its shape is {values.shape}. {WANTED}")
    if values.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(values))
    if values.dtype.kind != "f" or values.ndim == 2:
        raise ArgumentError(f"It holds {values.dtype}. {WANTED}")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # NaN is neither
        hint = " It looks normalised already: pass it as it was before that." if low < 0 else ""
        raise ArgumentError(f"Its floats go from {low:.4g} to {high:.4g}.{hint} {WANTED}")
    return Image.fromarray(np.rint(values.astype(np.float32) * 255).astype(np.uint8))


def _array(tensor: Any) -> np.ndarray:
    """A tensor's numbers, its colours last; bfloat16, which NumPy lacks, as float32."""
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    values = tensor.numpy()
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] != 3:
        values = np.moveaxis(values, 0, -1)
        return values[:, :, 0] if values.shape[2] == 1 else values
    return values
