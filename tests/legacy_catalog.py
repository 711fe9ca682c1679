"""A catalog as diptych 0.1.0 wrote it: format 1."""

import sqlite3
from pathlib import Path

_SCHEMA = """
CREATE TABLE facts(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE files(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, size INTEGER,
  mtime_ns INTEGER, digest BLOB, width INTEGER, height INTEGER, taken_at TEXT, latitude REAL, longitude REAL,
  camera TEXT, caption TEXT, duration_s REAL, reason TEXT, message TEXT);
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
_FILE = (
    "id, path, kind, size, mtime_ns, digest, width, height, taken_at, latitude, longitude, camera, caption, "
    "duration_s, reason, message"
)


def as_earlier(path: Path) -> None:
    """The catalog at `path`, which nobody has open, as format 1 with all that it holds."""
    old = path.with_name("earlier.sqlite")
    db = sqlite3.connect(old, isolation_level=None)
    db.execute("PRAGMA page_size = 16384")
    db.executescript(_SCHEMA)
    db.execute("ATTACH ? AS new", (str(path),))
    db.execute(f"INSERT INTO main.files SELECT {_FILE} FROM new.files")
    db.execute("INSERT INTO main.items SELECT * FROM new.items")
    db.execute("DELETE FROM main.facts")
    db.execute("INSERT INTO main.facts SELECT * FROM new.facts")
    db.execute("UPDATE main.facts SET value = 1 WHERE key = 'format'")
    db.execute("UPDATE main.facts SET value = '0.1.0' WHERE key = 'version'")
    db.close()
    old.replace(path)
