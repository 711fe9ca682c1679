"""What is wrong with an index, and mending what can be mended."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.index import cache
from diptych.index.catalog import Catalog
from diptych.index.faults import IndexBusyError, IndexDamagedError, IndexFault, IndexPlaceError
from diptych.index.lock import holder, left_behind
from diptych.index.mending import recover
from diptych.index.schema import MODALITIES

if TYPE_CHECKING:
    from diptych.index.local import LocalIndex

LITTLE_BYTES = 200 * 2**20  # less room than this on the disk is worth a word
_FAR_FROM_UNIT = 0.01  # float16 changes a length by less than a tenth of this


class Finding(NamedTuple):
    """Something that is wrong: what it is, what to do about it, and whether that was done."""

    what: str
    remedy: str
    mended: bool = False


def examine(index: LocalIndex, *, mend: bool = False) -> list[Finding]:
    """Look through an index: its place, its catalog down to each vector, its caches, its model. With `mend`, what can
    be repaired is: a damaged catalog is replaced by what can be read of it (the old one is kept as NAME.broken), broken
    rows are dropped, so that the next update embeds their files again, and caches are built anew.

    Raises IndexPlaceError where there is no index, IndexBusyError where `mend` meets another process that updates.
    """
    if not index.exists:
        raise IndexPlaceError(f"{index.place} holds no index; `diptych index FOLDER` makes one.")
    place = list(_of_place(index, mend))  # before our own lock covers what another left behind
    if not mend:
        return [*place, *_of_contents(index, mend=False)]
    with index.locked():
        return [*place, *_of_contents(index, mend=True)]


def _of_contents(index: LocalIndex, *, mend: bool) -> Iterator[Finding]:
    damage = _damage(index)
    if damage:
        yield (found := _recovered(index, damage) if mend else Finding(damage, "diptych doctor FOLDER --mend"))
        if not found.mended:
            return
    yield from _of_caches(index, mend)  # before the rows, whose mending changes what a cache should hold
    yield from _of_rows(index, mend)
    if mend:
        cache.refresh(index.catalog, index.place)
    yield from _of_model(index)


# --- the place


def _of_place(index: LocalIndex, mend: bool) -> Iterator[Finding]:
    place = index.place
    if left_behind(place / cache.LOCK):
        yield Finding("an update was killed before its end", "nothing is lost; `diptych index FOLDER` goes on", mend)
    if not (_is_writable(place) and _is_writable(index.catalog_path)):
        yield Finding(f"{place} cannot be written", "change its permissions, or keep the index elsewhere: --index DIR")
    if (free := shutil.disk_usage(place).free) < LITTLE_BYTES:
        yield Finding(f"the disk of {place} has {free / 2**20:.0f} MB left", "make room, or use --index DIR")
    if index.new_catalog_path.exists() and (mend or not holder(place / cache.LOCK)):
        yield Finding(
            "a reindexing was begun and not finished",
            f"`diptych index FOLDER --reindex` goes on with it; to give it up, remove {index.new_catalog_path}",
        )


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


# --- the catalog


def _damage(index: LocalIndex) -> str | None:
    """What SQLite says of a damaged catalog."""
    try:
        said = [row[0] for row in index.catalog.rows("PRAGMA integrity_check(5)")]
    except (IndexDamagedError, sqlite3.DatabaseError) as error:
        return str(error)
    return None if said == ["ok"] else f"{index.catalog_path} is damaged: {'; '.join(map(str, said))}"


def _recovered(index: LocalIndex, damage: str) -> Finding:
    index.close()
    try:
        saved = recover(index.catalog_path)
    except (IndexFault, sqlite3.DatabaseError) as error:
        return Finding(damage, str(error))
    remedy = f"{saved.files:,} files were saved, `diptych index FOLDER` adds the rest; the old one is {saved.broken}"
    return Finding(damage, remedy, True)


def _of_rows(index: LocalIndex, mend: bool) -> Iterator[Finding]:
    catalog, again = index.catalog, "`diptych index FOLDER` embeds their files again"
    if strays := catalog.rows("SELECT count(*) FROM items WHERE file NOT IN (SELECT id FROM files)")[0][0]:
        if mend:
            with catalog.writing() as db:
                db.execute("DELETE FROM items WHERE file NOT IN (SELECT id FROM files)")
        yield Finding(f"{strays:,} items belong to no file", "they can be dropped: --mend", mend)
    if bad := _files_of_bad_vectors(catalog):
        if mend:
            catalog.forget(bad)
        yield Finding(
            f"{len(bad):,} files have vectors that are cut short, no numbers or not of unit length", again, mend
        )
    bare = "SELECT id FROM files WHERE reason IS NULL AND NOT EXISTS (SELECT 1 FROM items WHERE items.file = files.id)"
    if empty := [id for (id,) in catalog.rows(bare)]:
        if mend:
            catalog.forget(empty)
        yield Finding(f"{len(empty):,} files have nothing that could be found", again, mend)


def _files_of_bad_vectors(catalog: Catalog) -> list[int]:
    dim = catalog.dim
    bad = {file for (file,) in catalog.rows(
        "SELECT file FROM items WHERE typeof(vector) != 'blob' OR length(vector) != ? "
        "OR modality NOT IN ('picture', 'text')", (2 * dim,),
    )}  # fmt: skip
    last = 0
    while rows := catalog.rows(
        "SELECT id, file, vector FROM items WHERE id > ? AND typeof(vector) = 'blob' AND length(vector) = ? "
        "ORDER BY id LIMIT 8192", (last, 2 * dim),
    ):  # fmt: skip
        last = rows[-1][0]
        vectors = np.frombuffer(b"".join(vector for _, _, vector in rows), "<f2").reshape(-1, dim).astype(np.float32)
        off = ~(np.abs(np.linalg.norm(vectors, axis=1) - 1) < _FAR_FROM_UNIT)  # so that NaN is off, too
        bad |= {rows[at][1] for at in np.flatnonzero(off)}
    return sorted(bad)


# --- what depends on it


def _of_caches(index: LocalIndex, mend: bool) -> Iterator[Finding]:
    counts = index.catalog.counts()
    for modality in MODALITIES:
        if not (counts.pictures if modality == "picture" else counts.texts):
            continue
        why = cache.fault(index.catalog, index.place, modality)
        if why is None:
            continue
        if mend:
            cache.discard(index.place, modality)
        yield Finding(f"the search cache of {modality}s is not usable: {why}", "the next search builds it anew", mend)


def _of_model(index: LocalIndex) -> Iterator[Finding]:
    try:
        _ = index.model
    except IndexBusyError:
        raise
    except (ValueError, OSError) as error:
        yield Finding(str(error), "name its model with --model, or replace all vectors with --reindex")
