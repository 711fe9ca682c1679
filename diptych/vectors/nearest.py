"""Nearest-neighbour search over a folder of vectors. The folder is a cache of the catalog and may be deleted at any
time.

A small set is compared exactly. A large set is searched by 4-bit codes (`product_quantizer.py`), and the candidates are
compared exactly with the memory-mapped float16 vectors, so that a score is always the exact cosine. The number of
candidates is tuned on the set itself when it is built.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import VectorFilesError
from diptych.storage.directory import IndexDirectory
from diptych.vectors import tuning
from diptych.vectors.drawing import drawn
from diptych.vectors.float16 import ThreadGroup, core_count, exact_inner_products, float_rows, inner_products
from diptych.vectors.product_quantizer import FAISS_BLOCK, PackedCodes, ProductQuantiser, split_codes
from diptych.vectors.tuning import EXACT_UP_TO, Progress, SearchKind
from diptych.vectors.vector_files import VectorFiles, checked_vectors

if TYPE_CHECKING:
    from jaxtyping import Float, Float16, Int64

MAX_FILTERED_EXACT = 16_384  # filtered rows: of a million, comparing 10,000 takes 5 ms of a processor, their codes 7
MAX_CACHED_NUMBERS = 1 << 24  # numbers: 64 MB in float32
BUILD_PASSES = 3  # passes over all rows of an approximate index: write, find exact neighbours, encode
ROUNDING = 4e-6  # error of a float32 inner product of unit vectors


class Neighbours(NamedTuple):
    """Ids and cosines, best first; equal cosines are ordered by id."""

    ids: Int64[np.ndarray, " k"]
    cosines: Float[np.ndarray, " k"]


class VectorIndex:
    """The vectors of one modality, made by `build` or `open`.

    One process at a time may change it (the caller holds a lock); others may read it meanwhile and keep the state that
    they opened. Threads may search at once, but not while one of them changes the index.
    """

    def __init__(self, rows: VectorFiles):
        self._rows = rows
        self._threads = ThreadGroup(core_count())
        self._refresh()
        self._code_blocks = self._load_codes()

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike[str],
        ids: Int64[np.ndarray, " n"],
        vectors: Float16[np.ndarray, "n d"],
        *,
        stamp: str,
        queries: Float[np.ndarray, "m d"] | None = None,
        kind: SearchKind | None = None,
    ) -> VectorIndex:
        """`build_blocks` with one block; `vectors` may have no rows."""
        return cls.build_blocks(folder, [(ids, vectors)], dim=vectors.shape[1], stamp=stamp, queries=queries, kind=kind)

    @classmethod
    def build_blocks(
        cls,
        folder: str | os.PathLike[str],
        blocks: Iterable[tuple[np.ndarray, np.ndarray]],
        *,
        dim: int,
        stamp: str,
        queries: Float[np.ndarray, "m d"] | None = None,
        kind: SearchKind | None = None,
        on_progress: Progress = lambda rows: None,
    ) -> VectorIndex:
        """Write the folder again from blocks of (ids, unit vectors). Memory does not grow with their number.

        `queries` are examples of later queries, a hundred or more if possible (of real texts, for a set of
        pictures); without them synthetic ones are used. `kind` forces a kind of search; by default the size of the set
        and the recall measured on it decide. `on_progress` gets the number of rows of each block that is read: every
        row counts BUILD_PASSES times in an approximate index, otherwise once. The previous contents of the folder stay
        usable until the new ones are complete. Raises ValueError for duplicate ids and for vectors that are not finite
        or of another length, OSError if the folder cannot be written.
        """
        rows = VectorFiles.create(IndexDirectory.of(folder), dim)
        try:
            _fill(rows, blocks, on_progress)
            rows.remap()
            facts = tuning.tune(rows, queries, kind, on_progress=on_progress)
            rows.commit(stamp, **facts)
        except BaseException:
            rows.discard()
            raise
        return cls(rows)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, stamp: str | None) -> VectorIndex:
        """Memory-map the folder, reading and validating only the parts that a search needs.

        `stamp` None accepts any stamp; see `stamp` and `ids` for the contents. Raises VectorFilesError if the folder is
        missing, has another stamp, is truncated or damaged, or needs FAISS, which is not installed.
        """
        rows = VectorFiles.open(IndexDirectory.of(folder))
        if stamp is not None and rows.header.stamp != stamp:
            raise VectorFilesError(f"{folder} has the stamp {rows.header.stamp!r}, wanted {stamp!r}; build it again.")
        try:
            tuning.check_facts(rows.header)
            return cls(rows)
        except VectorFilesError:
            raise
        except (OSError, ValueError, KeyError, TypeError, IndexError, ImportError) as error:
            raise VectorFilesError(f"{folder} is damaged or cannot be read ({error}); build it again.") from error

    def _refresh(self) -> None:
        """Read from the files which rows are live, and reset the values derived from them."""
        deleted = self._rows.content("gone").view("<i8")
        self._live_rows = np.ones(self._rows.header.rows, bool)
        self._live_rows[deleted] = False
        self._deleted_count = int(len(self._live_rows) - self._live_rows.sum())
        self._order: tuple[np.ndarray, np.ndarray] | None = None
        self._row_by_id: np.ndarray | None = None
        self._float32_vectors: np.ndarray | None = None
        self._was_searched = False

    def _load_codes(self) -> list[PackedCodes]:
        """The codes, in memory; an empty list for an exact index."""
        if self.kind == "exact":
            return []
        numbers = self._rows.content("quantiser").view("<f4")
        quantiser = ProductQuantiser.from_array(
            numbers, dim=self.dim, subvectors=int(self._rows.header.facts["pieces"])
        )
        code_blocks = split_codes(quantiser, self._rows.content("codes"), self._threads.count)
        coded = sum(codes.count for codes in code_blocks)
        if len(self._rows.ids) - coded not in range(FAISS_BLOCK):
            raise VectorFilesError(f"{self._rows.directory.path}: {coded} codes do not match the rows; build it again.")
        return code_blocks

    @property
    def _coded_count(self) -> int:
        return sum(codes.count for codes in self._code_blocks)

    @property
    def kind(self) -> SearchKind:
        """ "exact" or "approximate" (by codes)."""
        return self._rows.header.facts["kind"]

    @property
    def recall(self) -> float:
        """The share of the exact ten nearest that the search found when the index was built; 1 for an exact index."""
        return float(self._rows.header.facts["recall"])

    @property
    def candidates(self) -> int:
        """How many candidates are compared exactly for ten results; 0 for an exact index."""
        return int(self._rows.header.facts["candidates"][0])

    @property
    def stamp(self) -> str:
        """The stamp of the last change."""
        return self._rows.header.stamp

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._rows.header.dim

    @property
    def needs_rebuild(self) -> bool:
        """Whether a new build pays off: the set is large and has doubled since the last build, or more rows are deleted
        than live."""
        built = int(self._rows.header.facts["built_rows"])
        return len(self) > max(2 * built, EXACT_UP_TO // self.dim) or self._deleted_count > max(len(self), 1000)

    @property
    def ids(self) -> Int64[np.ndarray, " n"]:
        """All live ids, in ascending order."""
        return self._sorted()[0]

    def __len__(self) -> int:
        return len(self._rows.ids) - self._deleted_count

    def verify(self) -> None:
        """Read every byte. Raises VectorFilesError at the first damage."""
        self._rows.verify()

    def add(self, ids: Int64[np.ndarray, " n"], vectors: Float16[np.ndarray, "n d"], *, stamp: str) -> None:
        """Append vectors. Copies the codes, but reads no other rows and trains nothing.

        Existing ids are replaced. If it fails, nothing changes. Raises the errors of `build_blocks`.
        """
        ids, vectors = checked_vectors(ids, vectors, self.dim)
        known = self._rows.ids
        replaced = self._rows_of(ids) if len(known) and len(ids) and ids.min() <= known.max() else np.empty(0, np.int64)
        with self._rows.change():
            self._drop(replaced[replaced >= 0])
            self._rows.append_vectors(ids, vectors)
            self._rows.remap()
            codes = self._encode_uncoded()
            self._rows.commit(stamp)
        for piece in codes:
            self._code_blocks[-1].extend(piece)
        self._refresh()

    def _encode_uncoded(self) -> list[np.ndarray]:
        """Encode the rows that have no codes yet, in whole FAISS blocks; the codes are written and returned."""
        if self.kind == "exact":
            return []
        end = len(self._rows.vectors) // FAISS_BLOCK * FAISS_BLOCK
        codes = list(tuning.encoded_blocks(self._code_blocks[0].quantiser, self._rows.vectors[self._coded_count : end]))
        for piece in codes:
            self._rows.append("codes", piece)
        return codes

    def remove(self, ids: Int64[np.ndarray, " n"], *, stamp: str) -> None:
        """Delete these ids; unknown ids are ignored."""
        rows = self._rows_of(np.unique(np.asarray(ids, np.int64)))
        with self._rows.change():
            self._drop(rows[rows >= 0])
            self._rows.commit(stamp)
        self._refresh()

    def _drop(self, rows: np.ndarray) -> None:
        if len(rows):
            self._rows.append("gone", rows.astype("<i8"))

    def vectors(self, ids: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
        """The vectors of these ids, in their order. Raises KeyError for an unknown id."""
        rows = self._rows_of(np.asarray(ids, np.int64))
        if (rows < 0).any():
            raise KeyError(f"id {int(np.asarray(ids)[rows < 0][0])} is not one of the {len(self)} vectors.")
        return float_rows(self._rows.vectors, rows)

    def sample(self, count: int, *, seed: int = 0) -> tuple[Int64[np.ndarray, " m"], Float[np.ndarray, "m d"]]:
        """At most `count` ids, drawn uniformly, and their vectors.

        A hash of the id decides whether it is drawn, so a set that changes little has nearly the same sample.
        """
        ids = drawn(self.ids, count, seed=seed)
        return ids, self.vectors(ids)

    def search(
        self, query: Float[np.ndarray, " d"], k: int, *, allowed_ids: Int64[np.ndarray, " m"] | None = None
    ) -> Neighbours:
        """The `k` nearest to a unit vector, or all if there are fewer; with `allowed_ids`, the nearest of these
        (unknown ids are ignored).

        Cosines are exact for the stored float16 vectors. Raises ValueError for a query of another length,
        VectorFilesError if a result's row is damaged."""
        query = np.ascontiguousarray(query, np.float32)
        if query.shape != (self.dim,) or not np.isfinite(query).all() or k < 1:
            raise ValueError(
                f"query shape {query.shape}, k = {k}; wanted {self.dim} finite numbers and k of 1 or more."
            )
        allowed = None if allowed_ids is None else self._known_rows(allowed_ids)
        rows, scores = self._scored(query, k, allowed)
        return self._ranked(query, rows, scores, k)

    def _known_rows(self, ids: np.ndarray) -> np.ndarray:
        """The rows of these ids, each once, ascending; unknown ids are ignored."""
        rows = self._rows_of(np.asarray(ids, np.int64))
        if (rows < 0).any():
            rows = rows[rows >= 0]
        return rows if (rows[1:] > rows[:-1]).all() else np.unique(rows)

    def _scored(self, query: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Rows with their float32 inner products, the nearest `k` of the `allowed` ones among them, or of all if it is
        None; all of these if they are few."""
        count, few = (len(self), k) if allowed is None else (len(allowed), max(k, MAX_FILTERED_EXACT))
        if self.kind == "approximate" and count > few:
            found = self._candidate_scores(query, k, self._mask(allowed), count)
            if found is not None:
                return found
        if allowed is None and not self._deleted_count:
            return np.arange(count), self._all_products(query)
        rows = np.flatnonzero(self._live_rows) if allowed is None else allowed
        return rows, self._threads.inner_products(self._rows.vectors, query, subset=rows)

    def _mask(self, allowed: np.ndarray | None) -> np.ndarray | None:
        """For each row whether it may be a result; None if all may."""
        if allowed is None:
            return self._live_rows if self._deleted_count else None
        is_allowed = np.zeros_like(self._live_rows)
        is_allowed[allowed] = True
        return is_allowed

    def _all_products(self, query: np.ndarray) -> np.ndarray:
        """Inner products of every row. A small set that is searched again is cached as float32, which takes an eighth
        of the time."""
        vectors = self._rows.vectors
        if not self._was_searched or vectors.size > MAX_CACHED_NUMBERS:
            self._was_searched = True
            return self._threads.inner_products(vectors, query)
        if self._float32_vectors is None:
            self._float32_vectors = vectors.astype(np.float32)
        return self._float32_vectors @ query

    def _candidate_scores(
        self, query: np.ndarray, k: int, is_allowed: np.ndarray | None, allowed_count: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Candidates found by their codes; None if so few candidates are allowed that comparing all allowed rows is
        better."""
        count = self._candidate_count(k)
        total = len(self._live_rows)
        code_count = count * total // allowed_count
        while code_count < max(total // 8, 4 * count):
            rows, scores = self._rescore_candidates(query, code_count, is_allowed)
            if len(rows) >= min(count, allowed_count) // 2:
                return rows, scores
            code_count *= 4
        return None

    def _candidate_count(self, k: int) -> int:
        """How many candidates to compare exactly for `k` results: measured for 10 and 100, a power law of `k` between
        and beyond."""
        ten, hundred = self._rows.header.facts["candidates"]
        power = float(np.log10(max(hundred / ten, 1.0)))
        return max(2 * k, int(ten * max(1.0, k / 10) ** power))

    def _rescore_candidates(
        self, query: np.ndarray, code_count: int, is_allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each thread searches its codes and compares its candidates exactly; the last rows, which have no codes, are
        all compared."""
        rotated = query @ self._code_blocks[0].quantiser.rotation
        share = -(-code_count // len(self._code_blocks))
        starts = np.cumsum([0, *(codes.count for codes in self._code_blocks)])

        def part(at: int) -> tuple[np.ndarray, np.ndarray]:
            rows = self._code_blocks[at].search(rotated, share) + starts[at]
            if at == len(self._code_blocks) - 1:
                rows = np.concatenate([rows, np.arange(self._coded_count, len(self._rows.ids))])
            if is_allowed is not None:
                rows = rows[is_allowed[rows]]
            return rows, inner_products(self._rows.vectors, query, subset=rows)

        found = self._threads.run(part, list(range(len(self._code_blocks))))
        return np.concatenate([rows for rows, _ in found]), np.concatenate([scores for _, scores in found])

    def _ranked(self, query: np.ndarray, rows: np.ndarray, scores: np.ndarray, k: int) -> Neighbours:
        """The best `k`, with cosines computed again so that equal vectors have equal cosines, and with their rows
        verified."""
        if not np.isfinite(scores).all():
            raise VectorFilesError(f"{self._rows.directory.path} contains numbers that are not finite; build it again.")
        if len(rows) > k:
            last = np.partition(scores, len(scores) - k)[len(scores) - k]
            rows = rows[scores >= last - ROUNDING * max(1.0, abs(float(last)))]
        cosines = exact_inner_products(self._rows.vectors, query, rows)
        ids = self._rows.ids[rows]
        order = np.lexsort((ids, -cosines))[:k]
        self._rows.check(rows[order])
        return Neighbours(ids[order], cosines[order])

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """The live ids in ascending order, and their rows; computed at the first use."""
        if self._order is None:
            rows = np.flatnonzero(self._live_rows)
            ids = self._rows.ids[rows]
            if (ids[1:] <= ids[:-1]).any():
                order = np.argsort(ids, kind="stable")
                ids, rows = ids[order], rows[order]
            self._order = ids, rows
        return self._order

    def _rows_of(self, ids: np.ndarray) -> np.ndarray:
        """The row of each id; -1 for unknown ids."""
        known, rows = self._sorted()
        if not len(known):
            return np.full(len(ids), -1)
        if self._row_by_id is None and len(ids) > len(known) // 1000 and known[0] >= 0 and known[-1] < 4 * len(known):
            row_by_id = np.full(known[-1] + 2, -1, np.int32)  # many ids: several times faster than a binary search
            row_by_id[known] = rows
            self._row_by_id = row_by_id
        if self._row_by_id is not None:
            last = len(self._row_by_id) - 1  # always -1
            return self._row_by_id[np.where((ids < 0) | (ids > last), last, ids)]
        at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[at] == ids, rows[at], -1)


def _fill(rows: VectorFiles, blocks: Iterable[tuple[np.ndarray, np.ndarray]], on_progress: Progress) -> None:
    for ids, vectors in blocks:
        rows.append_vectors(*checked_vectors(ids, vectors, rows.header.dim))
        on_progress(len(ids))
    if not rows.header.sums:
        rows.append_vectors(np.empty(0, np.int64), np.empty((0, rows.header.dim), np.float16))
