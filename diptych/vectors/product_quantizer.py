"""Vectors as a few 4-bit letters each, so that a million are looked through in milliseconds (product quantisation).

A vector less the mean is turned to its principal axes (Jegou et al., "Product Quantization for Nearest Neighbor
Search", 2011), of which those of least variance are left out; they are dealt to the letters so that each carries as
much variance, in the product, as the next (Ge et al., "Optimized Product Quantization", 2013, section 3.2.2). FAISS
looks through the letters 32 vectors at a time by shuffles of registers (Andre et al., "Cache locality is not enough",
2015).

Queries play no part in it: rotating and scaling by the covariance of the queries, which is what the error of a score
asks for, was measured and found fewer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Float, Int64, UInt8

GROUP = 32  # vectors that FAISS packs together
LETTERS = 16  # 4 bits
AXES = 4  # of the turned space, to one letter
PER_SCAN = 65_536  # rows that are worth a thread of their own


@dataclass(frozen=True)
class Quantiser:
    """`mean` (d,), `axes` (d, kept), `letters` (pieces, 16, kept / pieces): float32. A vector's code is pieces / 2
    bytes long."""

    mean: np.ndarray
    axes: np.ndarray
    letters: np.ndarray

    @classmethod
    def train(cls, vectors: Float[np.ndarray, "n d"], *, pieces: int) -> Quantiser:
        """Fit to some thousands of vectors. `pieces` is even, and 4 of them are at most d."""
        import faiss

        mean = vectors.mean(axis=0)
        centred = vectors - mean
        kept = pieces * AXES
        variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
        variances, axes = variances[::-1][:kept], axes[:, ::-1][:, :kept]
        axes = np.ascontiguousarray(axes[:, dealt(variances, pieces)], np.float32)
        product = faiss.ProductQuantizer(kept, pieces, 4)
        product.cp.seed = 1
        product.cp.min_points_per_centroid = 1  # or it warns on stderr of small sets
        with one_thread():
            product.train(np.ascontiguousarray(centred @ axes))
        letters = faiss.vector_to_array(product.centroids).reshape(pieces, LETTERS, AXES)
        return cls(mean, axes, letters)

    @property
    def pieces(self) -> int:
        """Letters in a code."""
        return len(self.letters)

    def to_array(self) -> Float[np.ndarray, " numbers"]:
        """All of it in one row."""
        return np.concatenate([self.mean, self.axes.ravel(), self.letters.ravel()]).astype("<f4")

    @classmethod
    def from_array(cls, numbers: Float[np.ndarray, " numbers"], *, dim: int, pieces: int) -> Quantiser:
        """What `to_array` wrote. Raises ValueError on another length, and on what is no number."""
        if not np.isfinite(numbers).all():
            raise ArgumentError("a quantiser holds what is no number")
        kept = pieces * AXES
        mean, axes, letters = np.split(numbers, [dim, dim + dim * kept])
        return cls(mean, axes.reshape(dim, kept), letters.reshape(pieces, LETTERS, AXES))

    def packed(self, vectors: Float[np.ndarray, "n d"]) -> UInt8[np.ndarray, " bytes"]:
        """Codes in FAISS's order; n is a multiple of 32, so that codes of several calls can be put end to end."""
        import faiss

        index = self._index()
        index.add(np.ascontiguousarray((vectors - self.mean) @ self.axes))
        return faiss.AlignedTable_to_array(index.codes)[: len(vectors) * self.pieces // 2].copy()

    def scores(self, queries: Float[np.ndarray, "m d"], vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "m n"]:
        """Inner products as the codes have them, less what is the same for all vectors."""
        index = self._index()  # held, for its `pq` is a part of it and goes with it
        turned = np.ascontiguousarray((vectors - self.mean) @ self.axes)
        return (queries @ self.axes) @ index.pq.decode(index.pq.compute_codes(turned)).T

    def _index(self) -> Any:
        """FAISS's empty index of these letters."""
        import faiss

        index = faiss.IndexPQFastScan(self.pieces * AXES, self.pieces, 4, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(np.ascontiguousarray(self.letters.ravel()), index.pq.centroids)
        index.is_trained = True
        return index

    def scan(self, codes: UInt8[np.ndarray, " bytes"]) -> Scan:
        """Codes ready to be looked through, copied into memory."""
        import faiss

        index = self._index()
        count = len(codes) * 2 // self.pieces
        faiss.copy_array_to_AlignedTable(np.ascontiguousarray(codes), index.codes)
        index.ntotal = index.ntotal2 = count
        return Scan(self, index, count)


@dataclass
class Scan:
    """Some rows' codes, in memory."""

    quantiser: Quantiser
    index: Any
    count: int

    def extend(self, codes: UInt8[np.ndarray, " bytes"]) -> None:
        """Further rows at the end, without a copy of those that are there (but when the memory must grow)."""
        import faiss

        before, size = self.index.codes.size(), self.index.codes.size() + len(codes)
        self.index.codes.resize(size)
        faiss.rev_swig_ptr(self.index.codes.get(), size)[before:] = codes
        self.count += len(codes) * 2 // self.quantiser.pieces
        self.index.ntotal = self.index.ntotal2 = self.count

    def best(self, turned: Float[np.ndarray, " kept"], count: int) -> Int64[np.ndarray, " m"]:
        """The rows whose codes promise most, at most `count` of them, in no order. `turned` is the query on the
        quantiser's axes."""
        wanted = min(count, self.count)
        if not wanted:
            return np.empty(0, np.int64)
        with one_thread():  # the caller has threads of its own
            _, rows = self.index.search(turned[None], wanted)
        return rows[0][rows[0] >= 0]


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS on one thread, for whoever calls from this one.

    Fitting letters is thousands of steps of a hundredth of a millisecond, at each of which its threads wait for one
    another: on a machine that does other things as well, two took five times as long as one.
    """
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def dealt(variances: Float[np.ndarray, " kept"], pieces: int) -> list[int]:
    """Which axis goes where: each in turn to the piece with the least product so far that has room."""
    logs = np.log(np.maximum(variances, variances[0] * 1e-9 + 1e-30))
    logs -= logs.min() - 1e-3  # from here on every axis counts for something
    hands: list[list[int]] = [[] for _ in range(pieces)]
    held = np.zeros(pieces)
    for axis, log in enumerate(logs):
        hand = int(held.argmin())
        hands[hand].append(axis)
        held[hand] = held[hand] + log if len(hands[hand]) < AXES else np.inf
    return [axis for hand in hands for axis in hand]


def scans_of(quantiser: Quantiser, codes: np.ndarray, threads: int) -> list[Scan]:
    """Codes shared out, a scan for each thread that is worth it."""
    group = GROUP * quantiser.pieces // 2
    groups = len(codes) // group
    count = max(1, min(threads, groups * GROUP // PER_SCAN))
    cuts = np.linspace(0, groups, count + 1).astype(int) * group
    return [quantiser.scan(codes[start:end]) for start, end in pairwise(cuts)]
