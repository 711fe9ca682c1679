"""Saving what can be read of a damaged catalog."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from diptych.index.catalog import Catalog
from diptych.index.faults import IndexFault, explained

_FARTHEST = 2**40  # no id is greater


class Saved(NamedTuple):
    """How many `files` were saved with all their items; the rest is indexed again. `broken` is what the damaged file is
    called now."""

    files: int
    broken: Path


def recover(path: Path) -> Saved:
    """Put a new catalog in the place of a damaged one, with every file that can be read whole, and keep the old as
    NAME.broken. Raises IndexFault where not even the name of its model can be read: then nothing is changed."""
    new, broken = path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.broken")
    remove(new)
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    db.text_factory = bytes
    try:
        facts = _facts(db, path)
        with Catalog.create(new, fingerprint=facts["fingerprint"], model=facts["model"], dim=facts["dim"]) as catalog:
            files = _copy(db, catalog, 2 * facts["dim"])
    except BaseException:
        remove(new)
        raise
    finally:
        db.close()
    with explained(path):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}-journal", f"{broken}-journal")
        os.replace(path, broken)
        os.replace(new, path)
    return Saved(files, broken)


def remove(path: Path) -> None:
    """Remove a catalog and its journal, where they are there."""
    for name in (os.fspath(path), f"{path}-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _facts(db: sqlite3.Connection, path: Path) -> dict[str, Any]:
    try:
        rows = dict(db.execute("SELECT key, value FROM facts"))
        return {
            "fingerprint": rows[b"fingerprint"].decode(),
            "model": rows[b"model"].decode("utf-8", "surrogateescape"),
            "dim": int(rows[b"dim"]),
        }
    except (sqlite3.DatabaseError, KeyError, AttributeError, ValueError) as error:
        raise IndexFault(
            f"{path} is damaged beyond what can be saved ({error}); remove it, and index the folder again."
        ) from error


def _copy(db: sqlite3.Connection, catalog: Catalog, vector_bytes: int) -> int:
    """Copy files and items by the order of their ids, which no index is needed for; the number of files kept.

    A file's items were written one after another, so those around a gap may lack a neighbour: their files are left out.
    """
    columns = [row[1].decode() for row in db.execute("PRAGMA table_info(files)")]
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
                to.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?)", _text(row, names))
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


def _readable(db: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[tuple[Any, ...] | None]:
    """The rows that can be read, by id; None for each gap. `columns` begins with the id."""
    last = 0
    while True:
        try:
            for row in db.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE id > ? ORDER BY id", (last,)):
                last = row[0]
                yield row
            return
        except sqlite3.DatabaseError:
            yield None
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
        except sqlite3.DatabaseError:
            return False

    step = 1
    while step < _FARTHEST and is_readable(last + step) is False:
        step *= 2
    low, high = last + step // 2, last + step  # the one is not readable, the other is, or is behind the end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_readable(middle) is False else (low, middle)
    return high if is_readable(high) else None
