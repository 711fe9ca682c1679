"""Finds which of millions of hashes are near another one, exactly, without comparing all of them.

Multi-index hashing (Norouzi, Punjani and Fleet 2012, section 3): if two hashes of 64 bits differ in at most d bits,
then one of their four bands of 16 bits differs in at most d // 4. So a hash is compared with those that have one of a
few values in one of the bands.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Int64

_BANDS, _WIDTH = 4, 16
_VALUES = 1 << _WIDTH
_TAIL, _TAIL_SHARE = 1 << 14, 16  # hashes that are compared one by one: so many, or this part of all


class HashIndex:
    """Hashes of 64 bits, numbered in the order in which they were added. A million take 28 MB."""

    def __init__(self, max_distance: int):
        """`max_distance` is the most bits in which a hash may differ from one near it, 0 to 15."""
        if not 0 <= max_distance < 4 * _BANDS:
            raise ArgumentError(f"a distance of {max_distance} bits; wanted 0 to {4 * _BANDS - 1}.")
        self.max_distance = max_distance
        self._flips = _flips(max_distance // _BANDS)
        self._hashes = np.zeros(1024, np.uint64)
        self._count = self._sorted = 0
        self._orders = np.zeros((_BANDS, 0), np.int32)  # of each band, the sorted hashes by its values
        self._starts = np.zeros((_BANDS, _VALUES + 1), np.int64)

    def __len__(self) -> int:
        return self._count

    def add(self, value: int) -> None:
        """Add a hash; its number is the count of those before it."""
        if self._count == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
        self._hashes[self._count] = value
        self._count += 1
        if self._count - self._sorted > max(_TAIL, self._count // _TAIL_SHARE):
            self._sort()

    def near(self, value: int) -> tuple[Int64[np.ndarray, " found"], Int64[np.ndarray, " found"]]:
        """The numbers of the hashes within the distance and their distances, the nearest first, then the oldest."""
        wanted = np.uint64(value)
        numbers = np.concatenate([self._candidates(value), np.arange(self._sorted, self._count)])
        distances = np.bitwise_count(self._hashes[numbers] ^ wanted).astype(np.int64)
        is_near = distances <= self.max_distance
        numbers, once = np.unique(numbers[is_near], return_index=True)  # several of its bands may be near
        distances = distances[is_near][once]
        order = np.lexsort((numbers, distances))
        return numbers[order], distances[order]

    def _candidates(self, value: int) -> Int64[np.ndarray, " found"]:
        """Sorted hashes of which one band is near that of `value`, some of them several times."""
        if not self._sorted:
            return np.zeros(0, np.int64)
        found = []
        for band in range(_BANDS):
            values = (value >> band * _WIDTH & _VALUES - 1) ^ self._flips
            starts, stops = self._starts[band][values], self._starts[band][values + 1]
            found.append(self._orders[band][_ranges(starts, stops)])
        return np.concatenate(found).astype(np.int64)

    def _sort(self) -> None:
        hashes = self._hashes[: self._count]
        orders = []
        for band in range(_BANDS):
            values = (hashes >> np.uint64(band * _WIDTH)).astype(np.uint16)
            orders.append(np.argsort(values, kind="stable").astype(np.int32))
            np.cumsum(np.bincount(values, minlength=_VALUES), out=self._starts[band][1:])
        self._orders, self._sorted = np.stack(orders), self._count


def _ranges(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """The numbers from each start to before its stop, one range after another."""
    lengths = stops - starts
    firsts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - firsts, lengths)


def _flips(most: int) -> np.ndarray:
    """The numbers of a band with at most so many bits."""
    several = [bits for count in range(most + 1) for bits in combinations(range(_WIDTH), count)]
    return np.array([sum(1 << bit for bit in bits) for bits in several])
