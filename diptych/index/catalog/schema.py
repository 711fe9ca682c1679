"""The tables of a catalog, and the opening of its file.

The catalog uses SQLite's rollback journal, not a write-ahead log: a log needs memory shared between processes, which
network folders do not have, cannot be read from read-only media, and may hold commits in a second file, which is easily
lost when a person copies pictures with their `.diptych`. The price is that readers wait during a commit: some
milliseconds, a few times a second.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from diptych.errors import IndexDamagedError, IndexNewerError, IndexUnsafeError
from diptych.index.catalog.distance import great_circle_km
from diptych.media.items import Modality
from diptych.media.scanning.path_patterns import fits
from diptych.storage.directory import IndexDirectory
from diptych.storage.error_translation import translated_errors
from diptych.storage.query_budget import BudgetedConnection

FORMAT = 2
MODALITIES: tuple[Modality, ...] = ("picture", "text")
PAGE_BYTES = 16384  # fifteen rows of 512 dimensions; at SQLite's usual 4096 a quarter would stay empty
# Limits above those of our own catalogs, which bound the cost of an untrusted one: bytes of a value or row, bytes of a
# statement, nested triggers (deleting a file deletes and counts its items), attached databases
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1 << 26,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 1 << 20,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 8,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
# While writing, what undoes a statement stays in memory: a file for it would get more than the catalog. Sorting uses
# files. A connection that has written keeps 64 MB of pages instead of 2: those of the digests of a million files
_WRITING = ("temp_store = MEMORY", "cache_size = -65536")
_READING = ("temp_store = DEFAULT",)
_SETTINGS = ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "foreign_keys = ON")

# New items get ids that were never used, and an item's vector never changes, so a cache finds what it lacks by
# comparing ids; where ids come from elsewhere, `LocalStore.put` sees to that. The triggers count every change of items.
_ADDED = """, partial TEXT,
  reading INTEGER NOT NULL DEFAULT 1, tokenizing INTEGER NOT NULL DEFAULT 1"""  # since format 2
_SCHEMA = f"""
CREATE TABLE facts(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE files(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, size INTEGER,
  mtime_ns INTEGER, digest BLOB, width INTEGER, height INTEGER, taken_at TEXT, latitude REAL, longitude REAL,
  camera TEXT, caption TEXT, duration_s REAL, reason TEXT, message TEXT{_ADDED});
CREATE TABLE items(id INTEGER PRIMARY KEY AUTOINCREMENT, file INTEGER NOT NULL REFERENCES files(id) ON DELETE CASCADE,
  modality TEXT NOT NULL, at_s REAL, line INTEGER, text TEXT, vector BLOB NOT NULL);
CREATE INDEX files_by_digest ON files(digest);
CREATE INDEX items_by_file ON items(file, modality);
CREATE INDEX items_by_modality ON items(modality);
CREATE TRIGGER item_added AFTER INSERT ON items BEGIN
  UPDATE facts SET value = value + 1 WHERE key = 'generation';
  UPDATE facts SET value = hex(randomblob(8)) WHERE key = 'change.' || new.modality;
END;
CREATE TRIGGER item_removed AFTER DELETE ON items BEGIN
  UPDATE facts SET value = value + 1 WHERE key = 'generation';
  UPDATE facts SET value = hex(randomblob(8)) WHERE key = 'change.' || old.modality;
END;
"""


TABLES = ("facts", "files", "items")
# Statements that convert a catalog of each earlier format to the next
_CHANGES = {
    1: (
        "ALTER TABLE files ADD COLUMN partial TEXT",
        "ALTER TABLE files ADD COLUMN reading INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE files ADD COLUMN tokenizing INTEGER NOT NULL DEFAULT 1",
    )
}


def create_tables(db: sqlite3.Connection) -> None:
    """Create all tables in the open transaction."""
    for statement in _statements(_SCHEMA):  # executescript would commit
        db.execute(statement)


def change_tables(db: sqlite3.Connection, form: int) -> None:
    """Convert the tables of an earlier format to the current one, in the open transaction."""
    for each in range(form, FORMAT):
        for statement in _CHANGES[each]:
            db.execute(statement)
    db.execute("UPDATE facts SET value = ? WHERE key = 'format'", (FORMAT,))


def connect(path: Path, mode: Literal["ro", "rw", "rwc", "immutable"], *, recover: bool = True) -> BudgetedConnection:
    """A connection with explicit transactions, on which an untrusted catalog can only be read; `IndexDirectory.connect`
    describes `mode` and `recover`."""
    db = IndexDirectory(path.parent).connect(path.name, mode, recover=recover)
    with translated_errors(path):
        try:
            for limit, value in _LIMITS.items():
                db.setlimit(limit, value)
            if sys.version_info >= (3, 12):
                db.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            for setting in _SETTINGS:
                db.execute(f"PRAGMA {setting}")
            if mode in ("ro", "immutable"):
                db.execute("PRAGMA query_only = ON")
            db.create_function("path_fits", 3, fits, deterministic=True)
            db.create_function("great_circle_km", 4, great_circle_km, deterministic=True)
        except BaseException:
            db.close()
            raise
    return db


@contextlib.contextmanager
def set_for_writing(db: sqlite3.Connection) -> Iterator[None]:
    """The connection's settings during a transaction that writes."""
    for setting in _WRITING:
        db.execute(f"PRAGMA {setting}")
    try:
        yield
    finally:
        for setting in _READING:
            db.execute(f"PRAGMA {setting}")


# --- validating a catalog's tables


class Object(NamedTuple):
    """A row of sqlite_master, as bytes, because a damaged one may contain anything; whitespace in its statement is
    normalised."""

    type: bytes
    name: bytes
    table: bytes
    sql: bytes


def objects(db: sqlite3.Connection) -> list[Object]:
    """All tables, indexes, triggers and views of a database, sorted; at most one more than a catalog has."""
    columns = ", ".join(f"CAST({name} AS BLOB)" for name in ("type", "name", "tbl_name", "sql"))
    rows = db.execute(f"SELECT {columns} FROM sqlite_master LIMIT {_max_objects() + 1}").fetchall()
    return sorted(Object(*(b" ".join((value or b"").split()) for value in row)) for row in rows)


def check_schema(db: sqlite3.Connection, path: Path) -> bool:
    """Whether a catalog has an earlier format. Raises IndexDamagedError if an object is missing, IndexUnsafeError if
    there is another one (a trigger, a view or a generated column is a program of whoever made it), IndexNewerError if
    its format is a later one."""
    if db.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        raise IndexUnsafeError(
            f"{path} was switched to SQLite's write-ahead mode by another program; diptych does not use it."
        )
    existing = objects(db)
    if existing == _current_schema():
        return False
    if existing in known_schemas():
        return existing == known_schemas()[1]
    raise _not_ours(db, path, existing)


def _not_ours(db: sqlite3.Connection, path: Path, existing: list[Object]) -> IndexDamagedError:
    expected = {one.name for one in _current_schema()}
    foreign = [one for one in existing if not any(one in known for known in known_schemas())]
    if has_tables(existing, "facts"):
        form = db.execute("SELECT value FROM facts WHERE key = 'format'").fetchone()
        if form and isinstance(form[0], int) and form[0] > FORMAT:
            return IndexNewerError(f"{path} has format {form[0]}; this diptych reads {FORMAT}.")
    if foreign:
        what = f"{foreign[0].type.decode('ascii', 'replace')} {foreign[0].name.decode('utf-8', 'replace')!a}"
        if has_tables(existing):
            return IndexUnsafeError(f"{path} has the {what}, which diptych did not make; it was not run.")
        return IndexDamagedError(f"{path} is not a catalog of diptych, or is damaged: it has the {what}.")
    missing = b", ".join(sorted(expected - {one.name for one in existing})).decode()
    problem = f"it lacks {missing}" if missing else "its tables are of different formats"
    return IndexDamagedError(f"{path} is not a catalog of diptych, or is damaged: {problem}.")


def has_tables(existing: list[Object], *names: str) -> bool:
    """Whether these tables, by default all, exist exactly once and as some format defines them."""
    for name in names or TABLES:
        found = [one for one in existing if one.name == name.encode()]
        if len(found) != 1 or not any(found[0] in known for known in known_schemas()):
            return False
    return True


@cache
def _current_schema() -> list[Object]:
    return _schema_of(_SCHEMA)


@cache
def known_schemas() -> tuple[list[Object], ...]:
    """The `objects` of a catalog of the current format, of the earlier one, and of one converted from that."""
    first = _SCHEMA.replace(_ADDED, "")
    return _current_schema(), _schema_of(first), _schema_of(first, *_CHANGES[1])


def _max_objects() -> int:
    return len(_SCHEMA.split("CREATE ")) + 8  # and SQLite's own


def _schema_of(script: str, *changes: str) -> list[Object]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(script)
        for change in changes:
            db.execute(change)
        return objects(db)


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; a trigger contains semicolons of its own."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
