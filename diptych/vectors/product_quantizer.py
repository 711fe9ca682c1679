"""Product quantisation with 4-bit codes, so that a million vectors are searched in milliseconds.

The mean is subtracted and the vector is rotated to its principal axes (Jegou et al., "Product Quantization for Nearest
Neighbor Search", 2011); the axes of least variance are dropped. The others are assigned to subvectors so that each
subvector has about the same product of variances (Ge et al., "Optimized Product Quantization", 2013, section 3.2.2).
FAISS compares 32 codes at a time by register shuffles (Andre et al., "Cache locality is not enough", 2015).

Training does not use the queries: rotating and scaling by their covariance, which would minimise the error of a score,
gave lower recall when measured.
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

FAISS_BLOCK = 32  # vectors that FAISS packs into one block of codes
CENTROIDS = 16  # per subvector, k* = 16: 4 bits
SUBVECTOR_DIM = 4  # rotated dimensions of a subvector
ROWS_PER_THREAD = 65_536  # fewer rows are not worth another thread


@dataclass(frozen=True)
class ProductQuantiser:
    """A trained quantiser, float32. A code takes subvectors / 2 bytes.

    `mean` (d,) is mu, `rotation` (d, rotated dim) is R, `centroids` (subvectors, 16, rotated dim / subvectors) is c_ij;
    the number of subvectors is M in the papers.
    """

    mean: np.ndarray
    rotation: np.ndarray
    centroids: np.ndarray

    @classmethod
    def train(cls, vectors: Float[np.ndarray, "n d"], *, subvectors: int) -> ProductQuantiser:
        """Train on some thousands of vectors. `subvectors` is even and at most d / 4."""
        import faiss

        mean = vectors.mean(axis=0)
        centred = vectors - mean
        rotated_dim = subvectors * SUBVECTOR_DIM
        variances, rotation = np.linalg.eigh(centred.T @ centred / len(centred))
        variances, rotation = variances[::-1][:rotated_dim], rotation[:, ::-1][:, :rotated_dim]
        rotation = np.ascontiguousarray(rotation[:, balanced_axes(variances, subvectors)], np.float32)
        product = faiss.ProductQuantizer(rotated_dim, subvectors, 4)
        product.cp.seed = 1
        product.cp.min_points_per_centroid = 1  # suppresses a warning on stderr for small sets
        with single_threaded_faiss():
            product.train(np.ascontiguousarray(centred @ rotation))
        centroids = faiss.vector_to_array(product.centroids).reshape(subvectors, CENTROIDS, SUBVECTOR_DIM)
        return cls(mean, rotation, centroids)

    @property
    def subvectors(self) -> int:
        """The number of subvectors, M."""
        return len(self.centroids)

    def to_array(self) -> Float[np.ndarray, " numbers"]:
        """All parameters as one array."""
        return np.concatenate([self.mean, self.rotation.ravel(), self.centroids.ravel()]).astype("<f4")

    @classmethod
    def from_array(cls, numbers: Float[np.ndarray, " numbers"], *, dim: int, subvectors: int) -> ProductQuantiser:
        """The inverse of `to_array`. Raises ValueError for another length and for numbers that are not finite."""
        if not np.isfinite(numbers).all():
            raise ArgumentError("the quantiser contains numbers that are not finite")
        rotated_dim = subvectors * SUBVECTOR_DIM
        mean, rotation, centroids = np.split(numbers, [dim, dim + dim * rotated_dim])
        return cls(mean, rotation.reshape(dim, rotated_dim), centroids.reshape(subvectors, CENTROIDS, SUBVECTOR_DIM))

    def encode(self, vectors: Float[np.ndarray, "n d"]) -> UInt8[np.ndarray, " bytes"]:
        """Codes in FAISS's order. n is a multiple of 32, so the codes of several calls can be concatenated."""
        import faiss

        index = self._index()
        index.add(np.ascontiguousarray((vectors - self.mean) @ self.rotation))
        return faiss.AlignedTable_to_array(index.codes)[: len(vectors) * self.subvectors // 2].copy()

    def scores(self, queries: Float[np.ndarray, "m d"], vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "m n"]:
        """Inner products with the decoded vectors, without the product with the mean, which is the same for all."""
        index = self._index()  # keep a reference: `pq` is freed with the index
        rotated = np.ascontiguousarray((vectors - self.mean) @ self.rotation)
        return (queries @ self.rotation) @ index.pq.decode(index.pq.compute_codes(rotated)).T

    def _index(self) -> Any:
        """An empty FAISS index with these centroids."""
        import faiss

        index = faiss.IndexPQFastScan(self.subvectors * SUBVECTOR_DIM, self.subvectors, 4, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(np.ascontiguousarray(self.centroids.ravel()), index.pq.centroids)
        index.is_trained = True
        return index

    def packed_codes(self, codes: UInt8[np.ndarray, " bytes"]) -> PackedCodes:
        """Codes copied into memory, ready for a search."""
        import faiss

        index = self._index()
        count = len(codes) * 2 // self.subvectors
        faiss.copy_array_to_AlignedTable(np.ascontiguousarray(codes), index.codes)
        index.ntotal = index.ntotal2 = count
        return PackedCodes(self, index, count)


@dataclass
class PackedCodes:
    """The codes of some rows, in memory."""

    quantiser: ProductQuantiser
    index: Any
    count: int

    def extend(self, codes: UInt8[np.ndarray, " bytes"]) -> None:
        """Append codes. The existing ones are copied only if the memory has to grow."""
        import faiss

        before, size = self.index.codes.size(), self.index.codes.size() + len(codes)
        self.index.codes.resize(size)
        faiss.rev_swig_ptr(self.index.codes.get(), size)[before:] = codes
        self.count += len(codes) * 2 // self.quantiser.subvectors
        self.index.ntotal = self.index.ntotal2 = self.count

    def search(self, rotated: Float[np.ndarray, " rotated"], count: int) -> Int64[np.ndarray, " m"]:
        """At most `count` rows with the best approximate scores, unordered. `rotated` is the query after the
        quantiser's rotation."""
        wanted = min(count, self.count)
        if not wanted:
            return np.empty(0, np.int64)
        with single_threaded_faiss():  # the caller runs one thread per block of codes
            _, rows = self.index.search(rotated[None], wanted)
        return rows[0][rows[0] >= 0]


@contextmanager
def single_threaded_faiss() -> Iterator[None]:
    """Run FAISS on one thread.

    k-means takes thousands of steps of 0.01 ms, and FAISS's threads wait for each other after each: on a busy machine
    two threads took five times as long as one.
    """
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def balanced_axes(variances: Float[np.ndarray, " rotated"], subvectors: int) -> list[int]:
    """The order of the axes: each axis goes to the subvector with the smallest product of variances that still has
    room."""
    logs = np.log(np.maximum(variances, variances[0] * 1e-9 + 1e-30))
    logs -= logs.min() - 1e-3  # makes every logarithm positive
    groups: list[list[int]] = [[] for _ in range(subvectors)]
    log_variances = np.zeros(subvectors)
    for axis, log in enumerate(logs):
        group = int(log_variances.argmin())
        groups[group].append(axis)
        log_variances[group] = log_variances[group] + log if len(groups[group]) < SUBVECTOR_DIM else np.inf
    return [axis for group in groups for axis in group]


def split_codes(quantiser: ProductQuantiser, codes: np.ndarray, threads: int) -> list[PackedCodes]:
    """Codes divided into blocks, one for each thread that pays off."""
    group = FAISS_BLOCK * quantiser.subvectors // 2
    groups = len(codes) // group
    count = max(1, min(threads, groups * FAISS_BLOCK // ROWS_PER_THREAD))
    cuts = np.linspace(0, groups, count + 1).astype(int) * group
    return [quantiser.packed_codes(codes[start:end]) for start, end in pairwise(cuts)]
