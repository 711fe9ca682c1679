"""An inverted file: every row is in the cell whose centroid is nearest, and a search reads the nearest cells alone
(Sivic and Zisserman, "Video Google", 2003; Jegou et al., "Product Quantization for Nearest Neighbor Search", 2011,
section IV).

Cells are trained, and rows assigned, on the first principal axes: with 64 of 512 they were as good as with 128, and
cost a fraction of all. The cells of a query are ranked by the codes of the cells' means, with all axes that codes have.
Cells are small (64 rows), because ranking them costs the code of one vector each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diptych.errors import ArgumentError
from diptych.vectors.float16 import float_rows
from diptych.vectors.product_quantizer import FAISS_BLOCK, PackedCodes, ProductQuantiser, single_threaded_faiss

if TYPE_CHECKING:
    from jaxtyping import Float, Float16, Int64, UInt8, UInt16

AXES = 64
ROWS_PER_CELL = 64
LARGEST_COUNT = 1 << 15
CELLS_PER_ROOT = 16  # cells per square root of the rows, at most: training costs rows x cells
TRAINING_ROWS_PER_CELL = 16
AXIS_ROWS = 32_768  # rows that the axes are computed of
STEPS = 6  # of k-means


def cell_count(rows: int) -> int:
    """How many cells that many rows get: a multiple of 32; 0 if they are too few."""
    count = int(min(rows // ROWS_PER_CELL, CELLS_PER_ROOT * rows**0.5, LARGEST_COUNT)) // FAISS_BLOCK * FAISS_BLOCK
    return count if count >= 2 * FAISS_BLOCK else 0


def is_cell_count(count: int) -> bool:
    """Whether an index may have so many cells."""
    return 2 * FAISS_BLOCK <= count <= LARGEST_COUNT and count % FAISS_BLOCK == 0


def axis_count(dim: int) -> int:
    """How many principal axes are used of vectors of that length."""
    return min(dim, AXES)


@dataclass(frozen=True)
class CellCentroids:
    """`axes` (d, a) are orthonormal, `centroids` (cells, a) are means of vectors on these axes; float32."""

    axes: np.ndarray
    centroids: np.ndarray

    @classmethod
    def train(cls, rows: Float16[np.ndarray, "n d"], count: int) -> CellCentroids:
        """k-means of some of these rows, which are at least `count`."""
        import faiss

        generator = np.random.default_rng(2)
        chosen = generator.choice(len(rows), min(len(rows), TRAINING_ROWS_PER_CELL * count), replace=False)
        sample = float_rows(rows, np.sort(chosen[:AXIS_ROWS]))
        centred = sample - sample.mean(axis=0)
        _, axes = np.linalg.eigh(centred.T @ centred / len(centred))
        axes = np.ascontiguousarray(axes[:, ::-1][:, : axis_count(rows.shape[1])], np.float32)
        parts = np.array_split(np.sort(chosen), -(-len(chosen) // AXIS_ROWS))
        projected = np.concatenate([float_rows(rows, part) @ axes for part in parts])
        clustering = faiss.Clustering(axes.shape[1], count)
        clustering.niter, clustering.seed = STEPS, 1
        clustering.min_points_per_centroid = 1  # suppresses a warning on stderr
        clustering.max_points_per_centroid = len(projected)  # all, for they are a sample already
        with single_threaded_faiss():
            clustering.train(projected, faiss.IndexFlatL2(axes.shape[1]))
        return cls(axes, faiss.vector_to_array(clustering.centroids).reshape(count, -1))

    def to_array(self) -> Float[np.ndarray, " numbers"]:
        """All parameters as one array."""
        return np.concatenate([self.axes.ravel(), self.centroids.ravel()]).astype("<f4")

    @classmethod
    def from_array(cls, numbers: Float[np.ndarray, " numbers"], *, dim: int, count: int) -> CellCentroids:
        """The inverse of `to_array`. Raises ValueError for another length and for numbers that are not finite."""
        axes = axis_count(dim)
        if len(numbers) != (dim + count) * axes or not np.isfinite(numbers).all():
            raise ArgumentError("the centroids of the cells have another number, or are not finite")
        first, second = np.split(numbers, [dim * axes])
        return cls(first.reshape(dim, axes), second.reshape(count, axes))

    def assign(self, vectors: Float[np.ndarray, "n d"]) -> UInt16[np.ndarray, " n"]:
        """The cell of each vector."""
        import faiss

        index = faiss.IndexFlatL2(self.axes.shape[1])
        index.add(np.ascontiguousarray(self.centroids))
        with single_threaded_faiss():
            _, nearest = index.search(np.ascontiguousarray(vectors @ self.axes), 1)
        return nearest[:, 0].astype(np.uint16)


class CellMeans:
    """Sums of rotated vectors by cell, while rows are assigned."""

    def __init__(self, quantiser: ProductQuantiser, count: int):
        self._quantiser = quantiser
        self._sums = np.zeros((count, quantiser.rotation.shape[1]), np.float32)
        self._counts = np.zeros(count, np.int64)

    def add(self, rotated: Float[np.ndarray, "n rotated"], cells: UInt16[np.ndarray, " n"]) -> None:
        """Vectors without the quantiser's mean, after its rotation, and their cells."""
        order = np.argsort(cells, kind="stable")
        found, starts = np.unique(cells[order], return_index=True)
        self._sums[found] += np.add.reduceat(rotated[order], starts, axis=0)
        self._counts += np.bincount(cells, minlength=len(self._counts))

    def codes(self) -> UInt8[np.ndarray, "cells bytes"]:
        """The codes of the means; an empty cell has that of zero."""
        return self._quantiser.encode_rotated(self._sums / np.maximum(self._counts, 1)[:, None])


class Cells:
    """The rows of each cell, and the codes by which a query ranks the cells."""

    def __init__(
        self, quantiser: ProductQuantiser, codes: UInt8[np.ndarray, "cells bytes"], of_rows: UInt16[np.ndarray, " n"]
    ):
        """Raises ValueError if a row's cell does not exist."""
        self._codes, self.of_rows = PackedCodes(quantiser, codes), of_rows
        counts = np.bincount(of_rows, minlength=len(codes))
        if len(counts) > len(codes):
            raise ArgumentError(f"a row is in cell {len(counts) - 1} of {len(codes)}")
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._rows = np.argsort(of_rows, kind="stable").astype(np.int32)  # a radix sort: 10 ms for a million

    @property
    def count(self) -> int:
        """The number of cells."""
        return len(self._starts) - 1

    def nearest(self, rotated: Float[np.ndarray, " rotated"], count: int) -> Int64[np.ndarray, " m"]:
        """The nearest cells, best first. `rotated` is the query after the quantiser's rotation."""
        return self._codes.search(rotated, count)

    def rows(self, cells: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " n"]:
        """The rows of these cells."""
        starts = self._starts[cells]
        lengths = self._starts[cells + 1] - starts
        ends = np.cumsum(lengths)
        if not len(ends):
            return np.empty(0, np.int64)
        return self._rows.take(np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1])).astype(np.int64)
