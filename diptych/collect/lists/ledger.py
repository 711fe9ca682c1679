"""What became of each address of a list: OUT/collect.sqlite, which outlives the process that writes it.

An address is there once, however often it is listed, with all its captions. What is written into a shard is noted after
the shard's bytes are on the disk; what a killed process wrote and did not note is found in the shards.
"""

from __future__ import annotations

import errno
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from diptych.collect.pairs import Found, Words
from diptych.storage.output_files import refuse_link
from diptych.untrusted.json import parse_json

NAME = "collect.sqlite"
_WAIT_S = 60.0
_TABLES = """
CREATE TABLE IF NOT EXISTS list_files (path TEXT PRIMARY KEY, bytes INTEGER, changed_ns INTEGER, rows INTEGER);
CREATE TABLE IF NOT EXISTS list_urls (
  id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, state INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '',
  detail TEXT NOT NULL DEFAULT '', time_s REAL NOT NULL DEFAULT 0, shard INTEGER NOT NULL DEFAULT -1);
CREATE INDEX IF NOT EXISTS list_waiting ON list_urls (id) WHERE state = 0;
CREATE TABLE IF NOT EXISTS list_captions (
  url INTEGER NOT NULL, caption TEXT NOT NULL, licence TEXT NOT NULL, columns TEXT NOT NULL, UNIQUE (url, caption));
CREATE TABLE IF NOT EXISTS list_rows (reason TEXT PRIMARY KEY, rows INTEGER NOT NULL);
"""


class State(IntEnum):
    """Of an address: WAITING to be asked, DONE (in a shard), FAILED (`--retry` asks again), REFUSED (by its host, or by
    a rule: only `--retry` asks again)."""

    WAITING, DONE, FAILED, REFUSED = range(4)


class Waiting(NamedTuple):
    """An address that has to be asked, and its number."""

    id: int
    url: str


class Outcome(NamedTuple):
    """What became of an address. `shard` is the number of the shard that it went into."""

    id: int
    state: State
    reason: str = ""
    detail: str = ""
    shard: int = -1


class ListedRow(NamedTuple):
    """A row as it is kept: a normalised address with its captions."""

    url: str
    captions: Sequence[str]
    licence: str
    columns: Mapping[str, str]


class Ledger:
    """The states of all addresses. Use as a context manager; one thread at a time."""

    def __init__(self, out: Path):
        self.path = out / NAME
        refuse_link(self.path)
        self._db = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        with self._errors():
            self._db.execute("PRAGMA trusted_schema = OFF")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_TABLES)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    # --- lists

    def has_read(self, file: Path) -> bool:
        """Whether this list was read to its end, and has not changed since."""
        status = file.stat()
        key = (str(file.resolve()), status.st_size, status.st_mtime_ns)
        found = self._db.execute("SELECT 1 FROM list_files WHERE (path, bytes, changed_ns) = (?, ?, ?)", key)
        return found.fetchone() is not None

    def add(self, file: Path, rows: Iterable[ListedRow], left_out: Mapping[str, int]) -> int:
        """Note the rows of a list, all or none; return how many there were. `left_out` counts, after the last row,
        those that are not among them."""
        number, status = 0, file.stat()
        with self._errors(), self._transaction():
            for row in rows:
                self._add(row)
                number += 1
            for reason, many in left_out.items():
                self._db.execute(
                    "INSERT INTO list_rows VALUES (?, ?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows",
                    (reason, many),
                )
            key = (str(file.resolve()), status.st_size, status.st_mtime_ns, number)
            self._db.execute("INSERT OR REPLACE INTO list_files VALUES (?, ?, ?, ?)", key)
        return number

    def _add(self, row: ListedRow) -> None:
        added = self._db.execute("INSERT OR IGNORE INTO list_urls (url) VALUES (?)", (row.url,))
        if added.rowcount:
            number = added.lastrowid
        else:
            number = self._db.execute("SELECT id FROM list_urls WHERE url = ?", (row.url,)).fetchone()[0]
        columns = json.dumps(dict(row.columns), ensure_ascii=False)
        self._db.executemany(
            "INSERT OR IGNORE INTO list_captions VALUES (?, ?, ?, ?)",
            [(number, caption, row.licence, columns) for caption in row.captions],
        )

    # --- states

    def waiting(self, after: int, limit: int) -> list[Waiting]:
        """Addresses that wait, with higher numbers than `after`, in order."""
        with self._errors():
            found = self._db.execute(
                "SELECT id, url FROM list_urls WHERE state = 0 AND id > ? ORDER BY id LIMIT ?", (after, limit)
            )
            return [Waiting(*row) for row in found]

    def found(self, number: int, from_url: str) -> Found:
        """An address with all its captions, as what was found in the list. `from_url` is where the picture came from,
        after redirects."""
        (url,) = self._db.execute("SELECT url FROM list_urls WHERE id = ?", (number,)).fetchone()
        rows = self._db.execute(
            "SELECT caption, licence, columns FROM list_captions WHERE url = ? ORDER BY rowid", (number,)
        ).fetchall()
        words = tuple(Words(caption, "list") for caption, _, _ in rows)
        licence = next((licence for _, licence, _ in rows if licence), "")
        columns: dict[str, str] = parse_json(rows[0][2]) if rows else {}
        if from_url != url:
            columns["redirected_to"] = from_url
        return Found(url, words, licence=licence, time_s=time.time(), columns=columns)

    def note(self, outcomes: Iterable[Outcome]) -> None:
        """Commit what became of addresses."""
        now = time.time()
        rows = [(each.state, each.reason, each.detail[:500], now, each.shard, each.id) for each in outcomes]
        with self._errors(), self._transaction():
            self._db.executemany(
                "UPDATE list_urls SET state = ?, reason = ?, detail = ?, time_s = ?, shard = ? WHERE id = ?", rows
            )

    def note_written(self, urls: Iterable[str], shard: int) -> int:
        """Commit that these are in a shard; return how many were not known to be."""
        with self._errors(), self._transaction():
            changed = self._db.executemany(
                "UPDATE list_urls SET state = 1, reason = '', detail = '', shard = ? WHERE url = ? AND state != 1",
                [(shard, url) for url in urls],
            )
            return max(0, changed.rowcount)

    def wait_again(self) -> int:
        """Have all that failed or were refused wait again; return how many these are."""
        with self._errors(), self._transaction():
            return self._db.execute(
                "UPDATE list_urls SET state = 0, reason = '', detail = '' WHERE state IN (2, 3)"
            ).rowcount

    def written_by_shard(self) -> dict[int, int]:
        """How many addresses are known to be in each shard."""
        return dict(self._db.execute("SELECT shard, count(*) FROM list_urls WHERE state = 1 GROUP BY shard"))

    def counts(self) -> dict[State, dict[str, int]]:
        """How many addresses are in each state, by reason ("" for none)."""
        found: dict[State, dict[str, int]] = {state: {} for state in State}
        for state, reason, number in self._db.execute(
            "SELECT state, reason, count(*) FROM list_urls GROUP BY state, reason ORDER BY count(*) DESC"
        ):
            found[State(state)][reason] = number
        return found

    def rows(self) -> tuple[int, dict[str, int]]:
        """How many rows the lists have that are kept, and how many are not, by reason."""
        (number,) = self._db.execute("SELECT coalesce(sum(rows), 0) FROM list_files").fetchone()
        return number, dict(self._db.execute("SELECT reason, rows FROM list_rows ORDER BY rows DESC"))

    def failed(self) -> Iterator[tuple[str, str, str]]:
        """Address, reason and detail of all that failed or were refused."""
        yield from self._db.execute("SELECT url, reason, detail FROM list_urls WHERE state IN (2, 3) ORDER BY id")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """A full disk is an OSError, as where shards are written."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 255 in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise OSError(errno.ENOSPC, f"{error}: the disk is full or failing", str(self.path)) from error
            raise
