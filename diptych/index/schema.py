"""The tables of a catalog, and how its file is opened.

It keeps SQLite's rollback journal, not a write-ahead log: a log needs memory shared between processes, which network
folders do not have, cannot be read from read-only media, and may hold commits in a second file, which a person who
copies the pictures with their `.diptych` can lose. The price is that a reader waits while a commit is written: some
milliseconds, a few times a second.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from diptych.index.faults import explained
from diptych.index.items import Modality
from diptych.index.patterns import fits

FORMAT = 2
MODALITIES: tuple[Modality, ...] = ("picture", "text")
PAGE_BYTES = 16384  # fifteen rows of 512 dimensions to a page; of SQLite's usual 4096 a quarter would stay empty
_WAIT_S = 60.0  # how long a reader and a writer wait for each other's transaction

# Ids of items are never given twice and an item's vector never changes, so the ids alone tell a cache what it lacks.
# The triggers see to it that no change of items goes uncounted.
_SCHEMA = """
CREATE TABLE facts(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE files(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, size INTEGER,
  mtime_ns INTEGER, digest BLOB, width INTEGER, height INTEGER, taken_at TEXT, latitude REAL, longitude REAL,
  camera TEXT, caption TEXT, duration_s REAL, reason TEXT, message TEXT, partial TEXT,
  reading INTEGER NOT NULL DEFAULT 1, tokenizing INTEGER NOT NULL DEFAULT 1);
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


NAMES = (
    "facts", "files", "items", "files_by_digest", "items_by_file", "items_by_modality", "item_added", "item_removed",
)  # fmt: skip
# What each table has had from the first format on
COLUMNS = {
    "facts": {"key", "value"},
    "files": {
        "id", "path", "kind", "size", "mtime_ns", "digest", "width", "height", "taken_at", "latitude", "longitude",
        "camera", "caption", "duration_s", "reason", "message",
    },
    "items": {"id", "file", "modality", "at_s", "line", "text", "vector"},
}  # fmt: skip
# What makes a catalog of each earlier format one of the next
_CHANGES = {
    1: (
        "ALTER TABLE files ADD COLUMN partial TEXT",
        "ALTER TABLE files ADD COLUMN reading INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE files ADD COLUMN tokenizing INTEGER NOT NULL DEFAULT 1",
    )
}


def create_tables(db: sqlite3.Connection) -> None:
    """All tables, in the transaction that is open."""
    for statement in _statements(_SCHEMA):  # executescript would commit in the middle
        db.execute(statement)


def change_tables(db: sqlite3.Connection, form: int) -> None:
    """Those of an earlier format as they are today, in the transaction that is open."""
    for each in range(form, FORMAT):
        for statement in _CHANGES[each]:
            db.execute(statement)
    db.execute("UPDATE facts SET value = ? WHERE key = 'format'", (FORMAT,))


def has_columns(db: sqlite3.Connection) -> bool:
    """Whether all tables are there with their columns."""
    sql = "SELECT CAST(name AS BLOB) FROM pragma_table_info(?)"  # of a damaged schema, names are no text
    return all(
        {name.encode() for name in wanted} <= {name for (name,) in db.execute(sql, (table,))}
        for table, wanted in COLUMNS.items()
    )


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection on which transactions begin and end where we say."""
    address = path.absolute().as_uri() + f"?mode={mode}"  # as_uri quotes what a name may hold: ?, # and %
    with explained(path):
        db = sqlite3.connect(address, uri=True, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            db.execute("PRAGMA foreign_keys = ON")
            db.create_function("path_fits", 3, fits, deterministic=True)
        except BaseException:
            db.close()
            raise
    return db


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one; a trigger has semicolons of its own."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
