"""Captions that stand under many pictures of one site, such as a motto or the site's name.

They are counted in a first pass over all that was found, in a file of SQLite, so that the number of sites and captions
is not bounded by memory; the second pass asks."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import numpy as np

from diptych.collect.pairs import Found

MOST = 10  # pictures of a site that may have the same caption
SHARE = 0.001  # of a site's captions, where that is more: a site of millions of pictures has many sunsets
_IN_MEMORY = 500_000  # counts, before they are written (about 60 MB)


def host_of(found: Found) -> str:
    """The host of the page that a picture stood on, or of the picture where no page is known; without "www."."""
    for address in (found.page_url, found.picture_url):
        try:
            host = urlsplit(address).hostname
        except ValueError:  # an address in brackets that is none
            continue
        if host:
            return host.removeprefix("www.")
    return ""


class RepeatedCaptions:
    """Counts each caption of each site, and then says which are repeated. Memory: 60 MB of counts, and then 8 bytes
    for each repeated caption."""

    def __init__(self, path: str | os.PathLike[str] = ":memory:", *, most: int = MOST, share: float = SHARE):
        """`path` is the file of counts, continued if it exists. A caption under more than `most` pictures of a site is
        repeated, if these are also more than `share` of the site's captions."""
        self.most, self.share = most, share
        self._connection = sqlite3.connect(Path(path) if path != ":memory:" else path)
        self._connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
            "CREATE TABLE IF NOT EXISTS caption_counts (host INTEGER, caption INTEGER, count INTEGER NOT NULL,"
            " PRIMARY KEY (host, caption)) WITHOUT ROWID;"
            "CREATE TABLE IF NOT EXISTS counted_parts (name TEXT PRIMARY KEY);"
        )
        self._counts: dict[tuple[int, int], int] = {}
        self._repeated: np.ndarray | None = None

    def add(self, found: Found) -> None:
        """Count the captions of a picture; the same text of several origins counts once."""
        host = host_of(found)
        for text in {_plain(words.text) for words in found.words}:
            self.add_caption(host, text)

    def add_caption(self, host: str, text: str) -> None:
        """Count one caption under one picture of a site."""
        key = (_hash(host), _hash(_plain(text)))
        self._counts[key] = self._counts.get(key, 0) + 1
        self._repeated = None
        if len(self._counts) >= _IN_MEMORY:
            self._write()

    def add_all(self, every: Iterable[Found]) -> RepeatedCaptions:
        """Count the captions of many pictures; returns itself."""
        for found in every:
            self.add(found)
        return self

    def add_part(self, name: str, every: Iterable[Found]) -> None:
        """Count a part of the set, such as a shard, once: wholly, or not at all where it is interrupted. A part that
        an earlier process has counted is not read again."""
        self.flush()
        if self._connection.execute("SELECT 1 FROM counted_parts WHERE name = ?", (name,)).fetchone():
            return
        try:
            with self._connection:
                self.add_all(every)
                self._write()
                self._connection.execute("INSERT INTO counted_parts VALUES (?)", (name,))
        finally:
            self._counts.clear()

    def flush(self) -> None:
        """Write the counts that are in memory."""
        with self._connection:
            self._write()

    def _write(self) -> None:
        """Write them as a part of what is going on."""
        rows = sorted((host, caption, count) for (host, caption), count in self._counts.items())
        self._connection.executemany(
            "INSERT INTO caption_counts VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET count = count + excluded.count", rows
        )  # fmt: skip
        self._counts.clear()

    def is_repeated(self, host: str, text: str) -> bool:
        """Whether too many pictures of a site have this caption. Case and white space make no difference."""
        if self._repeated is None:
            self._repeated = self._find()
        key = np.int64(_mixed(_hash(host), _hash(_plain(text))))
        at = int(np.searchsorted(self._repeated, key))
        return at < len(self._repeated) and bool(self._repeated[at] == key)

    def _find(self) -> np.ndarray:
        """The sorted keys of the repeated captions."""
        self.flush()
        rows = self._connection.execute(
            "SELECT host, caption FROM caption_counts JOIN"
            " (SELECT host AS site, SUM(count) AS total FROM caption_counts GROUP BY host) ON host = site"
            " WHERE count > ? AND count > total * ?", (self.most, self.share)
        )  # fmt: skip
        return np.unique(np.fromiter((_mixed(host, caption) for host, caption in rows), np.int64))

    def close(self) -> None:
        """Write what is in memory, and close the file."""
        self.flush()
        self._connection.close()

    def __enter__(self) -> RepeatedCaptions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _hash(text: str) -> int:
    """64 bits with a sign, as SQLite keeps them; the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), signed=True)


def _mixed(host: int, caption: int) -> int:
    return ((host * 0x9E3779B97F4A7C15 + caption + (1 << 63)) % (1 << 64)) - (1 << 63)
