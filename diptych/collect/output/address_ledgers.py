"""The addresses that crawls and downloads of lists have noted beside their shards. What is forgotten leaves them, too:
the salted hashes of forgotten.json are enough to know it again."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from diptych.collect.output.forgotten import names_of
from diptych.storage.atomic import atomic_write
from diptych.untrusted.json import parse_json

# Files with their tables of addresses; `found` has the page of a picture.
_LEDGERS = {"collect.sqlite": {"list_urls": "''"}, "crawl.sqlite": {"pages": "''", "pictures": "found"}}
_FAILED = "failed.csv"
_WAIT_S = 60.0


def forget_addresses(out: Path, names: set[str]) -> None:
    """Take addresses that are covered by `names` (of `forgotten.name_of`) out of the ledgers in a folder."""
    for file, tables in _LEDGERS.items():
        if names and (out / file).is_file():
            _clean(out / file, tables, names)
    if names and (out / _FAILED).is_file():
        _clean_failed(out / _FAILED, names)


def _clean(path: Path, tables: dict[str, str], names: set[str]) -> None:
    db = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA secure_delete = ON")  # the rows' bytes are overwritten
        db.execute("BEGIN IMMEDIATE")
        for table, found in tables.items():
            rows = db.execute(f"SELECT id, url, {found} FROM {table}")
            gone = [(id,) for id, url, text in rows if not names.isdisjoint(_names(str(url), str(text)))]
            db.executemany(f"DELETE FROM {table} WHERE id = ?", gone)
            if table == "list_urls":
                db.executemany("DELETE FROM list_captions WHERE url = ?", gone)
            elif table == "pages":  # a shape is an address without its scheme and numbers
                shapes = db.execute("SELECT shape FROM shapes").fetchall()
                covered = [(shape,) for (shape,) in shapes if not names.isdisjoint(names_of(f"http://{shape}"))]
                db.executemany("DELETE FROM shapes WHERE shape = ?", covered)
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.close()


def _names(url: str, found: str) -> Iterator[str]:
    yield from names_of(url)
    if found:
        yield from names_of(str(parse_json(found)[2]))  # picture, words, page


def _clean_failed(path: Path, names: set[str]) -> None:
    """A table of addresses that failed; the address is in one of its columns."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if not any(_is_covered(cell, names) for cell in row)]
    with atomic_write(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def _is_covered(cell: str, names: set[str]) -> bool:
    return "://" in cell and not names.isdisjoint(names_of(cell))
