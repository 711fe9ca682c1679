"""Draws a sample of ids by a hash of each, so that a set that changes little, or lies elsewhere, has nearly the same
sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt64

_STEP = np.uint64(0x9E3779B97F4A7C15)


def hashes(ids: Int64[np.ndarray, " n"], *, seed: int = 0) -> UInt64[np.ndarray, " n"]:
    """A number for each id: the smallest ones are drawn. It is the finaliser of SplitMix64 (Steele et al., "Fast
    splittable pseudorandom number generators", 2014)."""
    numbers = ids.astype(np.uint64) + np.uint64(seed) * _STEP
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def drawn(ids: Int64[np.ndarray, " n"], count: int, *, seed: int = 0) -> Int64[np.ndarray, " m"]:
    """At most `count` of these ids, ascending, drawn uniformly."""
    return np.sort(ids[np.argsort(hashes(ids, seed=seed), kind="stable")[:count]])
