"""The caches beside the catalog: one approximate search index a modality, made of its vectors and made again at will.

A cache carries the catalog's stamp of the moment at which it was written, and the catalog notes it. Where the stamp is
no longer the catalog's, the ids tell what has come and gone since, for none is ever given twice and none changes its
vector. Where a cache is missing, damaged, or not the one that this catalog noted, it is built anew.
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
from diptych.index.catalog.validation import stamp_of
from diptych.media.items import Counts, Modality
from diptych.storage.directory import IndexDirectory
from diptych.storage.lock import locked

if TYPE_CHECKING:
    from diptych.vectors.nearest import Neighbours, VectorIndex

T = TypeVar("T")
Progress = Callable[[int, int], None]
LOCK = "lock"
_SLACK_ROWS = 10_000  # deleted rows may stay in a cache until `VectorIndex.needs_rebuild`


class RebuildingIndex:
    """A cache that is built anew where its use finds it damaged: not all of it is read when it is opened."""

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
        """Of what kind the search is: "exact" or "approximate"."""
        return self._nearest.kind

    @property
    def recall(self) -> float:
        """The share of the true ten nearest that is found, measured on the index's own vectors."""
        return self._nearest.recall

    def search(self, query: np.ndarray, k: int, *, allowed_ids: np.ndarray | None = None) -> Neighbours:
        """As `Nearest.search`."""
        return self._with_retry(lambda nearest: nearest.search(query, k, allowed_ids=allowed_ids))

    def sample(self, count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """As `Nearest.sample`."""
        return self._with_retry(lambda nearest: nearest.sample(count, seed=seed))

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """As `Nearest.vectors`."""
        return self._with_retry(lambda nearest: nearest.vectors(ids))

    def _with_retry(self, use: Callable[[VectorIndex], T]) -> T:

        try:
            return use(self._nearest)
        except VectorFilesError:
            self._nearest = self._rebuild()
            return use(self._nearest)


def directory_of(index_dir: Path, modality: Modality) -> IndexDirectory:
    """Where a modality's cache is."""
    return IndexDirectory(index_dir).directory(_name(modality))


def _name(modality: Modality) -> str:
    return f"nearest-{modality}"


class _Wanted(NamedTuple):
    """What a modality's cache must fit: the catalog's stamp of now and the one that it noted last, the dimension of its
    vectors and the number of its items."""

    modality: Modality
    stamp: str
    recorded_stamp: str | None
    dim: int
    count: Callable[[], int]

    @classmethod
    def by(cls, facts: Mapping[str, Any], modality: Modality, count: Callable[[], int]) -> _Wanted:
        """As the facts of a catalog have it."""
        return cls(modality, stamp_of(facts, modality), facts.get(f"cached.{modality}"), facts["dim"], count)


def _wanted(catalog: Catalog, modality: Modality) -> _Wanted:
    return _Wanted.by(catalog.facts(), modality, lambda: catalog.count(modality))


def opened(catalog: Catalog, index_dir: Path, modality: Modality) -> VectorIndex:
    """The cache as it should be: opened, brought up to date, or built.

    While another process updates the index, its last cache is used as it is. Where nothing can be written, a cache is
    built in a temporary folder and goes with the program.
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
    """The cache made anew, whatever is there; in a temporary folder where it cannot be written or another updates."""
    try:
        with locked(index_dir / LOCK):
            discard(index_dir, modality)
            return _renewed(catalog, index_dir, _wanted(catalog, modality))
    except (IndexBusyError, IndexDirectoryError):
        return _temporary(catalog, modality)


def refresh(
    catalog: Catalog, index_dir: Path, facts: Mapping[str, Any], counts: Counts, *, on_build: Progress | None = None
) -> None:
    """Bring the caches of all modalities up to date with a catalog of these facts and counts. The lock is held by the
    caller."""
    for modality in MODALITIES:
        number = counts.pictures if modality == "picture" else counts.texts
        if number or IndexDirectory(index_dir).status(_name(modality)) is not None:
            _renewed(catalog, index_dir, _Wanted.by(facts, modality, lambda number=number: number), on_build)


def fault(catalog: Catalog, index_dir: Path, modality: Modality) -> str | None:
    """What is wrong with a cache; None where it is whole and up to date."""
    from diptych.vectors.nearest import VectorIndex

    try:
        VectorIndex.open(directory_of(index_dir, modality), stamp=catalog.stamp(modality)).verify()
    except (VectorFilesError, OSError) as error:
        return str(error)
    return None


def discard(index_dir: Path, modality: Modality) -> None:
    """Remove a cache, or whatever lies in its place."""
    IndexDirectory(index_dir).remove_all(_name(modality))


def fingerprint_of(index_dir: Path, modality: Modality) -> str | None:
    """Whose vectors a cache was made of; None where there is none that says so."""
    from diptych.vectors.vector_files import VectorFilesHeader

    try:
        return VectorFilesHeader.read(directory_of(index_dir, modality)).stamp.partition(":")[0]
    except VectorFilesError:
        return None


def _open_valid(directory: IndexDirectory, stamp: str, wanted: _Wanted) -> VectorIndex | None:
    """The cache in a directory if it is whole, carries this stamp, and is no larger than one of this catalog can be:
    what it claims takes time and memory before anything shows that it is not true."""
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
    """The last cache with what came and without what went; None where building is the better way, or the only one.

    Until the last step it keeps its old stamp: wherever this ends, the ids say again what is missing.
    """

    nearest = _open_valid(directory, wanted.recorded_stamp, wanted) if wanted.recorded_stamp else None
    if nearest is None or wanted.recorded_stamp is None:
        return None
    now, there = catalog.ids(wanted.modality), nearest.ids
    added, removed = np.setdiff1d(now, there, assume_unique=True), np.setdiff1d(there, now, assume_unique=True)
    if len(added) > max(len(there), BLOCK):
        return None
    try:
        if len(removed):
            nearest.remove(removed, stamp=wanted.recorded_stamp)
        for start in range(0, len(added), BLOCK):
            some = added[start : start + BLOCK]
            nearest.add(some, catalog.vectors_of(some), stamp=wanted.recorded_stamp)
    except VectorFilesError:  # a file of it is another's as well, and is not written to
        return None
    if nearest.needs_rebuild:
        return None
    nearest.remove(np.empty(0, np.int64), stamp=wanted.stamp)
    return nearest


def _built(
    catalog: Catalog, directory: str | os.PathLike[str], wanted: _Wanted, on_build: Progress | None = None
) -> VectorIndex:
    from diptych.vectors.nearest import BUILD_PASSES, VectorIndex
    from diptych.vectors.tuning import EXACT_UP_TO

    total, done = BUILD_PASSES * wanted.count(), 0

    def on_progress(rows: int) -> None:
        nonlocal done
        done += rows
        if on_build and total * wanted.dim > BUILD_PASSES * EXACT_UP_TO:  # a smaller one takes no time
            on_build(done, total)

    vectors = catalog.vectors(wanted.modality)
    return VectorIndex.build_blocks(directory, vectors, dim=wanted.dim, stamp=wanted.stamp, on_progress=on_progress)


def _temporary(catalog: Catalog, modality: Modality) -> VectorIndex:
    folder = tempfile.mkdtemp(prefix="diptych-nearest-")
    nearest = _built(catalog, Path(folder) / "nearest", _wanted(catalog, modality))
    weakref.finalize(nearest, shutil.rmtree, folder, ignore_errors=True)
    return nearest
