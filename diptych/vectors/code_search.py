"""Search by codes: which rows of an approximate index are worth an exact comparison.

Without a filter these are the best codes of the nearest cells. With one they are the allowed ones among them, of more
cells the fewer rows are allowed; if few are, the best of their own codes. Where cells do not pay, the codes of all rows
are read.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from diptych.errors import VectorFilesError
from diptych.vectors.cells import CellCentroids, Cells
from diptych.vectors.effort import MARGIN, Effort, by_depth, depth_of
from diptych.vectors.float16 import ThreadGroup
from diptych.vectors.product_quantizer import PackedCodes, ProductQuantiser, split_codes
from diptych.vectors.vector_files import VectorFiles

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float16, Int64

GATHERING = 16  # reading a row's code alone costs as much as reading so many among all
MAX_FILTERED_EXACT = 16_384  # filtered rows: codes find it hard if these are alike and differ from the query
ATTEMPTS = 4  # each reads what is four times as deep
ENCODE_BLOCK = 16_384


class CodeSearch:
    """The codes of an approximate index. Threads may search at once."""

    def __init__(self, files: VectorFiles, threads: ThreadGroup):
        """Raises VectorFilesError if a file is damaged, ValueError if its content is invalid, ImportError without
        FAISS: here, and not at the first search, so that the index is built again without it."""
        import faiss  # noqa: F401

        facts = files.header.facts
        self._files, self._threads = files, threads
        self._effort, self._cell_count = Effort.of(facts), int(facts["cells"])
        self._quantiser = ProductQuantiser.from_array(
            files.content("quantiser").view("<f4"), dim=files.header.dim, subvectors=int(facts["pieces"])
        )
        self._map()
        if self._cell_count:
            self._centroids = CellCentroids.from_array(
                files.content("centroids").view("<f4"), dim=files.header.dim, count=self._cell_count
            )
            files.checked_content("means", self._cell_count * self._codes.shape[1])
            if (self._of_rows >= self._cell_count).any():
                raise VectorFilesError(f"{files.path('cells')}: a row is in an unknown cell; build the cache again.")

    def _map(self, *, trusted: bool = False) -> None:
        """Map codes and cells of all rows."""
        width, rows = self._quantiser.subvectors // 2, self._files.header.rows
        self._codes = self._files.checked_content("codes", rows * width, trusted=trusted).reshape(rows, width)
        if self._cell_count:
            self._of_rows = self._files.checked_content("cells", rows * 2, trusted=trusted).view("<u2")

    @cached_property
    def _cells(self) -> Cells:
        means = self._files.content("means").reshape(self._cell_count, -1)
        return Cells(self._quantiser, means, self._of_rows)

    @cached_property
    def _parts(self) -> list[PackedCodes]:
        """The codes of all rows, for each thread a part."""
        return split_codes(self._quantiser, self._codes, self._threads.count)

    def append(self, vectors: Float16[np.ndarray, "n d"]) -> None:
        """Write codes and cells of rows that were appended; they are found after `refresh`."""
        for start in range(0, len(vectors), ENCODE_BLOCK):
            block = vectors[start : start + ENCODE_BLOCK].astype(np.float32)
            self._files.append("codes", self._quantiser.encode(block))
            if self._cell_count:
                self._files.append("cells", self._centroids.assign(block))

    def refresh(self) -> None:
        """Map what was appended."""
        self._map(trusted=True)
        self.__dict__.pop("_cells", None)
        if parts := self.__dict__.get("_parts"):
            parts[-1].extend(self._codes[sum(part.count for part in parts[:-1]) :])

    def candidates(
        self,
        query: Float[np.ndarray, " d"],
        k: int,
        *,
        allowed: Int64[np.ndarray, " m"] | None,
        is_allowed: Bool[np.ndarray, " n"] | None,
        count: int,
    ) -> Int64[np.ndarray, " c"] | None:
        """The rows to compare exactly; None if comparing all allowed ones is better.

        `count` rows may be results: `allowed` with a filter, and those of `is_allowed` where it is given.
        """
        rotated, share = query @ self._quantiser.rotation, count / len(self._codes)
        if allowed is not None and len(allowed) * GATHERING < len(self._codes):
            return self._best(rotated, allowed, self._effort.filtered_candidates(k, share))
        if allowed is not None and len(allowed) <= MAX_FILTERED_EXACT:
            return None
        rows = self._of_cells(rotated, k, allowed, is_allowed, count)
        return self._of_all(rotated, k, is_allowed, count) if rows is None else rows

    def _of_cells(
        self, rotated: np.ndarray, k: int, allowed: np.ndarray | None, is_allowed: np.ndarray | None, count: int
    ) -> np.ndarray | None:
        """Candidates of the nearest cells; None where other ways are better.

        By the codes, the k-th row that is allowed has some rank among all. Where it is far beyond what was expected,
        because what is allowed is alike and differs from the query, more are read.
        """
        if not self._effort.probes[0]:
            return None
        share = count / len(self._codes)
        depth = depth_of(k, share)
        for _ in range(ATTEMPTS):
            probes = by_depth(self._effort.probes, depth)
            if probes * 2 > self._cell_count:
                return None
            read = max(2 * k, by_depth(self._effort.cell_candidates, depth))
            rows = self._cells.rows(self._cells.nearest(rotated, probes))
            ranked = self._best(rotated, rows, read)
            if is_allowed is None and len(rows) >= min(2 * k, count):
                return ranked
            if is_allowed is not None and len(rows) > read:
                passed = np.flatnonzero(is_allowed[ranked])
                if len(passed) >= min(2 * k, count) and passed[k - 1] < max(depth, MARGIN * k / share):
                    return ranked[passed]
            depth *= 4
        return None

    def _best(self, rotated: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
        """The `count` best of these rows by their codes, best first; all, in any order, if they are not more."""
        if len(rows) <= count:
            return rows
        found = PackedCodes(self._quantiser, self._codes, rows).search(rotated, count)
        return rows if len(found) < count else rows[found]  # FAISS leaves out those of the least score

    def _of_all(self, rotated: np.ndarray, k: int, is_allowed: np.ndarray | None, count: int) -> np.ndarray | None:
        """The best codes of all rows; None if among so many too few are allowed."""
        total = len(self._codes)
        share = count / total
        read = max(int(2 * k / share), by_depth(self._effort.candidates, depth_of(k, share)))
        wanted = int(read * share)
        while read < max(total // 8, 4 * wanted):
            rows = self._scanned(rotated, read)
            if is_allowed is not None:
                rows = rows[is_allowed[rows]]
            if len(rows) >= min(wanted, count) // 2:
                return rows
            read *= 4
        return None

    def _scanned(self, rotated: np.ndarray, count: int) -> np.ndarray:
        """Rows with the best codes, the same number of each part."""
        share = -(-count // len(self._parts))
        starts = np.cumsum([0, *(part.count for part in self._parts)])
        found = self._threads.run(
            lambda at: self._parts[at].search(rotated, share) + starts[at], list(range(len(self._parts)))
        )
        return np.concatenate(found)
