"""Inner products of many float16 rows with one float32 query, read from a memory map in pieces.

NumPy turns float16 into float32 one number after another (84 ms for 100,000 x 256). The same by integer operations on
whole pieces takes a third of that, and no library but NumPy, whose import a fresh process has paid for already.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Float16, Int64

PIECE = 1 << 18  # numbers turned into float32 at once: a megabyte, which stays in the second-level cache
SIGN_AND_BITS = np.int32(-0x70002000)  # of a float32: the sign, and where the 15 bits of a half land
LIFT = np.float32(2.0**112)  # between the two exponents' biases, 127 and 15


def products(
    rows: Float16[np.ndarray, "n d"], query: Float[np.ndarray, " d"], *, among: Int64[np.ndarray, " m"] | None = None
) -> Float[np.ndarray, " m"]:
    """`rows @ query` in float32, or that of the rows `among`. Rows must be finite.

    A half's bits moved by 13 places are those of a float32 that is 2^112 times smaller; the query makes up for it.
    """
    bits, lifted = rows.view(np.int16), query * LIFT
    count = len(rows) if among is None else len(among)
    found = np.empty(count, np.float32)
    step = max(1, PIECE // max(1, rows.shape[1]))
    for start in range(0, count, step):
        piece = bits[start : start + step] if among is None else bits.take(among[start : start + step], axis=0)
        wide = piece.astype(np.int32)  # the sign spreads over the high bits; the mask leaves one of them
        wide <<= 13
        wide &= SIGN_AND_BITS
        np.dot(wide.view(np.float32), lifted, out=found[start : start + step])
    return found


def exact_products(
    rows: Float16[np.ndarray, "n d"], query: Float[np.ndarray, " d"], among: Int64[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """The same, summed in float64 and row by row, so that equal rows are equal wherever they lie."""
    return (rows.take(among, axis=0).astype(np.float64) * query).sum(axis=1).astype(np.float32)


def float_rows(rows: Float16[np.ndarray, "n d"], among: Int64[np.ndarray, " m"]) -> Float[np.ndarray, "m d"]:
    """The rows `among`, as float32."""
    return rows.take(among, axis=0).astype(np.float32)


def cores() -> int:
    """Those that this process may use, up to 8."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, known)


class Crew:
    """As many threads as there are cores, of which the caller is one. What they run releases the interpreter."""

    def __init__(self, count: int):
        self.count = max(1, count)
        self._others = ThreadPoolExecutor(self.count - 1, "nearest") if count > 1 else None

    def run(self, work, parts: list) -> list:
        """`work` of each of the parts, of which there are at most `count`, in their order."""
        waiting: list[Future] = [self._others.submit(work, part) for part in parts[1:]] if self._others else []
        first = [work(part) for part in (parts[:1] if self._others else parts)]
        return first + [future.result() for future in waiting]

    def products(
        self, rows: np.ndarray, query: np.ndarray, *, among: np.ndarray | None = None
    ) -> Float[np.ndarray, " m"]:
        """`products`, shared out."""
        count = len(rows) if among is None else len(among)
        cuts = np.linspace(0, count, self.count + 1).astype(int)
        if count * rows.shape[1] < PIECE:
            return products(rows, query, among=among)

        def part(span: tuple[int, int]) -> np.ndarray:
            start, end = span
            if among is None:
                return products(rows[start:end], query)
            return products(rows, query, among=among[start:end])

        return np.concatenate(self.run(part, list(pairwise(cuts))))
