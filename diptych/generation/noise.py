"""The noise that pictures begin with, the same for every engine and every version of its library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32

COLOURS = 3


def noise_of(seeds: Sequence[int], size_px: int) -> Float32[np.ndarray, "n 3 size size"]:
    """Normal noise for the picture of each seed, whatever the other seeds are; a seed counts modulo 2^64.

    Philox' bits (Salmon et al. 2011) become normal numbers by Box and Muller 1958, because NumPy promises the same bits
    in later versions, but not the same normal numbers.
    """
    return np.stack([_normal(seed, COLOURS * size_px**2).reshape(COLOURS, size_px, size_px) for seed in seeds])


def _normal(seed: int, count: int) -> np.ndarray:
    half = (count + 1) // 2
    uniform = (np.random.Philox(key=seed % 2**64).random_raw(2 * half) >> np.uint64(11)) * 2.0**-53  # in [0, 1)
    radius, angle = np.sqrt(-2 * np.log1p(-uniform[:half])), 2 * np.pi * uniform[half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count].astype(np.float32)
