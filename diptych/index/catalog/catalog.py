"""The catalog of an index: one SQLite file with its files, their metadata, and the vectors of their parts. Everything
else in an index is derived from it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from diptych.errors import IndexBusyError, IndexDamagedError, IndexDirectoryError, IndexNewerError
from diptych.index.catalog import schema, validation
from diptych.index.catalog.facts import REQUIRED, first_invalid
from diptych.index.catalog.known_items import KnownItems, alone_in, items_of
from diptych.index.catalog.schema import FORMAT, MODALITIES, change_tables, check_schema, connect, create_tables
from diptych.index.catalog.validation import FILE_COLUMNS, Item, KnownFile, State, Summary
from diptych.media.items import CatalogEntry, File, FileContents, IndexCounts, Modality
from diptych.storage.directory import IndexDirectory
from diptych.storage.error_translation import translated_errors
from diptych.storage.journals import JOURNAL_SUFFIXES
from diptych.storage.query_budget import BudgetedConnection
from diptych.untrusted.links import RootBoundary
from diptych.versions import READING, TOKENIZING

T = TypeVar("T")
WAIT_S = 60.0  # how long readers and writers wait for each other's transaction
_SIGNAL_INTERVAL_MS = 250  # Python handles no signal while SQLite waits
BLOCK = 8192  # vectors per read: 8 MB at 512 dimensions
_IDS_PER_STATEMENT = 500  # SQLite accepts 32,766

_PUT_FILE = (
    f"INSERT INTO files({', '.join(FILE_COLUMNS)}) VALUES (CAST(? AS TEXT){', ?' * (len(FILE_COLUMNS) - 1)}) "
    f"ON CONFLICT(path) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in FILE_COLUMNS[1:])} "
    "RETURNING id"
)
_PUT_ITEM = "INSERT INTO items(file, modality, at_s, line, text, vector) VALUES (?, ?, ?, ?, CAST(? AS TEXT), ?)"
_RESTAMP = "UPDATE files SET path = CAST(? AS TEXT), size = ?, mtime_ns = ? WHERE id = ?"
_COUNT = (
    "UPDATE facts SET value = value + 1 WHERE key = 'generation'"  # changes of files; triggers count those of items
)
_ITEMS_OF_FILE = "SELECT file, modality, at_s, line, text, vector FROM items WHERE file = ? ORDER BY id"
_PARTS = "SELECT items.modality, at_s, text, vector FROM items JOIN files ON files.id = items.file WHERE"
_CURRENT = (
    "CASE WHEN path = CAST(:path AS TEXT) THEN CASE modality WHEN 'picture' THEN NOT :picture ELSE NOT :text END "
    f"ELSE CASE modality WHEN 'picture' THEN reading >= {READING} ELSE tokenizing >= {TOKENIZING} END END"
)


class Catalog:
    """An open catalog. Every method that writes uses one transaction: all of it is stored, or nothing.

    Invalid rows are left out of every result. `refused` names those that were read, and `invalid_files` finds all.
    `inside` decides which paths lead out of the folder; if it is None, the text of a path alone decides. `known` keeps
    items that were read. `opened_facts` are the facts at opening, `steady_facts` those of `IndexFolder.steady`;
    `is_earlier` means an earlier format.

    Raises IndexDirectoryError, IndexDamagedError and IndexBusyError, as described in `diptych.errors`.
    """

    def __init__(self, path: Path, db: BudgetedConnection):
        self.path = path
        self._db = db
        db.execute(f"PRAGMA busy_timeout = {_SIGNAL_INTERVAL_MS}")
        self.is_earlier = False
        self.opened_facts: dict[str, Any] = {}
        self.refused: dict[int, str] = {}
        self.inside: Callable[[], RootBoundary | None] = lambda: None
        self.known: KnownItems | None = None
        self.steady_facts: dict[str, Any] | None = None

    @classmethod
    def open(cls, path: Path, *, readonly: bool = False, recover: bool = True) -> Catalog:
        """Open an existing catalog. `recover` rolls back a killed process's transaction. Raises IndexDirectoryError if
        there is none, IndexDamagedError if the file is not a catalog, IndexUnsafeError if it contains anything else, or
        if a foreign journal is beside it."""
        status = IndexDirectory(path.parent).plain(path.name)
        if status is None or status.st_size == 0:
            raise IndexDirectoryError(f"{path.parent} contains no index; `diptych index FOLDER` makes one.")
        catalog = cls(path, connect(path, "ro" if readonly else "rw", recover=recover))
        try:
            catalog._check_format()
        except BaseException:
            catalog.close()
            raise
        return catalog

    @classmethod
    def create(cls, path: Path, *, fingerprint: str, model: str, dim: int) -> Catalog:
        """A new, empty catalog for vectors of dimension `dim` by one model. It appears complete or not at all: a
        process killed in its first transaction leaves no catalog."""
        directory, aside = IndexDirectory(path.parent), path.with_name(f"{path.name}.part")
        directory.plain(path.name)
        with translated_errors(path.parent):
            directory.create()
            for ending in ("", *JOURNAL_SUFFIXES):
                directory.remove(aside.name + ending)
            if directory.status(path.name) is None:  # a journal without a catalog is not this one's
                for ending in JOURNAL_SUFFIXES:
                    directory.remove(path.name + ending)
        facts = {"format": FORMAT, "fingerprint": fingerprint, "model": model, "dim": dim, "generation": 0}
        facts |= {f"change.{modality}": os.urandom(8).hex() for modality in MODALITIES}
        with cls(aside, connect(aside, "rwc")) as catalog, catalog.writing() as db:
            create_tables(db)
            db.executemany(f"INSERT INTO facts {validation.FACT}", validation.fact_rows(facts))
        with translated_errors(path):
            directory.rename(aside.name, path.name)
        return cls.open(path)

    def _check_format(self) -> None:
        with translated_errors(self.path):
            is_earlier = self._retry_while_busy(lambda: check_schema(self._db, self.path))
            facts, last = dict(self.rows(validation.FACTS)), self.rows(validation.LAST_ID)
        form = facts.get("format")
        if isinstance(form, int) and form > FORMAT:
            raise IndexNewerError(f"{self.path} has format {form}; this diptych reads {FORMAT}.")
        if not facts.keys() >= REQUIRED:
            raise IndexDamagedError(f"{self.path} is not a catalog of diptych, or lacks required facts.")
        self._check_facts(facts, read=True)
        form = facts["format"]
        if is_earlier != (form < FORMAT):
            raise IndexDamagedError(f"{self.path} has format {form} by its facts, but tables of another format.")
        if last and last[0][0]:
            raise IndexDamagedError(f"{self.path} has used all possible ids.")
        self.is_earlier, self.opened_facts = is_earlier, facts

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, committed only if the whole block succeeds; Ctrl-C rolls it back."""
        with translated_errors(self.path), schema.set_for_writing(self._db):
            try:
                self._retry_while_busy(lambda: self._db.execute("BEGIN IMMEDIATE"))
                yield self._db
                self._retry_while_busy(lambda: self._db.execute("COMMIT"))
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """The rows of an SQL query; text that is not UTF-8 is decoded with surrogates."""
        with translated_errors(self.path), self._db.counted():
            try:
                return self._retry_while_busy(lambda: self._db.execute(sql, parameters).fetchall())
            except sqlite3.DatabaseError as error:
                if self._db.is_exhausted:
                    raise IndexDamagedError(f"{self.path} returns more rows than a file of its size can.") from error
                if "decode" not in str(error):
                    raise
            with self._surrogate_text():
                return self._retry_while_busy(lambda: self._db.execute(sql, parameters).fetchall())

    def _retry_while_busy(self, operation: Callable[[], T]) -> T:
        """The result of an operation, repeated while another process holds a lock."""
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                return operation()
            except sqlite3.OperationalError as error:
                is_busy = getattr(error, "sqlite_errorcode", 0) & 255 == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > deadline:
                    raise

    @contextmanager
    def _surrogate_text(self) -> Iterator[None]:
        """Decode names that are not UTF-8 with surrogates. Not the default, because it costs a call per name."""
        self._db.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        try:
            yield
        finally:
            self._db.text_factory = str

    # --- facts

    def facts(self) -> dict[str, Any]:
        """The facts of the index: format, fingerprint, model, dim, generation, ... Raises IndexDamagedError if one is
        not valid."""
        if self.steady_facts is not None:
            return self.steady_facts
        facts = dict(self.rows(validation.FACTS))
        self._check_facts(facts)
        return facts

    def _check_facts(self, facts: Mapping[str, Any], *, read: bool = False) -> None:
        if fault := first_invalid(facts, read=read):
            raise IndexDamagedError(f"{self.path} was not written by diptych: {fault}.")

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """Add or replace facts; None deletes one."""
        with self.writing():
            self._db.executemany(f"INSERT OR REPLACE INTO facts {validation.FACT}", validation.fact_rows(facts))
            self._db.execute("DELETE FROM facts WHERE value IS NULL")

    @property
    def generation(self) -> int:
        """A counter, increased by each commit that changes files or items."""
        return self.facts()["generation"]

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""
        return self.facts()["dim"]

    def stamp(self, modality: Modality) -> str:
        """A value that changes with each change of this modality's items, and differs between catalogs, even if one was
        copied and both were changed. A cache must carry it to be valid."""
        return validation.stamp_of(self.facts(), modality)

    # --- reading

    def state(self, condition: str = "1", parameters: Sequence[Any] = ()) -> State:
        """The facts, and the `files` for which an SQL condition holds."""
        return State(self.facts(), self.files(condition, parameters))

    def summary(self, condition: str = "1", parameters: Sequence[Any] = ()) -> Summary:
        """The facts, the counts of all, and the failures and partial files for which an SQL condition holds."""
        failures, partial = self.failures(condition, parameters), self.partial(condition, parameters)
        return Summary(self.facts(), self.counts(), failures, partial)

    def files(self, condition: str = "1", parameters: Sequence[Any] = ()) -> dict[str, KnownFile]:
        """The files for which an SQL condition holds, by path; by default all, here and below. An invalid row gets a
        name that no file can have."""
        outdated = "1" if self.is_earlier else f"reading < {READING} OR tokenizing < {TOKENIZING}"
        path = f"CASE WHEN {validation.VALID_FILE} THEN path ELSE '/' || id END"
        sql = f"SELECT {path}, id, kind, size, mtime_ns, reason IS NOT NULL, {outdated} FROM files WHERE {condition}"
        return {row[0]: KnownFile._make(row[1:]) for row in self.rows(sql, parameters)}

    def failures(self, condition: str = "1", parameters: Sequence[Any] = ()) -> dict[str, tuple[str, str]]:
        """The files that could not be read: path -> (reason, message)."""
        rows = self.rows(validation.UNREAD + condition, parameters)
        return {path: (reason, text) for path, kind, reason, text in rows if validation.is_valid_path(path, kind)}

    def partial(self, condition: str = "1", parameters: Sequence[Any] = ()) -> dict[str, str]:
        """The files that were partly read: path -> what is missing."""
        found = [] if self.is_earlier else self.rows(validation.PARTIAL + condition, parameters)
        return {path: partial for path, kind, partial in found if validation.is_valid_path(path, kind)}

    def invalid_files(self) -> dict[int, str]:
        """The files whose rows are not valid, or whose paths lead out of the folder, by id, with their display
        names."""
        rows, inside = self.rows(validation.PATHS), self.inside()
        return {
            id: validation.display_path(path, id)
            for id, path, kind, is_valid in rows
            if not (is_valid and validation.is_valid_path(path, kind)) or (inside and inside.is_outside(path))
        }

    def digests(self, ids: Sequence[int]) -> dict[int, bytes]:
        """The digest of each of these files."""
        return dict(self.rows_by_id("SELECT id, digest FROM files WHERE id IN ({})", ids))

    def counts(self, condition: str = "1", parameters: Sequence[Any] = ()) -> IndexCounts:
        """The numbers of files and items."""
        partial = "0" if self.is_earlier else "count(nullif(partial, ''))"
        counted = f"SELECT count(*), count(reason), {partial} FROM files WHERE {condition}"
        files, failed, partial = self.rows(counted, parameters)[0]
        of_files = "" if condition == "1" else f"WHERE file IN (SELECT id FROM files WHERE {condition})"
        items = dict(self.rows(f"SELECT modality, count(*) FROM items {of_files} GROUP BY modality", parameters))
        return IndexCounts(files, items.get("picture", 0), items.get("text", 0), failed, partial)

    def count(self, modality: Modality) -> int:
        """The number of items of a modality."""
        return self.rows("SELECT count(*) FROM items WHERE modality = ?", (modality,))[0][0]

    def ids(self, modality: Modality) -> np.ndarray:
        """The ids, (n,) int64 in ascending order, of all items of a modality."""
        sql = f"SELECT id FROM items WHERE modality = ? AND {validation.valid_vector(self.dim)} ORDER BY id"
        rows = self.rows(sql, (modality,))
        return np.fromiter((id for (id,) in rows), np.int64, len(rows))

    def matching(self, condition: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> np.ndarray:
        """The ids, (n,) int64 in ascending order, of the items for which an SQL condition on the columns of `files` and
        `items` holds."""
        # the cross join has SQLite read files first, and of the items, which are long, an index alone
        sql = f"SELECT items.id FROM files CROSS JOIN items ON items.file = files.id WHERE {condition}"
        rows = self.rows(sql, parameters)
        return np.sort(np.fromiter((id for (id,) in rows), np.int64, len(rows)))

    def items(self, ids: Iterable[int]) -> list[Item]:
        """These items, in the order of the given ids, without deleted and `refused` ones."""
        return items_of(self, [int(id) for id in ids])

    def alone(self, condition: str, parameters: Sequence[Any]) -> set[int]:
        """See `diptych.index.catalog.known_items.alone_in`."""
        return alone_in(self, condition, parameters)

    def vectors(self, modality: Modality, *, after: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All vectors of a modality with ids above `after`, block by block: ids (n,) int64, ascending, and (n, dim)
        float16. Vectors that are not of unit length are left out. No transaction is held between blocks: compare
        `stamp` before and after."""
        dim = self.dim
        is_valid = validation.valid_vector(dim)
        sql = f"SELECT id, vector FROM items WHERE modality = ? AND id > ? AND {is_valid} ORDER BY id LIMIT ?"
        while rows := self.rows(sql, (modality, after, BLOCK)):
            ids, vectors = np.array([id for id, _ in rows], np.int64), self._matrix([each for _, each in rows], dim)
            if ids[0] <= after or (np.diff(ids) <= 0).any():  # or the loop would not end
                raise IndexDamagedError(f"{self.path} is damaged (its items are not in order).")
            are_unit = validation.are_unit(vectors)
            yield (ids, vectors) if are_unit.all() else (ids[are_unit], vectors[are_unit])
            after = rows[-1][0]

    def vectors_of(self, ids: Iterable[int]) -> np.ndarray:
        """The vectors of these items, (n, dim) float16, in their order. Raises IndexBusyError if one has been
        deleted."""
        requested = [int(id) for id in ids]
        found = dict(self.rows_by_id("SELECT id, vector FROM items WHERE id IN ({})", requested))
        if len(found) < len(set(requested)):
            raise IndexBusyError(f"{self.path} changed while it was read: another process is updating it. Try again.")
        return self._matrix([found[id] for id in requested], self.dim)

    def _matrix(self, blobs: list[bytes], dim: int) -> np.ndarray:
        if any(not isinstance(blob, bytes) or len(blob) != 2 * dim for blob in blobs):
            raise IndexDamagedError(f"{self.path} contains truncated vectors.")
        return np.frombuffer(b"".join(blobs), "<f2").reshape(-1, dim)

    def parts_of(
        self, contents: FileContents, stale: Collection[Modality] = ()
    ) -> list[tuple[Modality, float | None, str | None, np.ndarray]]:
        """Known parts that a file may share: all items of any file with the same bytes, and the texts of the file at
        that path; each as modality, at_s, text and vector. Items of other files count if this version would make the
        same, items of the file itself if their modality is not `stale`."""
        requested = {"path": os.fsencode(contents.file.path), "digest": contents.digest}
        requested |= {"picture": "picture" in stale, "text": "text" in stale}
        rows = self.rows(f"{_PARTS} path = CAST(:path AS TEXT) AND modality = 'text' AND {_CURRENT}", requested)
        if contents.digest:
            rows += self.rows(f"{_PARTS} digest = :digest AND {_CURRENT}", requested)
        dim = self.dim
        rows = [row for row in rows if isinstance(row[3], bytes) and len(row[3]) == 2 * dim]
        vectors = self._matrix([row[3] for row in rows], dim)
        found = zip(rows, vectors, validation.are_unit(vectors), strict=True)
        return [(*row[:3], vector) for row, vector, is_valid in found if is_valid]

    def rows_by_id(self, sql: str, ids: Sequence[int]) -> list[Any]:
        """The rows of a statement with {} for any number of ids."""
        rows = []
        for start in range(0, len(ids), _IDS_PER_STATEMENT):
            some = ids[start : start + _IDS_PER_STATEMENT]
            rows += self.rows(sql.format(", ".join("?" * len(some))), some)
        return rows

    # --- writing

    def upgrade(self) -> None:
        """Convert a catalog of an earlier format to the current one, if it is one."""
        if self.is_earlier:
            with self.writing() as db:
                form = self.facts()["format"]  # another process may have converted it
                if form < FORMAT:
                    change_tables(db, form)
            self.is_earlier = False

    def put(self, entries: Iterable[CatalogEntry], *, removed: Iterable[int] = ()) -> None:
        """Store files as they were read, with their items, replacing what was known of them. Unchanged items keep their
        ids. The files `removed`, by id, are deleted first."""
        with self.writing():
            self._drop(removed)
            self._db.execute(_COUNT)
            dim = self.dim
            for entry in entries:
                row = validation.file_row(entry.contents, settled=entry.settled)
                (file,) = self._db.execute(_PUT_FILE, row).fetchone()
                rows = list(validation.item_rows(file, entry, dim))
                with self._surrogate_text():
                    before = self._db.execute(_ITEMS_OF_FILE, (file,)).fetchall()
                if rows != before:
                    self._db.execute("DELETE FROM items WHERE file = ?", (file,))
                    self._db.executemany(_PUT_ITEM, rows)

    def restamp(self, files: Iterable[tuple[int, File, bool]]) -> None:
        """Store new paths and times of known files, by id, with whether their time is settled; their items stay."""
        files = list(files)
        with self.writing():
            self._db.execute(_COUNT)
            # through temporary names, so that two files may swap theirs
            self._db.executemany("UPDATE files SET path = '/' || id WHERE id = ?", [(id,) for id, _, _ in files])
            rows = ((os.fsencode(file.path), file.size, file.mtime_ns if ok else None, id) for id, file, ok in files)
            self._db.executemany(_RESTAMP, rows)

    def forget(self, ids: Iterable[int]) -> None:
        """Delete these files and their items."""
        with self.writing():
            self._drop(ids)

    def _drop(self, ids: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM files WHERE id = ?", ((int(id),) for id in ids))
