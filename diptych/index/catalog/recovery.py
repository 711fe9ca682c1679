"""Recovers the readable rows of a damaged catalog."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from diptych.errors import IndexDirectoryError, SearchIndexError
from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.facts import valid_facts
from diptych.index.catalog.schema import PAGE_BYTES, TABLES, connect, has_tables, objects
from diptych.index.catalog.validation import FACTS
from diptych.storage.directory import IndexDirectory
from diptych.storage.error_translation import translated_errors
from diptych.storage.journals import JOURNAL_SUFFIXES
from diptych.storage.query_budget import BudgetedConnection

_MAX_ROW_ID = 2**40  # larger than any id
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)  # the second: SQLite's message about a damaged schema
# Picture files with two vectors, one of which belongs to another file
_SEVERAL_PICTURES = (
    "SELECT file FROM items JOIN files ON files.id = items.file WHERE kind = 'picture' AND modality = 'picture' "
    "GROUP BY file HAVING count(*) > 1"
)
_REBUILT_FACTS = ("format", "generation", "change.", "cached.")  # facts that a new catalog sets for itself


class RecoveredCatalog(NamedTuple):
    """How many `files` were recovered with all their items; the others are indexed again. `damaged_path` is the new
    name of the damaged catalog. `has_facts` says whether its facts (model, exclusions) were recovered; without them
    there is no catalog now."""

    files: int
    damaged_path: Path
    has_facts: bool


def recover(path: Path, likely: Callable[[], Mapping[str, Any] | None]) -> RecoveredCatalog:
    """Replace a damaged catalog by a new one with every file that can be read completely, and keep the old one as
    NAME.broken. `likely` returns the facts (fingerprint, model, dim) if they cannot be read, or None. If nothing can be
    recovered, there is no catalog afterwards, and the next update makes one. An exception of `likely` propagates, and
    nothing is changed then."""
    new, patched = path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.patched")
    for leftover in (new, patched):
        remove(leftover)
    try:
        files = _saved(path, patched, new, likely)
    except BaseException:
        remove(new)
        raise
    finally:
        remove(patched)
    damaged_path = move_damaged_aside(path)
    if files is not None:
        with translated_errors(path):
            IndexDirectory(path.parent).rename(new.name, path.name)
    return RecoveredCatalog(files or 0, damaged_path, files is not None)


def move_damaged_aside(path: Path) -> Path:
    """Rename a catalog and its journals to the first free name of NAME.broken, NAME.broken-2, ..."""
    directory, number, damaged_path = IndexDirectory(path.parent), 1, f"{path.name}.broken"
    while any(directory.status(damaged_path + ending) for ending in ("", *JOURNAL_SUFFIXES)):
        number += 1
        damaged_path = f"{path.name}.broken-{number}"
    with translated_errors(path):
        for ending in JOURNAL_SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                directory.rename(path.name + ending, damaged_path + ending)
        directory.rename(path.name, damaged_path)
    return path.with_name(damaged_path)


def remove(path: Path) -> None:
    """Delete a catalog and its journals, if they exist; a folder of that name is moved aside."""
    directory = IndexDirectory(path.parent)
    for name in (path.name, *(path.name + ending for ending in JOURNAL_SUFFIXES)):
        if directory.has_directory(name):
            move_damaged_aside(path.with_name(name))
        directory.remove(name)


def facts_of(path: Path) -> dict[str, Any]:
    """The facts of a catalog of any format, as far as SQLite reads them; {} if it cannot, or if the table of facts is
    not one of ours."""
    with contextlib.suppress(*UNREADABLE, SearchIndexError), contextlib.closing(_opened(path, "ro")) as db:
        return _facts(db) if has_tables(objects(db), "facts") else {}
    return {}


def _opened(path: Path, mode: Literal["ro", "immutable"] = "immutable") -> BudgetedConnection:
    """A read-only connection. Its journal is ignored, except with mode "ro"."""
    db = connect(path, mode, recover=False)
    db.text_factory = bytes
    return db


def _facts(db: sqlite3.Connection) -> dict[str, Any]:
    return {
        key.decode(): value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        for key, value in db.execute(FACTS).fetchall()
    }


def _saved(path: Path, patched: Path, new: Path, likely: Callable[[], Mapping[str, Any] | None]) -> int | None:
    """Write the catalog `new` and return its number of files; None if there are no facts to make it with."""
    with contextlib.closing(_opened(_with_first_page(path, patched))) as db:
        facts: Mapping[str, Any] = {}
        with contextlib.suppress(*UNREADABLE):
            facts = valid_facts(_facts(db))
        if not _are_complete(facts):
            facts = (likely() if _has_rows(db) else None) or {}
        if not _are_complete(facts):
            return None
        with Catalog.create(new, fingerprint=facts["fingerprint"], model=facts["model"], dim=facts["dim"]) as catalog:
            catalog.set_facts({key: value for key, value in facts.items() if not key.startswith(_REBUILT_FACTS)})
            return _copy(db, catalog, 2 * facts["dim"])


def _are_complete(facts: Mapping[str, Any]) -> bool:
    return facts.keys() >= {"fingerprint", "model", "dim"}


def _has_rows(db: BudgetedConnection) -> bool:
    """Whether any file and any item can be read."""
    return all(any(row is not None for row in _readable(db, table, ["id"])) for table in ("files", "items"))


def _with_first_page(path: Path, patched: Path) -> Path:
    """The catalog, if SQLite can read its first page, which locates all tables, and if the tables of our names are
    ours; otherwise a copy with the first page of a new catalog, because the tables begin at the same pages in every
    catalog."""
    with contextlib.closing(_opened(path)) as db, contextlib.suppress(*UNREADABLE):
        existing = objects(db)
        named = {one.name.decode("latin-1") for one in existing} & set(TABLES)
        if not named or has_tables(existing, *named):
            return path
    directory = IndexDirectory(path.parent)
    if (size := directory.size(path.name) or 0) > directory.free_bytes():  # a sparse file grows when it is copied
        raise IndexDirectoryError(f"repairing {path} needs a copy of its {size:,} bytes, more than the disk has free.")
    Catalog.create(patched, fingerprint="", model="", dim=1).close()
    with directory.open(patched.name, "r+b") as target, directory.open(path.name, "rb") as damaged:
        page = bytearray(target.read(PAGE_BYTES))
        page[28:32] = (os.fstat(damaged.fileno()).st_size // PAGE_BYTES).to_bytes(4, "big")  # fileformat2.html, 1.3
        target.seek(0)
        shutil.copyfileobj(damaged, target)
        target.truncate()
        target.seek(0)
        target.write(page)
    return patched


def _copy(db: BudgetedConnection, catalog: Catalog, vector_bytes: int) -> int:
    """Copy files and items in the order of their ids, without an index; return the number of files kept.

    A file's items were written consecutively, so a gap may hide further items of the files around it: these files are
    left out.
    """
    known = {name for _, name, *_ in catalog.rows("PRAGMA table_info(files)")}
    existing = [row[1].decode("utf-8", "replace") for row in db.execute("PRAGMA table_info(files)")]
    columns = [name for name in existing if name in known]
    doubtful = set[int]()
    with catalog.writing() as target:
        placeholders = ", ".join("CAST(? AS TEXT)" if name == "path" else "?" for name in columns)
        for row in _readable(db, "files", columns):
            if isinstance(row, tuple):
                target.execute(
                    f"INSERT OR IGNORE INTO files({', '.join(columns)}) VALUES ({placeholders})", _text(row, columns)
                )
        names = ["id", "file", "modality", "at_s", "line", "text", "vector"]
        last_file, is_after_gap = None, False
        for row in _readable(db, "items", names):
            if not isinstance(row, tuple):
                doubtful.update(() if last_file is None else (last_file,))
                is_after_gap = True
                continue
            last_file = row[1]
            if is_after_gap or not isinstance(row[6], bytes) or len(row[6]) != vector_bytes:
                doubtful.add(last_file)
            is_after_gap = False
            if target.execute("SELECT 1 FROM files WHERE id = ?", (last_file,)).fetchone():
                inserted = target.execute(
                    "INSERT OR IGNORE INTO items VALUES (?, ?, ?, ?, ?, ?, ?)", _text(row, names)
                ).rowcount
                doubtful.update(() if inserted else (last_file,))
        doubtful.update(file for (file,) in target.execute(_SEVERAL_PICTURES).fetchall())
        target.executemany("DELETE FROM files WHERE id = ?", ((file,) for file in doubtful))
        target.execute(
            "DELETE FROM files WHERE reason IS NULL AND NOT EXISTS (SELECT 1 FROM items WHERE file = files.id)"
        )
        return target.execute("SELECT count(*) FROM files").fetchone()[0]


def _text(row: tuple[Any, ...], columns: list[str]) -> tuple[Any, ...]:
    """A row that was read as bytes, with its text decoded; a path stays bytes, because it may not be UTF-8."""
    byte_columns = ("path", "digest", "vector")
    return tuple(
        value.decode("utf-8", "replace") if isinstance(value, bytes) and name not in byte_columns else value
        for value, name in zip(row, columns, strict=True)
    )


def _readable(db: BudgetedConnection, table: str, columns: list[str]) -> Iterator[tuple[Any, ...] | None]:
    """The readable rows, by id; None for each gap. `columns` begins with the id."""
    last_id = 0
    while True:
        try:
            between = f"id > {last_id} AND id <= {_MAX_ROW_ID}"
            for row in db.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE {between} ORDER BY id"):
                if row[0] > last_id:  # a misplaced page repeats earlier rows
                    last_id = row[0]
                    yield row
            return
        except UNREADABLE:
            yield None
            if db.is_exhausted:  # it repeats the same rows endlessly
                return
            next_id = _next_readable(db, table, last_id)
            if next_id is None:
                return
            last_id = next_id


def _next_readable(db: sqlite3.Connection, table: str, last_id: int) -> int | None:
    """The smallest id from which rows can be read again; None if there is none."""

    def is_readable(start: int) -> bool | None:
        try:
            sql = f"SELECT * FROM {table} WHERE id > ? ORDER BY id LIMIT 1"
            return True if db.execute(sql, (start,)).fetchone() else None
        except UNREADABLE:
            return False

    step = 1
    while step < _MAX_ROW_ID and is_readable(last_id + step) is False:
        step *= 2
    low, high = last_id + step // 2, last_id + step  # low is unreadable; high is readable or past the end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_readable(middle) is False else (low, middle)
    return high if is_readable(high) else None
