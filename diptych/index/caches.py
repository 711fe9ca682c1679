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

from diptych.index.catalog.catalog import BLOCK, MODALITIES, Catalog
from diptych.index.catalog.validation import stamp_of
from diptych.media.items import Counts, Modality
from diptych.storage.directory import IndexDirectory
from diptych.storage.faults import IndexBusyError, IndexPlaceError
from diptych.storage.lock import locked

if TYPE_CHECKING:
    from diptych.vectors.nearest import Nearest, Neighbours

T = TypeVar("T")
Progress = Callable[[int, int], None]
LOCK = "lock"
_FEW = 10_000  # rows; more than there are items may be gone and not swept up yet (`Nearest.outgrown`)


class Sound:
    """A cache that is built anew where its use finds it damaged: not all of it is read when it is opened."""

    def __init__(self, nearest: Nearest, rebuild: Callable[[], Nearest]):
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

    def search(self, query: np.ndarray, k: int, *, among: np.ndarray | None = None) -> Neighbours:
        """As `Nearest.search`."""
        return self._twice(lambda nearest: nearest.search(query, k, among=among))

    def sample(self, count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """As `Nearest.sample`."""
        return self._twice(lambda nearest: nearest.sample(count, seed=seed))

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """As `Nearest.vectors`."""
        return self._twice(lambda nearest: nearest.vectors(ids))

    def _twice(self, use: Callable[[Nearest], T]) -> T:
        from diptych.vectors.nearest import CacheError

        try:
            return use(self._nearest)
        except CacheError:
            self._nearest = self._rebuild()
            return use(self._nearest)


def directory_of(place: Path, modality: Modality) -> IndexDirectory:
    """Where a modality's cache is."""
    return IndexDirectory(place).directory(_name(modality))


def _name(modality: Modality) -> str:
    return f"nearest-{modality}"


class _Wanted(NamedTuple):
    """What a modality's cache must fit: the catalog's stamp of now and the one that it noted last, the dimension of its
    vectors and the number of its items."""

    modality: Modality
    stamp: str
    noted: str | None
    dim: int
    count: Callable[[], int]

    @classmethod
    def by(cls, facts: Mapping[str, Any], modality: Modality, count: Callable[[], int]) -> _Wanted:
        """As the facts of a catalog have it."""
        return cls(modality, stamp_of(facts, modality), facts.get(f"cached.{modality}"), facts["dim"], count)


def _wanted(catalog: Catalog, modality: Modality) -> _Wanted:
    return _Wanted.by(catalog.facts(), modality, lambda: catalog.count(modality))


def opened(catalog: Catalog, place: Path, modality: Modality) -> Nearest:
    """The cache as it should be: opened, brought up to date, or built.

    While another process updates the index, its last cache is used as it is. Where nothing can be written, a cache is
    built in a temporary folder and goes with the program.
    """
    directory, wanted = directory_of(place, modality), _wanted(catalog, modality)
    if nearest := _at(directory, wanted.stamp, wanted):
        return nearest
    try:
        with locked(place / LOCK):
            return _renewed(catalog, place, _wanted(catalog, modality))
    except IndexBusyError:
        last = _wanted(catalog, modality)
        return (last.noted and _at(directory, last.noted, last)) or _temporary(catalog, modality)
    except IndexPlaceError:
        return _temporary(catalog, modality)


def rebuilt(catalog: Catalog, place: Path, modality: Modality) -> Nearest:
    """The cache made anew, whatever is there; in a temporary folder where it cannot be written or another updates."""
    try:
        with locked(place / LOCK):
            discard(place, modality)
            return _renewed(catalog, place, _wanted(catalog, modality))
    except (IndexBusyError, IndexPlaceError):
        return _temporary(catalog, modality)


def refresh(
    catalog: Catalog, place: Path, facts: Mapping[str, Any], counts: Counts, *, arranging: Progress | None = None
) -> None:
    """Bring the caches of all modalities up to date with a catalog of these facts and counts. The lock is held by the
    caller."""
    for modality in MODALITIES:
        number = counts.pictures if modality == "picture" else counts.texts
        if number or IndexDirectory(place).status(_name(modality)) is not None:
            _renewed(catalog, place, _Wanted.by(facts, modality, lambda number=number: number), arranging)


def fault(catalog: Catalog, place: Path, modality: Modality) -> str | None:
    """What is wrong with a cache; None where it is whole and up to date."""
    from diptych.vectors.nearest import CacheError, Nearest

    try:
        Nearest.open(directory_of(place, modality), stamp=catalog.stamp(modality)).verify()
    except (CacheError, OSError) as error:
        return str(error)
    return None


def discard(place: Path, modality: Modality) -> None:
    """Remove a cache, or whatever lies in its place."""
    IndexDirectory(place).remove_all(_name(modality))


def fingerprint_of(place: Path, modality: Modality) -> str | None:
    """Whose vectors a cache was made of; None where there is none that says so."""
    from diptych.vectors.vector_files import CacheError, Head

    try:
        return Head.read(directory_of(place, modality)).stamp.partition(":")[0]
    except CacheError:
        return None


def _at(directory: IndexDirectory, stamp: str, wanted: _Wanted) -> Nearest | None:
    """The cache in a directory if it is whole, carries this stamp, and is no larger than one of this catalog can be:
    what it claims takes time and memory before anything shows that it is not true."""
    from diptych.vectors.nearest import CacheError, Nearest
    from diptych.vectors.vector_files import Head

    try:
        head = Head.read(directory)
        if head.dim != wanted.dim or (head.rows > _FEW and head.rows > 2 * wanted.count() + _FEW):
            return None
        return Nearest.open(directory, stamp=stamp)
    except (CacheError, OSError):
        return None


def _renewed(catalog: Catalog, place: Path, wanted: _Wanted, arranging: Progress | None = None) -> Nearest:
    directory = directory_of(place, wanted.modality)
    if not directory.exists:
        discard(place, wanted.modality)
    nearest = _at(directory, wanted.stamp, wanted) or _grown(catalog, directory, wanted)
    nearest = nearest or _built(catalog, directory, wanted, arranging)
    if wanted.noted != wanted.stamp:
        catalog.set_facts({f"cached.{wanted.modality}": wanted.stamp})
    return nearest


def _grown(catalog: Catalog, directory: IndexDirectory, wanted: _Wanted) -> Nearest | None:
    """The last cache with what came and without what went; None where building is the better way, or the only one.

    Until the last step it keeps its old stamp: wherever this ends, the ids say again what is missing.
    """
    from diptych.vectors.nearest import CacheError

    nearest = _at(directory, wanted.noted, wanted) if wanted.noted else None
    if nearest is None or wanted.noted is None:
        return None
    now, there = catalog.ids(wanted.modality), nearest.ids
    added, removed = np.setdiff1d(now, there, assume_unique=True), np.setdiff1d(there, now, assume_unique=True)
    if len(added) > max(len(there), BLOCK):
        return None
    try:
        if len(removed):
            nearest.remove(removed, stamp=wanted.noted)
        for start in range(0, len(added), BLOCK):
            some = added[start : start + BLOCK]
            nearest.add(some, catalog.vectors_of(some), stamp=wanted.noted)
    except CacheError:  # a file of it is another's as well, and is not written to
        return None
    if nearest.outgrown:
        return None
    nearest.remove(np.empty(0, np.int64), stamp=wanted.stamp)
    return nearest


def _built(
    catalog: Catalog, directory: str | os.PathLike[str], wanted: _Wanted, arranging: Progress | None = None
) -> Nearest:
    from diptych.vectors.nearest import READINGS, Nearest
    from diptych.vectors.tuning import EXACT_UP_TO

    total, done = READINGS * wanted.count(), 0

    def tell(rows: int) -> None:
        nonlocal done
        done += rows
        if arranging and total * wanted.dim > READINGS * EXACT_UP_TO:  # a smaller one takes no time
            arranging(done, total)

    vectors = catalog.vectors(wanted.modality)
    return Nearest.build_blocks(directory, vectors, dim=wanted.dim, stamp=wanted.stamp, tell=tell)


def _temporary(catalog: Catalog, modality: Modality) -> Nearest:
    folder = tempfile.mkdtemp(prefix="diptych-nearest-")
    nearest = _built(catalog, Path(folder) / "nearest", _wanted(catalog, modality))
    weakref.finalize(nearest, shutil.rmtree, folder, ignore_errors=True)
    return nearest
