"""Finds what is wrong with an index, and repairs it where possible."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.deprecation import RenamedAttribute, renamed_arguments
from diptych.display.counting import counted
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
from diptych.index.catalog.validation import are_unit, valid_vector
from diptych.index.local import open_index
from diptych.index.model import next_facts
from diptych.storage.journals import JOURNAL_SUFFIXES
from diptych.storage.lock import holder, left_behind

if TYPE_CHECKING:
    from diptych.index.local import LocalIndex

MIN_FREE_BYTES = 200 * 2**20  # a finding if the disk has less
_MAX_NAMED = 3
_NEW_INDEX = "`diptych index FOLDER` makes a new one"
_REPAIR = Setting("repair", True, "diptych.examine")
_INDEX_DIR = Setting("index", "DIR", "diptych.open_index")
_REINDEX = Setting("reindex", True, "index.update")


class Finding(NamedTuple):
    """A problem, its remedy, and whether it has been repaired. Arguments in `problem` and `remedy` are worded per
    interface, as in errors."""

    problem: MessageParts
    remedy: MessageParts
    repaired: bool = False

    what = RenamedAttribute("what", "problem")
    mended = RenamedAttribute("mended", "repaired")

    def __str__(self) -> str:
        return f"{format_message(self.problem)}: {'repaired' if self.repaired else format_message(self.remedy)}"


@renamed_arguments(mend="repair")
def examine(index: LocalIndex | str | os.PathLike[str], *, repair: bool = False) -> list[Finding]:
    """Check an index, or that of a folder: its directory, foreign files in it, its catalog down to each vector, its
    caches, and its model. `repair` removes links and devices, moves foreign journals aside, replaces a damaged catalog
    by its readable part (the old one is kept as NAME.broken), drops invalid rows, whose files the next update embeds
    again, and rebuilds caches.

    Raises IndexDirectoryError if there is no index, IndexBusyError if another process updates it during `repair`.
    """
    if isinstance(index, str | os.PathLike):
        with open_index(index) as opened:
            return examine(opened, repair=repair)
    if index.directory.status(index.catalog_path.name) is None and not _has_foreign_files(index):
        raise IndexDirectoryError(f"{index.index_dir} contains no index; `diptych index FOLDER` makes one.")
    index_dir_findings = list(_check_directory(index, repair))  # before our own lock hides a stale one
    if not repair:
        return [*index_dir_findings, *_check_contents(index, repair=False)]
    with index.locked():
        return [*index_dir_findings, *_check_contents(index, repair=True)]


def _check_contents(index: LocalIndex, *, repair: bool) -> Iterator[Finding]:
    if _has_foreign_files(index):
        return
    file_findings = [
        *_check_hard_links(index, [index.catalog_path.name, index.on_disk.reindex_catalog_path.name], repair)
    ]
    file_findings += _check_journals(index, repair)
    yield from file_findings
    if file_findings and not repair:
        return
    if not index.exists:  # it is not a file, or is empty
        if index.directory.size(index.catalog_path.name) is not None:
            yield Finding(f"{index.catalog_path} is empty", _NEW_INDEX, repair)
            if repair:
                remove(index.catalog_path)
        return
    damage = _damage(index)
    if damage:
        yield (found := _recovered(index, damage) if repair else Finding(damage, [_REPAIR, " repairs it"]))
        if not (found.repaired and index.exists):
            return
    yield from _check_caches(index, repair)  # before the rows: repairing these makes caches stale
    yield from _check_rows(index, repair)
    if repair:
        caches.refresh(index.catalog, index.index_dir, index.catalog.facts(), index.catalog.counts())
    yield from _check_model(index)


# --- the directory


def _check_directory(index: LocalIndex, repair: bool) -> Iterator[Finding]:
    directory = index.directory
    yield from _check_foreign_files(index, repair)
    for path in _folders_in_the_way(index):
        remedy = f"it is now {move_damaged_aside(path)}" if repair else [_REPAIR, " moves it aside"]
        yield Finding(f"{path} is a folder instead of a file", remedy, repair)
    if left_behind(directory.path / caches.LOCK):
        yield Finding("an update was killed", "nothing is lost; `diptych index FOLDER` continues it", repair)
    is_there = directory.status(index.catalog_path.name) is not None
    if not (directory.is_writable() and (not is_there or directory.is_writable(index.catalog_path.name))):
        yield Finding(
            f"{directory} is not writable", ["change its permissions, or keep the index elsewhere with ", _INDEX_DIR]
        )
    if (free := directory.free_bytes()) < MIN_FREE_BYTES:
        yield Finding(f"the disk of {directory} has {free / 2**20:.0f} MB left", ["make room, or use ", _INDEX_DIR])
    is_begun = directory.status(index.on_disk.reindex_catalog_path.name) is not None
    if is_begun and (repair or not holder(directory.path / caches.LOCK)):
        yield Finding(
            "a reindexing was not finished",
            [_REINDEX, f" continues it; to give it up, remove {index.on_disk.reindex_catalog_path}"],
        )


def _check_foreign_files(index: LocalIndex, repair: bool) -> Iterator[Finding]:
    """Links and devices, and a hard-linked lock."""
    for found in list(index.directory.foreign()):
        if repair:
            found.directory.remove(found.name)
        remedy = "it is removed; it was not used" if repair else ["an index has none: ", _REPAIR, " removes it"]
        yield Finding(f"{found.path} is {found.kind}", remedy, repair)
    yield from _check_hard_links(index, [caches.LOCK], repair)


def _check_hard_links(index: LocalIndex, names: Sequence[str], repair: bool) -> Iterator[Finding]:
    """Files that are modified, but have other names as well, by hard links."""
    for name in names:
        status = index.directory.status(name)
        if status is None or not stat.S_ISREG(status.st_mode) or status.st_nlink < 2:
            continue
        if repair:
            index.close()  # closing the file later would release its locks
            index.directory.own(name)
        problem = f"{index.directory.path / name} is a hard link to a file with other names"
        remedy = "a copy replaces it" if repair else [_REPAIR, " replaces it by a copy"]
        yield Finding(problem, remedy, repair)


def _check_journals(index: LocalIndex, repair: bool) -> Iterator[Finding]:
    """Journals that diptych did not write, but SQLite would apply."""
    for path in (index.catalog_path, index.on_disk.reindex_catalog_path):
        for name, fault in index.directory.journal_errors(path.name, recover=index.on_disk.recovers):
            aside = move_damaged_aside(path.with_name(name)) if repair else None
            remedy = f"it is now {aside}" if aside else [_REPAIR, " moves it aside"]
            yield Finding(fault.problem, remedy, repair)


def _has_foreign_files(index: LocalIndex) -> bool:
    """Whether there is a foreign file, which is a finding already."""
    return next(index.directory.foreign(), None) is not None


def _folders_in_the_way(index: LocalIndex) -> list[Path]:
    catalogs = (index.catalog_path.name, index.on_disk.reindex_catalog_path.name)
    names = [*catalogs, *(name + ending for name in catalogs for ending in JOURNAL_SUFFIXES), caches.LOCK]
    return [index.directory.path / name for name in names if index.directory.has_directory(name)]


# --- the catalog


def _damage(index: LocalIndex) -> str | None:
    """SQLite's message about a damaged catalog, or how it is incomplete."""
    if damage := index.damage:
        return damage
    try:
        messages = [row[0] for row in index.catalog.rows("PRAGMA integrity_check(5)")]
    except (IndexDamagedError, sqlite3.DatabaseError) as error:
        return str(error)
    return None if messages == ["ok"] else f"{index.catalog_path} is damaged: {'; '.join(map(str, messages))}"


def _recovered(index: LocalIndex, damage: str) -> Finding:
    index.close()
    form = facts_of(index.catalog_path).get("format")
    if isinstance(form, int) and form > FORMAT:
        return Finding(damage, ["update diptych, or make a new index of this version's format with ", _REINDEX])
    try:
        recovered = recover(index.catalog_path, lambda: _likely_facts(index))
    except SearchIndexError as error:
        return Finding(damage, [str(error.problem), " ", *error.remedy])
    except sqlite3.DatabaseError as error:
        return Finding(damage, str(error))
    if not recovered.has_facts:
        lost = "nothing could be recovered: its vectors, its model's name and its exclusions are lost"
        return Finding(damage, f"{lost}; it is now {recovered.damaged_path}, and {_NEW_INDEX}", True)
    old = f"the old catalog is {recovered.damaged_path}"
    remedy = (
        f"{counted(recovered.files, 'file was', 'files were')} recovered, `diptych index FOLDER` adds the rest; {old}"
    )
    return Finding(damage, remedy, True)


def _likely_facts(index: LocalIndex) -> dict[str, Any] | None:
    """The facts of a catalog whose own are unreadable, with the fingerprint that its caches record; None if they record
    none. Raises IndexModelError if that is not the model at hand."""
    fingerprints = {caches.fingerprint_of(index.index_dir, modality) for modality in MODALITIES} - {None, ""}
    if len(fingerprints) != 1:
        return None
    model = index.model_for_reindex
    if model.fingerprint not in fingerprints:
        raise IndexModelError(
            f"{index.catalog_path} no longer records which model made its vectors; it was not {model.source}.",
            remedy=["Name that model with ", Setting("model"), ", or embed everything again with ", _REINDEX, "."],
        )
    facts = next_facts(model, index.root, follow_links=_follows_links(index))
    index.trust.add_facts(facts)
    return {**facts._asdict(), "follow_links": "yes" if facts.follow_links else "no"}


def _follows_links(index: LocalIndex) -> bool:
    return bool(index.follow_links if index.damage else index.rules.follow_links)


def _check_rows(index: LocalIndex, repair: bool) -> Iterator[Finding]:
    catalog, again = index.catalog, "`diptych index FOLDER` embeds their files again"
    drops: MessageParts = "they are dropped" if repair else [_REPAIR, " drops them"]
    if invalid := catalog.invalid_files():
        if repair:
            catalog.forget(invalid)
        some = ", ".join(list(invalid.values())[:_MAX_NAMED]) + (", ..." if len(invalid) > _MAX_NAMED else "")
        one, several = "entry of the catalog is not a file", "entries of the catalog are not files"
        yield Finding(f"{counted(len(invalid), one, several)} of {index.root}: {some}", drops, repair)
    if orphan_count := catalog.rows("SELECT count(*) FROM items WHERE file NOT IN (SELECT id FROM files)")[0][0]:
        if repair:
            with catalog.writing() as db:
                db.execute("DELETE FROM items WHERE file NOT IN (SELECT id FROM files)")
        yield Finding(f"{counted(orphan_count, 'item belongs', 'items belong')} to no file", drops, repair)
    if bad_files := _files_of_bad_vectors(catalog):
        if repair:
            catalog.forget(bad_files)
        have = counted(len(bad_files), "file has", "files have")
        yield Finding(f"{have} vectors that are truncated, not finite or not of unit length", again, repair)
    has_items = "EXISTS (SELECT 1 FROM items WHERE items.file = files.id)"
    if itemless_ids := [id for (id,) in catalog.rows(f"SELECT id FROM files WHERE reason IS NULL AND NOT {has_items}")]:
        if repair:
            catalog.forget(itemless_ids)
        yield Finding(f"{counted(len(itemless_ids), 'file has', 'files have')} no items", again, repair)


def _files_of_bad_vectors(catalog: Catalog) -> list[int]:
    dim = catalog.dim
    bad_files = {file for (file,) in catalog.rows(
        f"SELECT file FROM items WHERE typeof(file) = 'integer' AND (NOT ({valid_vector(dim)}) "
        "OR modality NOT IN ('picture', 'text'))",
    )}  # fmt: skip
    last = 0
    while rows := catalog.rows(
        f"SELECT id, file, vector FROM items WHERE id > ? AND typeof(file) = 'integer' AND {valid_vector(dim)} "
        "ORDER BY id LIMIT 8192", (last,),
    ):  # fmt: skip
        last = rows[-1][0]
        vectors = np.frombuffer(b"".join(vector for _, _, vector in rows), "<f2").reshape(-1, dim)
        bad_files |= {rows[at][1] for at in np.flatnonzero(~are_unit(vectors))}
    return sorted(bad_files)


# --- caches and model


def _check_caches(index: LocalIndex, repair: bool) -> Iterator[Finding]:
    counts = index.catalog.counts()
    for modality in MODALITIES:
        if not (counts.pictures if modality == "picture" else counts.texts):
            continue
        why = caches.fault(index.catalog, index.index_dir, modality)
        if why is None:
            continue
        if repair:
            caches.discard(index.index_dir, modality)
        yield Finding(
            f"the search cache of {modality}s is not usable: {why}", "the next search builds it again", repair
        )


def _check_model(index: LocalIndex) -> Iterator[Finding]:
    try:
        _ = index.model
    except IndexBusyError:
        raise
    except (IndexModelError, IndexUntrustedError) as error:
        yield Finding(error.problem, error.remedy)
    except (ValueError, OSError) as error:
        yield Finding(str(error), ["name its model with ", Setting("model"), ", or make a new index with ", _REINDEX])
