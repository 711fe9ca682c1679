"""What is wrong with an index, and mending what can be mended."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.errors import (
    IndexBusyError,
    IndexDamagedError,
    IndexDirectoryError,
    IndexModelError,
    IndexUntrustedError,
    MessageParts,
    SearchIndexError,
    Setting,
    format_message,
)
from diptych.index import caches
from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.recovery import facts_of, move_damaged_aside, recover, remove
from diptych.index.catalog.schema import FORMAT, MODALITIES
from diptych.index.catalog.validation import are_unit, sound_vector
from diptych.index.local import open_index
from diptych.index.model import facts_to_come
from diptych.storage.journals import COMPANIONS
from diptych.storage.lock import holder, left_behind

if TYPE_CHECKING:
    from diptych.index.local import LocalIndex

LITTLE_BYTES = 200 * 2**20  # less room than this on the disk is worth a word
_MOST_NAMED = 3
_ANEW = "`diptych index FOLDER` makes one anew"
_REINDEX = Setting("reindex", True, "index.update")


class Finding(NamedTuple):
    """Something that is wrong: what it is, what to do about it, and whether that was done. Each face words arguments
    in its own way, as those of errors."""

    what: MessageParts
    remedy: MessageParts
    mended: bool = False

    def __str__(self) -> str:
        return f"{format_message(self.what)}: {'mended' if self.mended else format_message(self.remedy)}"


def examine(index: LocalIndex | str | os.PathLike[str], *, mend: bool = False) -> list[Finding]:
    """Look through an index, or that of a folder: its place, what lies there that is none of its own, its
    catalog down to each vector, its caches, its model. With `mend`, what can be repaired is: links and devices are
    removed, journals that are not ours are put aside, a damaged catalog is replaced by what can be read of it (the old
    one is kept as NAME.broken), broken rows are dropped, so that the next update embeds their files again, and caches
    are built anew.

    Raises IndexDirectoryError where there is no index, IndexBusyError where `mend` meets another process that updates.
    """
    if isinstance(index, str | os.PathLike):
        with open_index(index) as opened:
            return examine(opened, mend=mend)
    if index.directory.status(index.catalog_path.name) is None and not _is_foreign(index):
        raise IndexDirectoryError(f"{index.place} holds no index; `diptych index FOLDER` makes one.")
    place = list(_of_place(index, mend))  # before our own lock covers what another left behind
    if not mend:
        return [*place, *_of_contents(index, mend=False)]
    with index.locked():
        return [*place, *_of_contents(index, mend=True)]


def _of_contents(index: LocalIndex, *, mend: bool) -> Iterator[Finding]:
    if _is_foreign(index):
        return
    beside = [*_of_second_names(index, [index.catalog_path.name, index.on_disk.new_catalog_path.name], mend)]
    beside += _of_companions(index, mend)
    yield from beside
    if beside and not mend:
        return
    if not index.exists:  # it was no file, or holds nothing
        if index.directory.size(index.catalog_path.name) is not None:
            yield Finding(f"{index.catalog_path} is empty", _ANEW, mend)
            if mend:
                remove(index.catalog_path)
        return
    damage = _damage(index)
    if damage:
        yield (found := _recovered(index, damage) if mend else Finding(damage, "diptych doctor FOLDER --mend"))
        if not (found.mended and index.exists):
            return
    yield from _of_caches(index, mend)  # before the rows, whose mending changes what a cache should hold
    yield from _of_rows(index, mend)
    if mend:
        caches.refresh(index.catalog, index.place, index.catalog.facts(), index.catalog.counts())
    yield from _of_model(index)


# --- the place


def _of_place(index: LocalIndex, mend: bool) -> Iterator[Finding]:
    directory = index.directory
    yield from _of_foreign(index, mend)
    for path in _folders_in_the_way(index):
        remedy = f"it is called {move_damaged_aside(path)} now" if mend else "--mend moves it aside"
        yield Finding(f"{path} is a folder, in the place of a file", remedy, mend)
    if left_behind(directory.path / caches.LOCK):
        yield Finding("an update was killed before its end", "nothing is lost; `diptych index FOLDER` goes on", mend)
    is_there = directory.status(index.catalog_path.name) is not None
    if not (directory.is_writable() and (not is_there or directory.is_writable(index.catalog_path.name))):
        yield Finding(
            f"{directory} cannot be written", "change its permissions, or keep the index elsewhere: --index DIR"
        )
    if (free := directory.free_bytes()) < LITTLE_BYTES:
        yield Finding(f"the disk of {directory} has {free / 2**20:.0f} MB left", "make room, or use --index DIR")
    is_begun = directory.status(index.on_disk.new_catalog_path.name) is not None
    if is_begun and (mend or not holder(directory.path / caches.LOCK)):
        yield Finding(
            "a reindexing was begun and not finished",
            f"`diptych index FOLDER --reindex` goes on with it; to give it up, remove {index.on_disk.new_catalog_path}",
        )


def _of_foreign(index: LocalIndex, mend: bool) -> Iterator[Finding]:
    """Links and devices, which are removed; and a lock that is another file as well."""
    for found in list(index.directory.foreign()):
        if mend:
            found.directory.remove(found.name)
        remedy = "it is removed; nothing was done with it before" if mend else "an index has none: --mend removes it"
        yield Finding(f"{found.path} is {found.what}", remedy, mend)
    yield from _of_second_names(index, [caches.LOCK], mend)


def _of_second_names(index: LocalIndex, names: Sequence[str], mend: bool) -> Iterator[Finding]:
    """Files that are written to in place, and are another file as well, by a hard link."""
    for name in names:
        status = index.directory.status(name)
        if status is None or not stat.S_ISREG(status.st_mode) or status.st_nlink < 2:
            continue
        if mend:
            index.close()  # which closing the file again would take its locks from
            index.directory.own(name)
        what = f"{index.directory.path / name} is a hard link to a file with other names"
        yield Finding(what, "a copy is in its place now" if mend else "--mend puts a copy in its place", mend)


def _of_companions(index: LocalIndex, mend: bool) -> Iterator[Finding]:
    """What SQLite would act on and diptych did not make."""
    for path in (index.catalog_path, index.on_disk.new_catalog_path):
        for name, fault in index.directory.companion_faults(path.name, recover=index.on_disk.recovers):
            remedy = f"it is called {move_damaged_aside(path.with_name(name))} now" if mend else "--mend moves it aside"
            yield Finding(fault.problem, remedy, mend)


def _is_foreign(index: LocalIndex) -> bool:
    """Whether something is in the way that was told of already."""
    return next(index.directory.foreign(), None) is not None


def _folders_in_the_way(index: LocalIndex) -> list[Path]:
    catalogs = (index.catalog_path.name, index.on_disk.new_catalog_path.name)
    names = [*catalogs, *(name + ending for name in catalogs for ending in COMPANIONS), caches.LOCK]
    return [index.directory.path / name for name in names if index.directory.has_directory(name)]


# --- the catalog


def _damage(index: LocalIndex) -> str | None:
    """What SQLite says of a damaged catalog, and what such a one lacks."""
    if damage := index.damage:
        return damage
    try:
        said = [row[0] for row in index.catalog.rows("PRAGMA integrity_check(5)")]
    except (IndexDamagedError, sqlite3.DatabaseError) as error:
        return str(error)
    return None if said == ["ok"] else f"{index.catalog_path} is damaged: {'; '.join(map(str, said))}"


def _recovered(index: LocalIndex, damage: str) -> Finding:
    index.close()
    form = facts_of(index.catalog_path).get("format")
    if isinstance(form, int) and form > FORMAT:
        return Finding(damage, "update diptych; `diptych index FOLDER --reindex` makes it anew as this version does")
    try:
        saved = recover(index.catalog_path, lambda: _likely_facts(index))
    except SearchIndexError as error:
        return Finding(damage, [str(error.problem), " ", *error.remedy])
    except sqlite3.DatabaseError as error:
        return Finding(damage, str(error))
    if not saved.has_facts:
        lost = "nothing of it could be saved: its vectors, its model's name and what it left out are lost"
        return Finding(damage, f"{lost}; it is called {saved.damaged_path} now, and {_ANEW}", True)
    remedy = (
        f"{saved.files:,} files were saved, `diptych index FOLDER` adds the rest; the old one is {saved.damaged_path}"
    )
    return Finding(damage, remedy, True)


def _likely_facts(index: LocalIndex) -> dict[str, Any] | None:
    """Whose vectors a catalog holds that does not say so any more: its caches do. None where they are gone, too. Raises
    IndexModelError where that is not the model at hand."""
    fingerprints = {caches.fingerprint_of(index.place, modality) for modality in MODALITIES} - {None, ""}
    if len(fingerprints) != 1:
        return None
    model = index.any_model
    if model.fingerprint not in fingerprints:
        raise IndexModelError(
            f"{index.catalog_path} does not say any more which model made its vectors, and {model.source} did not.",
            remedy=["Name the one that did with ", Setting("model"), ", or give them up with ", _REINDEX, "."],
        )
    facts = facts_to_come(model, index.root, follow_links=_follows_links(index))
    index.trust.add_facts(facts)
    return {**facts._asdict(), "follow_links": "yes" if facts.follow_links else "no"}


def _follows_links(index: LocalIndex) -> bool:
    return bool(index.follow_links if index.damage else index.rules.follow_links)


def _of_rows(index: LocalIndex, mend: bool) -> Iterator[Finding]:
    catalog, again = index.catalog, "`diptych index FOLDER` embeds their files again"
    if unsound := catalog.unsound():
        if mend:
            catalog.forget(unsound)
        some = ", ".join(list(unsound.values())[:_MOST_NAMED]) + (", ..." if len(unsound) > _MOST_NAMED else "")
        what = f"{len(unsound):,} entries of the catalog are no files of {index.root}: {some}"
        yield Finding(what, "they can be dropped: --mend", mend)
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
        f"SELECT file FROM items WHERE typeof(file) = 'integer' AND (NOT ({sound_vector(dim)}) "
        "OR modality NOT IN ('picture', 'text'))",
    )}  # fmt: skip
    last = 0
    while rows := catalog.rows(
        f"SELECT id, file, vector FROM items WHERE id > ? AND typeof(file) = 'integer' AND {sound_vector(dim)} "
        "ORDER BY id LIMIT 8192", (last,),
    ):  # fmt: skip
        last = rows[-1][0]
        vectors = np.frombuffer(b"".join(vector for _, _, vector in rows), "<f2").reshape(-1, dim)
        bad |= {rows[at][1] for at in np.flatnonzero(~are_unit(vectors))}
    return sorted(bad)


# --- what depends on it


def _of_caches(index: LocalIndex, mend: bool) -> Iterator[Finding]:
    counts = index.catalog.counts()
    for modality in MODALITIES:
        if not (counts.pictures if modality == "picture" else counts.texts):
            continue
        why = caches.fault(index.catalog, index.place, modality)
        if why is None:
            continue
        if mend:
            caches.discard(index.place, modality)
        yield Finding(f"the search cache of {modality}s is not usable: {why}", "the next search builds it anew", mend)


def _of_model(index: LocalIndex) -> Iterator[Finding]:
    try:
        _ = index.model
    except IndexBusyError:
        raise
    except (IndexModelError, IndexUntrustedError) as error:
        yield Finding(error.problem, error.remedy)
    except (ValueError, OSError) as error:
        yield Finding(str(error), ["name its model with ", Setting("model"), ", or replace all with ", _REINDEX])
