"""Which pages and pictures are known and what became of them: OUT/crawl.sqlite. Each page is committed on its own, with
its links and pictures, so that whatever kills the process, no finished page is asked for again."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from diptych.collect.addresses import netloc_of
from diptych.collect.pages.addresses import is_endless, key_of, shape_of
from diptych.collect.pages.limits import CrawlLimits
from diptych.collect.pairs import Found, Words
from diptych.errors import DataError
from diptych.untrusted.json import parse_json

NAME = "crawl.sqlite"
Kind = Literal["page", "picture"]
State = Literal["queued", "done", "redirected", "duplicate", "refused", "failed"]
TOO_DEEP, ENDLESS, REDIRECTS, CRASHED = "too deep", "endless", "redirects", "ended the process"
_TABLES: dict[Kind, str] = {"page": "pages", "picture": "pictures"}
_VERSION = 1
_SCHEMA = """
CREATE TABLE pages (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, url TEXT NOT NULL, host TEXT NOT NULL,
  state TEXT NOT NULL, reason TEXT NOT NULL, depth INTEGER NOT NULL, hops INTEGER NOT NULL, tries INTEGER NOT NULL);
CREATE INDEX pages_by_host ON pages (host, state, depth, id);
CREATE TABLE pictures (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, url TEXT NOT NULL, host TEXT NOT NULL,
  state TEXT NOT NULL, reason TEXT NOT NULL, depth INTEGER NOT NULL, hops INTEGER NOT NULL, tries INTEGER NOT NULL,
  found TEXT NOT NULL);
CREATE INDEX pictures_by_host ON pictures (host, state, depth, id);
CREATE TABLE contents (digest BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE shapes (shape TEXT PRIMARY KEY, barren INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE words (reason TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Job:
    """An address to ask for: `hops` redirects lead to it, and it was tried `tries` times. A picture has what its page
    says of it."""

    kind: Kind
    id: int
    url: str
    depth: int
    hops: int
    tries: int
    found: Found | None = None


class Frontier:
    """The queue of a crawl in a folder, and its memory. One process at a time opens it."""

    def __init__(self, out: Path, limits: CrawlLimits):
        """Open the folder's file, or make it. Raises DataError for a file that is none of these."""
        self._limits = limits
        self._db = sqlite3.connect(out / NAME, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            [version] = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version != _VERSION:
                raise sqlite3.DatabaseError(f"version {version}")
            self._reopen()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise DataError(
                f"{out / NAME} is no list of pages of this version ({error}). Name another folder.", "damaged"
            ) from error
        self.hosts = self._waiting_hosts()
        self._done = dict(
            self._db.execute("SELECT host, count(*) FROM pages WHERE state = 'done' GROUP BY host").fetchall()
        )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def retry(self) -> int:
        """Queue again what failed, and return how many."""
        changed = 0
        with self._db_transaction():
            for table in _TABLES.values():
                changed += self._db.execute(
                    f"UPDATE {table} SET state = 'queued', reason = '', tries = 0 WHERE state = 'failed'"
                ).rowcount
        self.hosts = self._waiting_hosts()
        return changed

    def add_pages(self, urls: Iterable[str], depth: int, hops: int = 0) -> None:
        """Queue those normalized addresses that are not known yet."""
        with self._db_transaction():
            self._insert_pages(urls, depth, hops)

    def next(self, host: str) -> Job | None:
        """The next thing to ask this host for: its pictures, then its pages from the nearest to the farthest; None if
        there is none, or only pages beyond a limit."""
        for kind in ("picture", "page"):
            if kind == "page" and self.is_full(host):
                break
            columns = "id, url, depth, hops, tries" + (", found" if kind == "picture" else "")
            row = self._db.execute(
                f"SELECT {columns} FROM {_TABLES[kind]} WHERE host = ? AND state = 'queued' ORDER BY depth, id LIMIT 1",
                (host,),
            ).fetchone()
            if row is not None:
                found = _found_of(row[5]) if kind == "picture" else None
                job = Job(kind, *row[:5], found=found)
                if job.tries < self._limits.tries:
                    return job
                self.leave_out(job, "failed", CRASHED)
                return self.next(host)
        self.hosts.discard(host)
        return None

    def begin(self, job: Job) -> None:
        """Count a try before a page is read: one that ends the process again and again is left out in the end."""
        self._db.execute(f"UPDATE {_TABLES[job.kind]} SET tries = tries + 1 WHERE id = ?", (job.id,))

    def is_full(self, host: str) -> bool:
        """Whether a limit on pages is reached, for this host or in all."""
        return sum(self._done.values()) >= self._limits.pages or self._done.get(host, 0) >= self._limits.pages_per_host

    def is_endless(self, job: Job) -> bool:
        """Whether too many pages of the same shape showed nothing new."""
        row = self._db.execute("SELECT barren FROM shapes WHERE shape = ?", (shape_of(job.url),)).fetchone()
        return is_endless(job.url) or (row is not None and row[0] >= self._limits.barren)

    def start_hosts(self) -> set[str]:
        """The hosts of start addresses, and of those to which they redirected."""
        return {host for (host,) in self._db.execute("SELECT DISTINCT host FROM pages WHERE depth = 0")}

    def finish_page(
        self, job: Job, *, digest: bytes, found: Iterable[Found] = (), links: Iterable[str] = (),
        refused: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Commit a page that was read: its links, and its pictures with usable words. `digest` is of its content: a
        page whose content its host has shown before is a duplicate, and its links lead nowhere new (elsewhere the same
        content has other links, for they are relative). `refused` are the reasons for which words were left out."""
        with self._db_transaction():
            is_known = not self._is_new(hashlib.sha256(netloc_of(job.url).encode() + digest).digest())
            new = 0 if is_known else self._insert_pictures(found, job.depth)
            if not is_known:
                self._insert_pages(links, job.depth + 1, 0)
            self._set(job, "duplicate" if is_known else "done")
            self._note_shape(job, is_barren=not new)
            for reason in refused:
                self._db.execute(
                    "INSERT INTO words VALUES (?, 1) ON CONFLICT (reason) DO UPDATE SET count = count + 1", (reason,)
                )
        host = netloc_of(job.url)
        self._done[host] = self._done.get(host, 0) + 1

    def finish_picture(self, job: Job, sha256: str) -> None:
        """Commit a picture that was written into a shard."""
        with self._db_transaction():
            self._is_new(bytes.fromhex(sha256))
            self._set(job, "done")

    def has_content(self, sha256: str) -> bool:
        """Whether a picture of these bytes was written."""
        return (
            self._db.execute("SELECT 1 FROM contents WHERE digest = ?", (bytes.fromhex(sha256),)).fetchone() is not None
        )

    def note_written(self, picture_url: str, sha256: str) -> None:
        """Note a picture that a shard has: a process may end between the shard and the commit."""
        with self._db_transaction():
            self._is_new(bytes.fromhex(sha256))
            self._db.execute("UPDATE pictures SET state = 'done' WHERE key = ?", (key_of(picture_url),))

    def redirect(self, job: Job, to: str) -> None:
        """Commit a redirect: its target is one more address, which is asked for once, as all are."""
        with self._db_transaction():
            if job.hops >= self._limits.redirects:
                self._set(job, "failed", REDIRECTS)
                return
            if job.kind == "page":
                self._insert_pages([to], job.depth, job.hops + 1)
                self._note_shape(job, is_barren=True)
            elif job.found is not None:
                self._insert_pictures([replace(job.found, picture_url=to)], job.depth, job.hops + 1)
            self._set(job, "redirected")

    def leave_out(self, job: Job, state: State, reason: str) -> None:
        """Commit that an address gave nothing."""
        with self._db_transaction():
            self._set(job, state, reason)
            if job.kind == "page":
                self._note_shape(job, is_barren=True)

    def postpone(self, job: Job, reason: str) -> None:
        """Count a try that failed; after the last one the address has failed."""
        with self._db_transaction():
            is_last = job.tries + 1 >= self._limits.tries
            self._db.execute(
                f"UPDATE {_TABLES[job.kind]} SET tries = tries + 1, state = ?, reason = ? WHERE id = ?",
                ("failed" if is_last else "queued", reason, job.id),
            )

    def counts(self, kind: Kind) -> dict[str, dict[str, int]]:
        """State -> reason -> how many addresses."""
        found: dict[str, dict[str, int]] = {}
        for state, reason, count in self._db.execute(
            f"SELECT state, reason, count(*) FROM {_TABLES[kind]} GROUP BY state, reason ORDER BY state, reason"
        ):
            by_reason = found.setdefault(state, {})
            name = "" if state == "queued" else reason
            by_reason[name] = by_reason.get(name, 0) + count
        return found

    def refused_words(self) -> dict[str, int]:
        """How many texts each rule on captions left out."""
        return dict(self._db.execute("SELECT reason, count FROM words ORDER BY count DESC").fetchall())

    def _reopen(self) -> None:
        """A run with a greater depth goes on where an earlier one ended."""
        self._db.execute(
            "UPDATE pages SET state = 'queued', reason = '' WHERE state = 'refused' AND reason = ? AND depth <= ?",
            (TOO_DEEP, self._limits.depth),
        )

    def _waiting_hosts(self) -> set[str]:
        rows = self._db.execute(
            "SELECT DISTINCT host FROM pages WHERE state = 'queued' "
            "UNION SELECT DISTINCT host FROM pictures WHERE state = 'queued'"
        )
        return {host for (host,) in rows}

    def _insert_pages(self, urls: Iterable[str], depth: int, hops: int) -> None:
        too_deep = depth > self._limits.depth
        for url in urls:
            host = netloc_of(url)
            state = ("refused", TOO_DEEP) if too_deep else ("queued", "")
            added = self._db.execute(
                "INSERT OR IGNORE INTO pages (key, url, host, state, reason, depth, hops, tries) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
                (key_of(url), url, host, *state, depth, hops),
            ).rowcount
            if added and not too_deep:
                self.hosts.add(host)

    def _insert_pictures(self, found: Iterable[Found], depth: int, hops: int = 0) -> int:
        added = 0
        for each in found:
            url, host = each.picture_url, netloc_of(each.picture_url)
            new = self._db.execute(
                "INSERT OR IGNORE INTO pictures (key, url, host, state, reason, depth, hops, tries, found) "
                "VALUES (?, ?, ?, 'queued', '', ?, ?, 0, ?)",
                (key_of(url), url, host, depth, hops, _json_of(each)),
            ).rowcount
            added += new
            if new:
                self.hosts.add(host)
        return added

    def _is_new(self, digest: bytes) -> bool:
        return self._db.execute("INSERT OR IGNORE INTO contents VALUES (?)", (digest,)).rowcount > 0

    def _set(self, job: Job, state: State, reason: str = "") -> None:
        self._db.execute(f"UPDATE {_TABLES[job.kind]} SET state = ?, reason = ? WHERE id = ?", (state, reason, job.id))

    def _note_shape(self, job: Job, *, is_barren: bool) -> None:
        self._db.execute(
            "INSERT INTO shapes VALUES (?, ?) ON CONFLICT (shape) DO UPDATE SET barren = "
            + ("barren + 1" if is_barren else "0"),
            (shape_of(job.url), int(is_barren)),
        )

    def _db_transaction(self) -> sqlite3.Connection:
        """`with` commits at its end, or takes all back."""
        self._db.execute("BEGIN IMMEDIATE")
        return self._db


def _json_of(found: Found) -> str:
    return json.dumps(
        [found.picture_url, [*map(list, found.words)], found.page_url, found.language, found.licence, found.time_s],
        ensure_ascii=False,
    ).encode("utf-8", "replace").decode()  # fmt: skip


def _found_of(text: str) -> Found:
    url, words, page_url, language, licence, time_s = parse_json(text)
    return Found(url, tuple(Words(*each) for each in words), page_url, language, licence, time_s)
