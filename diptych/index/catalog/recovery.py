"""Saving what can be read of a damaged catalog."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.facts import sound
from diptych.index.catalog.schema import PAGE_BYTES, TABLES, connect, has_tables, objects
from diptych.index.catalog.validation import FACTS
from diptych.storage.directory import IndexDirectory
from diptych.storage.faults import IndexFault, IndexPlaceError, explained
from diptych.storage.journals import COMPANIONS
from diptych.storage.query_budget import Bounded

_FARTHEST = 2**40  # no id is greater
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)  # the second is of SQLite's words about a damaged schema
# Files of one picture with two vectors, of which one is another file's
_SEVERAL_PICTURES = (
    "SELECT file FROM items JOIN files ON files.id = items.file WHERE kind = 'picture' AND modality = 'picture' "
    "GROUP BY file HAVING count(*) > 1"
)
_MADE_ANEW = ("format", "generation", "change.", "cached.")  # facts that belong to one file alone


class Saved(NamedTuple):
    """How many `files` were saved with all their items; the rest is indexed again. `broken` is what the damaged file is
    called now; `has_facts` says whether the model and what is left out were saved: else there is no catalog now."""

    files: int
    broken: Path
    has_facts: bool


def recover(path: Path, likely: Callable[[], Mapping[str, Any] | None]) -> Saved:
    """Put a new catalog in the place of a damaged one, with every file that can be read whole, and keep the old as
    NAME.broken. `likely` gives the facts (fingerprint, model, dim) where they cannot be read, or None. Where nothing
    can be saved, there is no catalog afterwards, and the next update makes one. What `likely` raises goes on, and
    nothing is changed then."""
    new, patched = path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.patched")
    for left in (new, patched):
        remove(left)
    try:
        files = _saved(path, patched, new, likely)
    except BaseException:
        remove(new)
        raise
    finally:
        remove(patched)
    broken = set_aside(path)
    if files is not None:
        with explained(path):
            IndexDirectory(path.parent).rename(new.name, path.name)
    return Saved(files or 0, broken, files is not None)


def set_aside(path: Path) -> Path:
    """Rename what lies in the place of a catalog, and its journal with it, to the first of NAME.broken, NAME.broken-2,
    ... that is free."""
    directory, number, broken = IndexDirectory(path.parent), 1, f"{path.name}.broken"
    while any(directory.status(broken + ending) for ending in ("", *COMPANIONS)):
        number += 1
        broken = f"{path.name}.broken-{number}"
    with explained(path):
        for ending in COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                directory.rename(path.name + ending, broken + ending)
        directory.rename(path.name, broken)
    return path.with_name(broken)


def remove(path: Path) -> None:
    """Remove a catalog and its journal, where they are there; a folder in the place of one is set aside."""
    directory = IndexDirectory(path.parent)
    for name in (path.name, *(path.name + ending for ending in COMPANIONS)):
        if directory.has_directory(name):
            set_aside(path.with_name(name))
        directory.remove(name)


def facts_of(path: Path) -> dict[str, Any]:
    """The facts of a catalog of any format, as far as SQLite reads them; {} where it does not, or where they are not in
    a table of ours."""
    with contextlib.suppress(*UNREADABLE, IndexFault), contextlib.closing(_opened(path, "ro")) as db:
        return _facts(db) if has_tables(objects(db), "facts") else {}
    return {}


def _opened(path: Path, mode: Literal["ro", "immutable"] = "immutable") -> Bounded:
    """A connection on which nothing can be changed; its journal is not looked at, unless by mode "ro"."""
    db = connect(path, mode, recover=False)
    db.text_factory = bytes
    return db


def _facts(db: sqlite3.Connection) -> dict[str, Any]:
    return {
        key.decode(): value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        for key, value in db.execute(FACTS).fetchall()
    }


def _saved(path: Path, patched: Path, new: Path, likely: Callable[[], Mapping[str, Any] | None]) -> int | None:
    """Write the catalog `new`; how many files are in it. None where it could not be begun."""
    with contextlib.closing(_opened(_with_first_page(path, patched))) as db:
        facts: Mapping[str, Any] = {}
        with contextlib.suppress(*UNREADABLE):
            facts = sound(_facts(db))
        if not _are_whole(facts):
            facts = (likely() if _holds_any(db) else None) or {}
        if not _are_whole(facts):
            return None
        with Catalog.create(new, fingerprint=facts["fingerprint"], model=facts["model"], dim=facts["dim"]) as catalog:
            catalog.set_facts({key: value for key, value in facts.items() if not key.startswith(_MADE_ANEW)})
            return _copy(db, catalog, 2 * facts["dim"])


def _are_whole(facts: Mapping[str, Any]) -> bool:
    return facts.keys() >= {"fingerprint", "model", "dim"}


def _holds_any(db: Bounded) -> bool:
    """Whether there is any file or item of ours to be read."""
    return all(any(row is not None for row in _readable(db, table, ["id"])) for table in ("files", "items"))


def _with_first_page(path: Path, patched: Path) -> Path:
    """The catalog where SQLite can read its first page, which says where all tables begin, and where what goes by the
    names of ours is ours; else a copy with that of a new one, for in each catalog they begin at the same places."""
    with contextlib.closing(_opened(path)) as db, contextlib.suppress(*UNREADABLE):
        there = objects(db)
        named = {one.name.decode("latin-1") for one in there} & set(TABLES)
        if not named or has_tables(there, *named):
            return path
    directory = IndexDirectory(path.parent)
    if (size := directory.size(path.name) or 0) > directory.free_bytes():  # it may have holes, which a copy has not
        raise IndexPlaceError(f"mending {path} takes a copy of its {size:,} bytes, more than its disk has room for.")
    Catalog.create(patched, fingerprint="", model="", dim=1).close()
    with directory.open(patched.name, "r+b") as to, directory.open(path.name, "rb") as damaged:
        page = bytearray(to.read(PAGE_BYTES))
        page[28:32] = (os.fstat(damaged.fileno()).st_size // PAGE_BYTES).to_bytes(4, "big")  # fileformat2.html, 1.3
        to.seek(0)
        shutil.copyfileobj(damaged, to)
        to.truncate()
        to.seek(0)
        to.write(page)
    return patched


def _copy(db: Bounded, catalog: Catalog, vector_bytes: int) -> int:
    """Copy files and items by the order of their ids, which no index is needed for; the number of files kept.

    A file's items were written one after another, so those around a gap may lack a neighbour: their files are left out.
    """
    known = {name for _, name, *_ in catalog.rows("PRAGMA table_info(files)")}
    there = [row[1].decode("utf-8", "replace") for row in db.execute("PRAGMA table_info(files)")]
    columns = [name for name in there if name in known]
    doubtful = set[int]()
    with catalog.writing() as to:
        places = ", ".join("CAST(? AS TEXT)" if name == "path" else "?" for name in columns)
        for row in _readable(db, "files", columns):
            if isinstance(row, tuple):
                to.execute(f"INSERT OR IGNORE INTO files({', '.join(columns)}) VALUES ({places})", _text(row, columns))
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
            if to.execute("SELECT 1 FROM files WHERE id = ?", (last_file,)).fetchone():
                kept = to.execute(
                    "INSERT OR IGNORE INTO items VALUES (?, ?, ?, ?, ?, ?, ?)", _text(row, names)
                ).rowcount
                doubtful.update(() if kept else (last_file,))
        doubtful.update(file for (file,) in to.execute(_SEVERAL_PICTURES).fetchall())
        to.executemany("DELETE FROM files WHERE id = ?", ((file,) for file in doubtful))
        to.execute("DELETE FROM files WHERE reason IS NULL AND NOT EXISTS (SELECT 1 FROM items WHERE file = files.id)")
        return to.execute("SELECT count(*) FROM files").fetchone()[0]


def _text(row: tuple[Any, ...], columns: list[str]) -> tuple[Any, ...]:
    """A row that was read as bytes with its text as text again; a path stays bytes, which may be no UTF-8."""
    kept = ("path", "digest", "vector")
    return tuple(
        value.decode("utf-8", "replace") if isinstance(value, bytes) and name not in kept else value
        for value, name in zip(row, columns, strict=True)
    )


def _readable(db: Bounded, table: str, columns: list[str]) -> Iterator[tuple[Any, ...] | None]:
    """The rows that can be read, by id; None for each gap. `columns` begins with the id."""
    last = 0
    while True:
        try:
            between = f"id > {last} AND id <= {_FARTHEST}"
            for row in db.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE {between} ORDER BY id"):
                if row[0] > last:  # a page in another's place brings back what has been
                    last = row[0]
                    yield row
            return
        except UNREADABLE:
            yield None
            if db.is_spent:  # it gives back the same again and again
                return
            beyond = _beyond(db, table, last)
            if beyond is None:
                return
            last = beyond


def _beyond(db: sqlite3.Connection, table: str, last: int) -> int | None:
    """The least number from which rows can be read again; None where that is the end."""

    def is_readable(start: int) -> bool | None:
        try:
            sql = f"SELECT * FROM {table} WHERE id > ? ORDER BY id LIMIT 1"
            return True if db.execute(sql, (start,)).fetchone() else None
        except UNREADABLE:
            return False

    step = 1
    while step < _FARTHEST and is_readable(last + step) is False:
        step *= 2
    low, high = last + step // 2, last + step  # the one is not readable, the other is, or is behind the end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_readable(middle) is False else (low, middle)
    return high if is_readable(high) else None
