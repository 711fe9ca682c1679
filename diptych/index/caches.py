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
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from diptych.index.catalog.catalog import BLOCK, MODALITIES, Catalog
from diptych.media.items import Modality
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


def opened(catalog: Catalog, place: Path, modality: Modality) -> Nearest:
    """The cache as it should be: opened, brought up to date, or built.

    While another process updates the index, its last cache is used as it is. Where nothing can be written, a cache is
    built in a temporary folder and goes with the program.
    """
    if nearest := _at(catalog, directory_of(place, modality), modality, catalog.stamp(modality)):
        return nearest
    try:
        with locked(place / LOCK):
            return _renewed(catalog, place, modality)
    except IndexBusyError:
        last = _noted(catalog, modality)
        return (last and _at(catalog, directory_of(place, modality), modality, last)) or _temporary(catalog, modality)
    except IndexPlaceError:
        return _temporary(catalog, modality)


def rebuilt(catalog: Catalog, place: Path, modality: Modality) -> Nearest:
    """The cache made anew, whatever is there; in a temporary folder where it cannot be written or another updates."""
    try:
        with locked(place / LOCK):
            discard(place, modality)
            return _renewed(catalog, place, modality)
    except (IndexBusyError, IndexPlaceError):
        return _temporary(catalog, modality)


def refresh(catalog: Catalog, place: Path, *, arranging: Progress | None = None) -> None:
    """Bring the caches of all modalities up to date. The lock is held by the caller."""
    counts = catalog.counts()
    for modality in MODALITIES:
        is_there = IndexDirectory(place).status(_name(modality)) is not None
        if (counts.pictures if modality == "picture" else counts.texts) or is_there:
            _renewed(catalog, place, modality, arranging)


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


def _at(catalog: Catalog, directory: IndexDirectory, modality: Modality, stamp: str) -> Nearest | None:
    """The cache in a directory if it is whole, carries this stamp, and is no larger than one of this catalog can be:
    what it claims takes time and memory before anything shows that it is not true."""
    from diptych.vectors.nearest import CacheError, Nearest
    from diptych.vectors.vector_files import Head

    try:
        head = Head.read(directory)
        if head.dim != catalog.dim or (head.rows > _FEW and head.rows > 2 * catalog.count(modality) + _FEW):
            return None
        return Nearest.open(directory, stamp=stamp)
    except (CacheError, OSError):
        return None


def _renewed(catalog: Catalog, place: Path, modality: Modality, arranging: Progress | None = None) -> Nearest:
    directory, stamp = directory_of(place, modality), catalog.stamp(modality)
    if not directory.exists:
        discard(place, modality)
    nearest = _at(catalog, directory, modality, stamp) or _grown(catalog, directory, modality, stamp)
    nearest = nearest or _built(catalog, directory, modality, stamp, arranging)
    if _noted(catalog, modality) != stamp:
        catalog.set_facts({f"cached.{modality}": stamp})
    return nearest


def _noted(catalog: Catalog, modality: Modality) -> str | None:
    return catalog.facts().get(f"cached.{modality}")


def _grown(catalog: Catalog, directory: IndexDirectory, modality: Modality, stamp: str) -> Nearest | None:
    """The last cache with what came and without what went; None where building is the better way, or the only one.

    Until the last step it keeps its old stamp: wherever this ends, the ids say again what is missing.
    """
    from diptych.vectors.nearest import CacheError

    noted = _noted(catalog, modality)
    nearest = _at(catalog, directory, modality, noted) if noted else None
    if nearest is None or noted is None:
        return None
    wanted, there = catalog.ids(modality), nearest.ids
    added, removed = np.setdiff1d(wanted, there, assume_unique=True), np.setdiff1d(there, wanted, assume_unique=True)
    if len(added) > max(len(there), BLOCK):
        return None
    try:
        if len(removed):
            nearest.remove(removed, stamp=noted)
        for start in range(0, len(added), BLOCK):
            some = added[start : start + BLOCK]
            nearest.add(some, catalog.vectors_of(some), stamp=noted)
    except CacheError:  # a file of it is another's as well, and is not written to
        return None
    if nearest.outgrown:
        return None
    nearest.remove(np.empty(0, np.int64), stamp=stamp)
    return nearest


def _built(
    catalog: Catalog,
    directory: str | os.PathLike[str],
    modality: Modality,
    stamp: str,
    arranging: Progress | None = None,
) -> Nearest:
    from diptych.vectors.nearest import READINGS, Nearest
    from diptych.vectors.tuning import EXACT_UP_TO

    total, done = READINGS * len(catalog.ids(modality)), 0

    def tell(rows: int) -> None:
        nonlocal done
        done += rows
        if arranging and total * catalog.dim > READINGS * EXACT_UP_TO:  # a smaller one takes no time
            arranging(done, total)

    return Nearest.build_blocks(directory, catalog.vectors(modality), dim=catalog.dim, stamp=stamp, tell=tell)


def _temporary(catalog: Catalog, modality: Modality) -> Nearest:
    folder = tempfile.mkdtemp(prefix="diptych-nearest-")
    nearest = _built(catalog, Path(folder) / "nearest", modality, catalog.stamp(modality))
    weakref.finalize(nearest, shutil.rmtree, folder, ignore_errors=True)
    return nearest
