"""The nearest of many vectors: a cache beside the database, which may be thrown away at any moment.

A small set is read exactly, from end to end. A large one is looked through by 4-bit codes (`quantiser.py`), and the
candidates that these promise are read exactly from the memory-mapped float16 vectors, so that a score is always the
exact cosine. How many candidates is measured at building, on the set itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.storage.directory import IndexDirectory
from diptych.vectors import tuning
from diptych.vectors.float16 import Crew, cores, exact_products, float_rows, products
from diptych.vectors.product_quantizer import GROUP, Quantiser, Scan, scans_of
from diptych.vectors.tuning import EXACT_UP_TO, Kind, Tell
from diptych.vectors.vector_files import CacheError, Rows

if TYPE_CHECKING:
    from jaxtyping import Float, Float16, Int64

READ_AT_ONCE = 8_192  # rows chosen by a filter: reading so many exactly costs about twice the codes of a million
KEPT_UP_TO = 1 << 24  # numbers, of 64 MB in float32
READINGS = 3  # of all rows where codes are made: to write them, to find true neighbours, to encode
ROUNDING = 4e-6  # of a float32 sum of products of unit vectors


class Neighbours(NamedTuple):
    """Ids and cosines, best first; equal cosines by id."""

    ids: Int64[np.ndarray, " k"]
    cosines: Float[np.ndarray, " k"]


class Nearest:
    """The vectors of one modality. Made by `build` or `open`.

    One process at a time may change it (the caller holds a lock); others may read it meanwhile and go on seeing what
    they opened. Threads may search at once, not while one of them changes it.
    """

    def __init__(self, rows: Rows):
        self._rows = rows
        self._crew = Crew(cores())
        self._refresh()
        self._scans = self._open_scans()

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike[str],
        ids: Int64[np.ndarray, " n"],
        vectors: Float16[np.ndarray, "n d"],
        *,
        stamp: str,
        queries: Float[np.ndarray, "m d"] | None = None,
        kind: Kind | None = None,
    ) -> Nearest:
        """`build_blocks` of one block; `vectors` may have no rows."""
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
        kind: Kind | None = None,
        tell: Tell = lambda rows: None,
    ) -> Nearest:
        """Write the cache anew from blocks of (ids, unit vectors); memory does not grow with their number.

        `queries` are vectors such as will be searched with, a hundred or more where possible (of real texts, for a
        set of pictures); without them some are made. `kind` forces one: by default the set's size and the recall
        measured on it decide. `tell` hears of rows as they are read: each READINGS times where
        they get codes, else once. A set that has been built before goes on being found until this is done, whatever
        happens. Raises ValueError on ids that come twice, vectors that are not finite or of another length; OSError
        where the folder cannot be written.
        """
        rows = Rows.create(IndexDirectory.of(folder), dim)
        try:
            _fill(rows, blocks, tell)
            rows.remap()
            facts = tuning.choose(rows, queries, kind, tell=tell)
            rows.commit(stamp, **facts)
        except BaseException:
            rows.discard()
            raise
        return cls(rows)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, stamp: str | None) -> Nearest:
        """Memory-mapped; nothing is read that a search does not need, and nothing is believed unchecked.

        Raises CacheError where there is none, where its stamp is another (None takes any: see `stamp` and `ids` for
        what it holds), or where it is cut short, damaged, or made with FAISS, which is not installed.
        """
        rows = Rows.open(IndexDirectory.of(folder))
        if stamp is not None and rows.head.stamp != stamp:
            raise CacheError(f"{folder} was made for {rows.head.stamp!r}, wanted {stamp!r}; build it anew.")
        try:
            tuning.check_facts(rows.head)
            return cls(rows)
        except CacheError:
            raise
        except (OSError, ValueError, KeyError, TypeError, IndexError, ImportError) as error:
            raise CacheError(f"{folder} is damaged or cannot be read ({error}); build it anew.") from error

    def _refresh(self) -> None:
        """Which rows are there, by the files."""
        gone = self._rows.content("gone").view("<i8")
        self._live = np.ones(self._rows.head.rows, bool)
        self._live[gone] = False
        self._gone = int(len(self._live) - self._live.sum())
        self._order: tuple[np.ndarray, np.ndarray] | None = None
        self._table: np.ndarray | None = None
        self._floats: np.ndarray | None = None
        self._was_asked = False

    def _open_scans(self) -> list[Scan]:
        """Codes into memory; none where all is read exactly."""
        if self.kind == "exact":
            return []
        numbers = self._rows.content("quantiser").view("<f4")
        quantiser = Quantiser.from_array(numbers, dim=self.dim, pieces=int(self._rows.head.facts["pieces"]))
        scans = scans_of(quantiser, self._rows.content("codes"), self._crew.count)
        coded = sum(scan.count for scan in scans)
        if len(self._rows.ids) - coded not in range(GROUP):
            raise CacheError(f"{self._rows.directory.path}: {coded} codes of other rows; build it anew.")
        return scans

    @property
    def _coded(self) -> int:
        return sum(scan.count for scan in self._scans)

    @property
    def kind(self) -> Kind:
        """Whether all is read exactly, or what codes promise."""
        return self._rows.head.facts["kind"]

    @property
    def recall(self) -> float:
        """Of the ten nearest, the share that was found at building (1 where all is read)."""
        return float(self._rows.head.facts["recall"])

    @property
    def candidates(self) -> int:
        """How many are read exactly for ten results; 0 where all is read."""
        return int(self._rows.head.facts["candidates"][0])

    @property
    def stamp(self) -> str:
        """Of the last change."""
        return self._rows.head.stamp

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._rows.head.dim

    @property
    def disk_bytes(self) -> int:
        """All files together."""
        return sum(size for size, _ in self._rows.head.sums.values())

    @property
    def outgrown(self) -> bool:
        """Whether building anew is worth its time: the set has doubled since (and is no longer small), or more rows
        are gone than there."""
        built = int(self._rows.head.facts["built_rows"])
        return len(self) > max(2 * built, EXACT_UP_TO // self.dim) or self._gone > max(len(self), 1000)

    @property
    def ids(self) -> Int64[np.ndarray, " n"]:
        """All that are there, in ascending order."""
        return self._sorted()[0]

    def __len__(self) -> int:
        return len(self._rows.ids) - self._gone

    def verify(self) -> None:
        """Read every byte. Raises CacheError on the first that is damaged."""
        self._rows.verify()

    def add(self, ids: Int64[np.ndarray, " n"], vectors: Float16[np.ndarray, "n d"], *, stamp: str) -> None:
        """Append, at a cost that does not grow with what is there but for a copy of its codes; nothing is trained.

        An id that is there already is replaced. What fails leaves all as it was. Raises as `build_blocks` does.
        """
        ids, vectors = _checked(ids, vectors, self.dim)
        known = self._rows.ids
        replaced = self._rows_of(ids) if len(known) and len(ids) and ids.min() <= known.max() else np.empty(0, np.int64)
        with self._rows.change():
            self._drop(replaced[replaced >= 0])
            self._rows.append_vectors(ids, vectors)
            self._rows.remap()
            codes = self._encode_rest()
            self._rows.commit(stamp)
        for piece in codes:
            self._scans[-1].extend(piece)
        self._refresh()

    def _encode_rest(self) -> list[np.ndarray]:
        """Codes of the rows that have none yet, whole groups of them, written and returned."""
        if self.kind == "exact":
            return []
        end = len(self._rows.vectors) // GROUP * GROUP
        codes = list(tuning.encoded(self._scans[0].quantiser, self._rows.vectors[self._coded : end]))
        for piece in codes:
            self._rows.append("codes", piece)
        return codes

    def remove(self, ids: Int64[np.ndarray, " n"], *, stamp: str) -> None:
        """Forget these; ids that are not there are passed over."""
        rows = self._rows_of(np.unique(np.asarray(ids, np.int64)))
        with self._rows.change():
            self._drop(rows[rows >= 0])
            self._rows.commit(stamp)
        self._refresh()

    def _drop(self, rows: np.ndarray) -> None:
        if len(rows):
            self._rows.append("gone", rows.astype("<i8"))

    def vectors(self, ids: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
        """Of these ids, in their order. Raises KeyError on one that is not there."""
        rows = self._rows_of(np.asarray(ids, np.int64))
        if (rows < 0).any():
            raise KeyError(f"id {int(np.asarray(ids)[rows < 0][0])} is not among the {len(self)} vectors.")
        return float_rows(self._rows.vectors, rows)

    def sample(self, count: int, *, seed: int = 0) -> tuple[Int64[np.ndarray, " m"], Float[np.ndarray, "m d"]]:
        """At most `count` ids, drawn evenly, and their vectors.

        An id's own hash decides whether it is drawn, so that a set that changes little has nearly the same sample.
        """
        ids = self.ids
        hashes = _mixed(ids.astype(np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15))
        drawn = np.sort(ids[np.argsort(hashes, kind="stable")[:count]])
        return drawn, self.vectors(drawn)

    def search(
        self, query: Float[np.ndarray, " d"], k: int, *, among: Int64[np.ndarray, " m"] | None = None
    ) -> Neighbours:
        """The `k` nearest to a unit vector, or as many as there are; of `among` alone where that is given (ids that
        are not there are passed over).

        Cosines are exact for the stored float16 vectors. Raises ValueError on a query of another length, CacheError
        where a row that was found is damaged.
        """
        query = np.ascontiguousarray(query, np.float32)
        if query.shape != (self.dim,) or not np.isfinite(query).all() or k < 1:
            raise ValueError(f"a query {query.shape} for {k}; wanted {self.dim} finite numbers and at least 1.")
        open_rows = self._open_rows(among)
        rows, scores = self._scored(query, k, open_rows, few=k if among is None else max(k, READ_AT_ONCE))
        return self._ranked(query, rows, scores, k)

    def _open_rows(self, among: np.ndarray | None) -> np.ndarray | None:
        """For each row whether it may be found; None where all may."""
        if among is None:
            return self._live if self._gone else None
        rows = self._rows_of(np.asarray(among, np.int64))
        open_rows = np.zeros_like(self._live)
        open_rows[rows[rows >= 0]] = True
        return open_rows

    def _scored(
        self, query: np.ndarray, k: int, open_rows: np.ndarray | None, *, few: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows with their float32 products, the nearest `k` among them; where `few` are open, all of them."""
        there = len(self._live) if open_rows is None else int(np.count_nonzero(open_rows))
        if self.kind == "approximate" and there > few:
            found = self._promised(query, k, open_rows, there)
            if found is not None:
                return found
        if open_rows is None:
            return np.arange(there), self._all_products(query)
        rows = np.flatnonzero(open_rows)
        return rows, self._crew.products(self._rows.vectors, query, among=rows)

    def _all_products(self, query: np.ndarray) -> np.ndarray:
        """Of every row. A small set that is asked again is kept as float32, which takes an eighth of the time."""
        vectors = self._rows.vectors
        if not self._was_asked or vectors.size > KEPT_UP_TO:
            self._was_asked = True
            return self._crew.products(vectors, query)
        if self._floats is None:
            self._floats = vectors.astype(np.float32)
        return self._floats @ query

    def _promised(
        self, query: np.ndarray, k: int, open_rows: np.ndarray | None, there: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Candidates by their codes; None where so few of them are open that all that are must be read."""
        wanted = self._wanted(k)
        total = len(self._live)
        asked = wanted * total // there
        while asked < max(total // 8, 4 * wanted):
            rows, scores = self._read_candidates(query, asked, open_rows)
            if len(rows) >= min(wanted, there) // 2:
                return rows, scores
            asked *= 4
        return None

    def _wanted(self, k: int) -> int:
        """How many to read exactly for `k` results: measured for 10 and 100, by a power of `k` between and beyond."""
        ten, hundred = self._rows.head.facts["candidates"]
        power = float(np.log10(max(hundred / ten, 1.0)))
        return max(2 * k, int(ten * max(1.0, k / 10) ** power))

    def _read_candidates(
        self, query: np.ndarray, asked: int, open_rows: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each thread looks through its codes and reads what they promise; the last rows, uncoded, are all read."""
        turned = query @ self._scans[0].quantiser.axes
        share = -(-asked // len(self._scans))
        starts = np.cumsum([0, *(scan.count for scan in self._scans)])

        def part(at: int) -> tuple[np.ndarray, np.ndarray]:
            rows = self._scans[at].best(turned, share) + starts[at]
            if at == len(self._scans) - 1:
                rows = np.concatenate([rows, np.arange(self._coded, len(self._rows.ids))])
            if open_rows is not None:
                rows = rows[open_rows[rows]]
            return rows, products(self._rows.vectors, query, among=rows)

        found = self._crew.run(part, list(range(len(self._scans))))
        return np.concatenate([rows for rows, _ in found]), np.concatenate([scores for _, scores in found])

    def _ranked(self, query: np.ndarray, rows: np.ndarray, scores: np.ndarray, k: int) -> Neighbours:
        """The best `k`, their cosines worked out once more so that equal vectors are equal, and checked."""
        if not np.isfinite(scores).all():
            raise CacheError(f"{self._rows.directory.path} holds what is no number; build it anew.")
        if len(rows) > k:
            last = np.partition(scores, len(scores) - k)[len(scores) - k]
            rows = rows[scores >= last - ROUNDING * max(1.0, abs(float(last)))]
        cosines = exact_products(self._rows.vectors, query, rows)
        ids = self._rows.ids[rows]
        order = np.lexsort((ids, -cosines))[:k]
        self._rows.check(rows[order])
        return Neighbours(ids[order], cosines[order])

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids that are there in ascending order, and their rows; worked out when first asked for."""
        if self._order is None:
            rows = np.flatnonzero(self._live)
            ids = self._rows.ids[rows]
            if (ids[1:] <= ids[:-1]).any():
                order = np.argsort(ids, kind="stable")
                ids, rows = ids[order], rows[order]
            self._order = ids, rows
        return self._order

    def _rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Where each id is; -1 where it is not."""
        known, rows = self._sorted()
        if not len(known):
            return np.full(len(ids), -1)
        if self._table is None and len(ids) > len(known) // 100 and known[0] >= 0 and known[-1] < 4 * len(known):
            table = np.full(known[-1] + 2, -1, np.int32)  # a filter's many ids: many times as fast as searching
            table[known] = rows
            self._table = table
        if self._table is not None:
            last = len(self._table) - 1  # of no id
            return self._table[np.where((ids < 0) | (ids > last), last, ids)]
        at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[at] == ids, rows[at], -1)


def _fill(rows: Rows, blocks: Iterable[tuple[np.ndarray, np.ndarray]], tell: Tell) -> None:
    for ids, vectors in blocks:
        rows.append_vectors(*_checked(ids, vectors, rows.head.dim))
        tell(len(ids))
    if not rows.head.sums:
        rows.append_vectors(np.empty(0, np.int64), np.empty((0, rows.head.dim), np.float16))


def _checked(ids: np.ndarray, vectors: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    ids, vectors = np.asarray(ids, np.int64), np.asarray(vectors, np.float16)
    if vectors.shape != (len(ids), dim):
        raise ValueError(f"vectors {vectors.shape} came for {len(ids)} ids; wanted ({len(ids)}, {dim}).")
    if not np.isfinite(vectors).all():
        raise ValueError(f"the vector of id {ids[~np.isfinite(vectors).all(axis=1)][0]} is not finite; leave it out.")
    if len(np.unique(ids)) < len(ids):
        raise ValueError("an id came twice; each vector has one of its own.")
    return ids, vectors


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Steele et al., "Fast splittable pseudorandom number generators", 2014: the finaliser of SplitMix64."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
