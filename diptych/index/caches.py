"""The vector caches beside the catalog: one nearest-neighbour index per modality, derived from the catalog's vectors
and rebuilt at will.

A cache carries the catalog's stamp of the time at which it was written, and the catalog records that stamp. If the
catalog's stamp has changed since, comparing ids finds the added and removed items: whoever stores another vector under
an id of a cache (`LocalStore.put`) also forgets its record. A cache that is missing, damaged or not the recorded one is
built again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from diptych.errors import IndexBusyError, IndexDirectoryError, VectorFilesError
from diptych.index.catalog.catalog import BLOCK, MODALITIES, Catalog
from diptych.index.catalog.validation import stamp_of, valid_vector
from diptych.media.items import IndexCounts, Modality
from diptych.storage.directory import IndexDirectory
from diptych.storage.lock import locked

if TYPE_CHECKING:
    from diptych.vectors.nearest import Neighbours, VectorIndex

T = TypeVar("T")
Progress = Callable[[int, int], None]
LOCK = "lock"
_SLACK_ROWS = 10_000  # deleted rows may stay in a cache until `VectorIndex.needs_rebuild`


class RebuildingIndex:
    """A cache that is built again when its use finds damage, because opening it does not read all of it."""

    def __init__(self, nearest: VectorIndex, rebuild: Callable[[], VectorIndex]):
        self._nearest, self._rebuild = nearest, rebuild

    def __len__(self) -> int:
        return len(self._nearest)

    @property
    def ids(self) -> np.ndarray:
        """All ids, (n,) int64, in ascending order."""
        return self._nearest.ids

    @property
    def kind(self) -> str:
        """ "exact" or "approximate"."""
        return self._nearest.kind

    @property
    def recall(self) -> float:
        """The share of the exact ten nearest that the search finds, measured on the index's own vectors."""
        return self._nearest.recall

    def search(self, query: np.ndarray, k: int, *, allowed_ids: np.ndarray | None = None) -> Neighbours:
        """As `VectorIndex.search`."""
        return self._with_retry(lambda nearest: nearest.search(query, k, allowed_ids=allowed_ids))

    def sample(self, count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """As `VectorIndex.sample`."""
        return self._with_retry(lambda nearest: nearest.sample(count, seed=seed))

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """As `VectorIndex.vectors`."""
        return self._with_retry(lambda nearest: nearest.vectors(ids))

    def _with_retry(self, use: Callable[[VectorIndex], T]) -> T:

        try:
            return use(self._nearest)
        except VectorFilesError:
            self._nearest = self._rebuild()
            return use(self._nearest)


def directory_of(index_dir: Path, modality: Modality) -> IndexDirectory:
    """The directory of a modality's cache."""
    return IndexDirectory(index_dir).directory(_name(modality))


def _name(modality: Modality) -> str:
    return f"nearest-{modality}"


class _Wanted(NamedTuple):
    """What a modality's cache must match: the catalog's current stamp and the last recorded one, the dimension of its
    vectors and the number of its items."""

    modality: Modality
    stamp: str
    recorded_stamp: str | None
    dim: int
    count: Callable[[], int]

    @classmethod
    def by(cls, facts: Mapping[str, Any], modality: Modality, count: Callable[[], int]) -> _Wanted:
        """From the facts of a catalog."""
        return cls(modality, stamp_of(facts, modality), facts.get(f"cached.{modality}"), facts["dim"], count)


def _wanted(catalog: Catalog, modality: Modality) -> _Wanted:
    return _Wanted.by(catalog.facts(), modality, lambda: catalog.count(modality))


def opened(catalog: Catalog, index_dir: Path, modality: Modality) -> VectorIndex:
    """The cache of a modality, up to date: opened, extended or built.

    While another process updates the index, its last cache is used as it is. If the index directory is not writable,
    the cache is built in a temporary folder and deleted with the process.
    """
    directory, wanted = directory_of(index_dir, modality), _wanted(catalog, modality)
    if nearest := _open_valid(directory, wanted.stamp, wanted):
        return nearest
    try:
        with locked(index_dir / LOCK):
            return _renewed(catalog, index_dir, _wanted(catalog, modality))
    except IndexBusyError:
        last = _wanted(catalog, modality)
        return (last.recorded_stamp and _open_valid(directory, last.recorded_stamp, last)) or _temporary(
            catalog, modality
        )
    except IndexDirectoryError:
        return _temporary(catalog, modality)


def rebuilt(catalog: Catalog, index_dir: Path, modality: Modality) -> VectorIndex:
    """The cache, built again; in a temporary folder if the index directory is not writable or another process updates
    it."""
    try:
        with locked(index_dir / LOCK):
            discard(index_dir, modality)
            return _renewed(catalog, index_dir, _wanted(catalog, modality))
    except (IndexBusyError, IndexDirectoryError):
        return _temporary(catalog, modality)


def refresh(
    catalog: Catalog,
    index_dir: Path,
    facts: Mapping[str, Any],
    counts: IndexCounts,
    *,
    on_build: Progress | None = None,
) -> None:
    """Bring the caches of all modalities up to date with a catalog of these facts and counts. The caller holds the
    lock."""
    for modality in MODALITIES:
        number = counts.pictures if modality == "picture" else counts.texts
        if number or IndexDirectory(index_dir).status(_name(modality)) is not None:
            _renewed(catalog, index_dir, _Wanted.by(facts, modality, lambda number=number: number), on_build)


def fault(catalog: Catalog, index_dir: Path, modality: Modality) -> str | None:
    """What is wrong with a cache; None if it is valid and up to date."""
    from diptych.vectors.nearest import VectorIndex

    try:
        VectorIndex.open(directory_of(index_dir, modality), stamp=catalog.stamp(modality)).verify()
    except (VectorFilesError, OSError) as error:
        return str(error)
    return None


def discard(index_dir: Path, modality: Modality) -> None:
    """Remove a cache, or anything else of its name."""
    IndexDirectory(index_dir).remove_all(_name(modality))


def fingerprint_of(index_dir: Path, modality: Modality) -> str | None:
    """The fingerprint of the model whose vectors a cache contains; None if there is no readable cache."""
    from diptych.vectors.vector_files import VectorFilesHeader

    try:
        return VectorFilesHeader.read(directory_of(index_dir, modality)).stamp.partition(":")[0]
    except VectorFilesError:
        return None


def _open_valid(directory: IndexDirectory, stamp: str, wanted: _Wanted) -> VectorIndex | None:
    """The cache in a directory if it is valid, carries this stamp, and is no larger than this catalog's can be: a
    header that claims too much would cost time and memory before it is refuted."""
    from diptych.vectors.nearest import VectorIndex
    from diptych.vectors.vector_files import VectorFilesHeader

    try:
        header = VectorFilesHeader.read(directory)
        if header.dim != wanted.dim or (header.rows > _SLACK_ROWS and header.rows > 2 * wanted.count() + _SLACK_ROWS):
            return None
        return VectorIndex.open(directory, stamp=stamp)
    except (VectorFilesError, OSError):
        return None


def _renewed(catalog: Catalog, index_dir: Path, wanted: _Wanted, on_build: Progress | None = None) -> VectorIndex:
    directory = directory_of(index_dir, wanted.modality)
    if not directory.exists:
        discard(index_dir, wanted.modality)
    nearest = _open_valid(directory, wanted.stamp, wanted) or _extended(catalog, directory, wanted)
    nearest = nearest or _built(catalog, directory, wanted, on_build)
    if wanted.recorded_stamp != wanted.stamp:
        catalog.set_facts({f"cached.{wanted.modality}": wanted.stamp})
    return nearest


def _extended(catalog: Catalog, directory: IndexDirectory, wanted: _Wanted) -> VectorIndex | None:
    """The recorded cache with new items added and old ones removed; None if it has to be built.

    Until the last step it keeps its old stamp, so that after an interruption the ids show again what is missing.
    """

    nearest = _open_valid(directory, wanted.recorded_stamp, wanted) if wanted.recorded_stamp else None
    if nearest is None or wanted.recorded_stamp is None:
        return None
    now, there = _ids(catalog, wanted.modality), nearest.ids
    added, removed = np.setdiff1d(now, there, assume_unique=True), np.setdiff1d(there, now, assume_unique=True)
    if len(added) > max(len(there), BLOCK):
        return None
    try:
        if len(removed):
            nearest.remove(removed, stamp=wanted.recorded_stamp)
        for start in range(0, len(added), BLOCK):
            nearest.add(*_valid(catalog, added[start : start + BLOCK], wanted.dim), stamp=wanted.recorded_stamp)
    except VectorFilesError:  # one of its files is hard-linked elsewhere, so it is not written to
        return None
    if nearest.needs_rebuild:
        return None
    nearest.remove(np.empty(0, np.int64), stamp=wanted.stamp)
    return nearest


def _ids(catalog: Catalog, modality: Modality) -> np.ndarray:
    """All ids of a modality, ascending: by the index alone, which takes a third of the time of `Catalog.ids`."""
    rows = catalog.rows("SELECT id FROM items WHERE modality = ? ORDER BY id", (modality,))
    return np.fromiter((id for (id,) in rows), np.int64, len(rows))


def _valid(catalog: Catalog, ids: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Those of these ids that have a vector of the right length, and their vectors, (n, dim) float16."""
    sql = f"SELECT id, vector FROM items WHERE id IN ({{}}) AND {valid_vector(dim)}"
    rows = catalog.rows_by_id(sql, ids.tolist())
    vectors = np.frombuffer(b"".join(vector for _, vector in rows), "<f2")
    return np.array([id for id, _ in rows], np.int64), vectors.reshape(-1, dim)


def _built(
    catalog: Catalog, directory: str | os.PathLike[str], wanted: _Wanted, on_build: Progress | None = None
) -> VectorIndex:
    from diptych.vectors.nearest import BUILD_PASSES, VectorIndex
    from diptych.vectors.tuning import EXACT_UP_TO

    total, done = BUILD_PASSES * wanted.count(), 0

    def on_progress(rows: int) -> None:
        nonlocal done
        done += rows
        if on_build and total * wanted.dim > BUILD_PASSES * EXACT_UP_TO:  # smaller ones are built at once
            on_build(done, total)

    vectors = catalog.vectors(wanted.modality)
    return VectorIndex.build_blocks(directory, vectors, dim=wanted.dim, stamp=wanted.stamp, on_progress=on_progress)


def _temporary(catalog: Catalog, modality: Modality) -> VectorIndex:
    folder = tempfile.mkdtemp(prefix="diptych-nearest-")
    nearest = _built(catalog, Path(folder) / "nearest", _wanted(catalog, modality))
    weakref.finalize(nearest, shutil.rmtree, folder, ignore_errors=True)
    return nearest
