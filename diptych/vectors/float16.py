"""Inner products of many float16 rows with one float32 query, read block by block from a memory map.

NumPy converts float16 to float32 one number at a time (84 ms for 100,000 x 256). Integer operations on whole blocks
take a third of that, with NumPy alone.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Float16, Int64

BLOCK_SIZE = 1 << 18  # numbers converted at once: 1 MB of float32, which fits the L2 cache
SHARED_FROM = 1 << 21  # numbers: 1.4 ms on one thread; another that must first get hold of a core or the GIL costs more
SIGN_AND_BITS = np.int32(-0x70002000)  # mask: the sign of a float32, and the 15 bits that a float16 fills
EXPONENT_SCALE = np.float32(2.0**112)  # the exponent biases of float32 and float16 are 127 and 15


def inner_products(
    rows: Float16[np.ndarray, "n d"], query: Float[np.ndarray, " d"], *, subset: Int64[np.ndarray, " m"] | None = None
) -> Float[np.ndarray, " m"]:
    """`rows @ query` in float32, for all rows or for the row numbers `subset`. Rows must be finite.

    The bits of a float16, shifted left by 13, are a float32 that is 2^112 times smaller; the query is scaled to
    compensate.
    """
    bits, scaled_query = rows.view(np.int16), query * EXPONENT_SCALE
    count, length = len(rows) if subset is None else len(subset), rows.shape[1]
    if subset is not None and count and not 0 <= subset.min() <= subset.max() < len(rows):
        raise IndexError(f"rows {subset.min()} to {subset.max()} of {len(rows)}.")  # `take` without a copy does not say
    found = np.empty(count, np.float32)
    step = min(max(1, BLOCK_SIZE // max(1, length)), max(1, count))
    # one block for all, because fresh memory takes longer to get than the numbers to convert
    taken, widened = np.empty((step, length), np.int16), np.empty((step, length), np.int32)
    for start in range(0, count, step):
        end = min(start + step, count)
        wide, block = widened[: end - start], bits[start:end]
        if subset is not None:
            block = np.take(bits, subset[start:end], axis=0, out=taken[: end - start], mode="wrap")
        np.copyto(wide, block)  # sign extension fills the high bits; the mask keeps one
        wide <<= 13
        wide &= SIGN_AND_BITS
        np.dot(wide.view(np.float32), scaled_query, out=found[start:end])
    return found


def exact_inner_products(
    rows: Float16[np.ndarray, "n d"], query: Float[np.ndarray, " d"], subset: Int64[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """Inner products of the row numbers `subset`, summed in float64 and row by row, so that equal rows have equal
    results."""
    return (rows.take(subset, axis=0).astype(np.float64) * query).sum(axis=1).astype(np.float32)


def float_rows(rows: Float16[np.ndarray, "n d"], subset: Int64[np.ndarray, " m"]) -> Float[np.ndarray, "m d"]:
    """The row numbers `subset`, as float32."""
    return rows.take(subset, axis=0).astype(np.float32)


def core_count() -> int:
    """CPU cores that this process may use, at most 8."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, known)


class ThreadGroup:
    """One thread per core, the caller's included, for work that releases the interpreter lock."""

    def __init__(self, count: int):
        self.count = max(1, count)
        self._others = ThreadPoolExecutor(self.count - 1, "nearest") if count > 1 else None

    def run(self, work, parts: list) -> list:
        """Calls `work` on each of at most `count` parts; the results are in the order of the parts."""
        waiting: list[Future] = [self._others.submit(work, part) for part in parts[1:]] if self._others else []
        first = [work(part) for part in (parts[:1] if self._others else parts)]
        return first + [future.result() for future in waiting]

    def inner_products(
        self, rows: np.ndarray, query: np.ndarray, *, subset: np.ndarray | None = None
    ) -> Float[np.ndarray, " m"]:
        """`inner_products`, divided among the threads where they are so many that it pays."""
        count = len(rows) if subset is None else len(subset)
        cuts = np.linspace(0, count, self.count + 1).astype(int)
        if count * rows.shape[1] < SHARED_FROM:
            return inner_products(rows, query, subset=subset)

        def part(span: tuple[int, int]) -> np.ndarray:
            start, end = span
            if subset is None:
                return inner_products(rows[start:end], query)
            return inner_products(rows, query, subset=subset[start:end])

        return np.concatenate(self.run(part, list(pairwise(cuts))))
