"""The catalog of an index: one SQLite file with its files, their details, and the vector of each of their parts."""

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
from diptych.index.catalog import validation
from diptych.index.catalog.facts import REQUIRED, first_invalid
from diptych.index.catalog.schema import FORMAT, MODALITIES, change_tables, check_schema, connect, create_tables
from diptych.index.catalog.validation import FILE_COLUMNS, Item, Known, State, Summary
from diptych.media.items import Contents, Counts, Entry, File, Modality
from diptych.storage.directory import IndexDirectory
from diptych.storage.error_translation import translated_errors
from diptych.storage.journals import COMPANIONS
from diptych.storage.query_budget import Bounded
from diptych.untrusted.links import Inside
from diptych.versions import READING, TOKENIZING

T = TypeVar("T")
WAIT_S = 60.0  # how long a reader and a writer wait for each other's transaction
_HEARD_EVERY_MS = 250  # SQLite may wait for long without coming back to Python, which then hears no signal
BLOCK = 8192  # vectors that are read at a time: 8 MB at 512 dimensions
_ASKED_AT_ONCE = 500  # ids in one statement; SQLite takes 32,766

_PUT_FILE = (
    f"INSERT INTO files({', '.join(FILE_COLUMNS)}) VALUES (CAST(? AS TEXT){', ?' * (len(FILE_COLUMNS) - 1)}) "
    f"ON CONFLICT(path) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in FILE_COLUMNS[1:])} "
    "RETURNING id"
)
_PUT_ITEM = "INSERT INTO items(file, modality, at_s, line, text, vector) VALUES (?, ?, ?, ?, CAST(? AS TEXT), ?)"

_OWN_ITEMS = "SELECT file, modality, at_s, line, text, vector FROM items WHERE file = ? ORDER BY id"
_PARTS = "SELECT items.modality, at_s, text, vector FROM items JOIN files ON files.id = items.file WHERE"
_SOUND = (
    "CASE WHEN path = CAST(:path AS TEXT) THEN CASE modality WHEN 'picture' THEN NOT :picture ELSE NOT :text END "
    f"ELSE CASE modality WHEN 'picture' THEN reading >= {READING} ELSE tokenizing >= {TOKENIZING} END END"
)


_known = Known._make


class Catalog:
    """An open catalog. Every method that writes does so in one transaction: all of it is kept, or nothing.

    A row that none of ours could be is left out wherever rows are read. `refused` names those that were met, and
    `unsound` finds all. `inside` tells which paths lead out of the folder; where it is None, only their letters count.
    `opened_facts` are the facts as they were when it was opened, `is_earlier` says that its format is an earlier one.

    Raises IndexDirectoryError, IndexDamagedError and IndexBusyError, of `diptych.errors`.
    """

    def __init__(self, path: Path, db: Bounded):
        self.path = path
        self._db = db
        db.execute(f"PRAGMA busy_timeout = {_HEARD_EVERY_MS}")
        self.is_earlier = False
        self.opened_facts: dict[str, Any] = {}
        self.refused: dict[int, str] = {}
        self.inside: Callable[[], Inside | None] = lambda: None

    @classmethod
    def open(cls, path: Path, *, readonly: bool = False, recover: bool = True) -> Catalog:
        """Open an existing catalog; `recover` rolls back the transaction of a killed process. Raises
        IndexDirectoryError if there is none, IndexDamagedError if it is no catalog, IndexUnsafeError if it is more than
        a catalog or a file that diptych did not make is beside it."""
        status = IndexDirectory(path.parent).plain(path.name)
        if status is None or status.st_size == 0:
            raise IndexDirectoryError(f"{path.parent} holds no index; `diptych index FOLDER` makes one.")
        catalog = cls(path, connect(path, "ro" if readonly else "rw", recover=recover))
        try:
            catalog._check_format()
        except BaseException:
            catalog.close()
            raise
        return catalog

    @classmethod
    def create(cls, path: Path, *, fingerprint: str, model: str, dim: int) -> Catalog:
        """A new and empty catalog for vectors of `dim` numbers made by one model. It appears whole or not at all: what
        a process that is killed leaves of its first transaction is no catalog."""
        directory, aside = IndexDirectory(path.parent), path.with_name(f"{path.name}.part")
        directory.plain(path.name)
        with translated_errors(path.parent):
            directory.create()
            for ending in ("", *COMPANIONS):
                directory.remove(aside.name + ending)
            if directory.status(path.name) is None:  # what lies beside no catalog is no journal of this one's
                for ending in COMPANIONS:
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
            is_earlier = self._patiently(lambda: check_schema(self._db, self.path))
            facts, last = self._facts(), self.rows(validation.LAST_ID)
        form = facts.get("format")
        if isinstance(form, int) and form > FORMAT:
            raise IndexNewerError(f"{self.path} has format {form}; this diptych reads {FORMAT}.")
        if not facts.keys() >= REQUIRED:
            raise IndexDamagedError(f"{self.path} is no catalog of diptych, or lacks what makes it one.")
        self._check_facts(facts, read=True)
        form = facts["format"]
        if is_earlier != (form < FORMAT):
            raise IndexDamagedError(f"{self.path} says that it has format {form}, and its tables are of another.")
        if last and last[0][0]:
            raise IndexDamagedError(f"{self.path} has given away all ids that there are.")
        self.is_earlier, self.opened_facts = is_earlier, facts

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; it counts only where the whole block went well, Ctrl-C included."""
        with translated_errors(self.path):
            try:
                self._patiently(lambda: self._db.execute("BEGIN IMMEDIATE"))
                yield self._db
                self._patiently(lambda: self._db.execute("COMMIT"))
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """What an SQL query answers; text that is no UTF-8 comes with surrogates."""
        with translated_errors(self.path), self._db.counted():
            try:
                return self._patiently(lambda: self._db.execute(sql, parameters).fetchall())
            except sqlite3.DatabaseError as error:
                if self._db.is_spent:
                    raise IndexDamagedError(f"{self.path} holds more rows than a file of its size can.") from error
                if "decode" not in str(error):
                    raise
            with self._any_text():
                return self._patiently(lambda: self._db.execute(sql, parameters).fetchall())

    def _patiently(self, ask: Callable[[], T]) -> T:
        """What SQLite answers as soon as another process lets it."""
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                return ask()
            except sqlite3.OperationalError as error:
                is_busy = getattr(error, "sqlite_errorcode", 0) & 255 == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > deadline:
                    raise

    @contextmanager
    def _any_text(self) -> Iterator[None]:
        """Bytes of names that are no UTF-8 come as surrogates. Not the rule, for it costs a call a name."""
        self._db.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        try:
            yield
        finally:
            self._db.text_factory = str

    # --- facts

    def facts(self) -> dict[str, Any]:
        """What holds for the whole index: format, fingerprint, model, dim, generation, ... Raises IndexDamagedError
        where one is of another kind than it should be."""
        facts = self._facts()
        self._check_facts(facts)
        return facts

    def _check_facts(self, facts: Mapping[str, Any], *, read: bool = False) -> None:
        if fault := first_invalid(facts, read=read):
            raise IndexDamagedError(f"{self.path} is not what diptych wrote: {fault}.")

    def _facts(self) -> dict[str, Any]:
        return dict(self.rows(validation.FACTS))

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """Add or replace facts; None takes one away."""
        with self.writing():
            self._db.executemany(f"INSERT OR REPLACE INTO facts {validation.FACT}", validation.fact_rows(facts))
            self._db.execute("DELETE FROM facts WHERE value IS NULL")

    @property
    def generation(self) -> int:
        """Raised with each commit that adds or removes items."""
        return self.facts()["generation"]

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self.facts()["dim"]

    def stamp(self, modality: Modality) -> str:
        """Another one after each change of this modality's items, and of each catalog, even where one was copied and
        both copies went on: what a cache must carry to be trusted."""
        return validation.stamp_of(self.facts(), modality)

    # --- what is there

    def state(self, condition: str = "1", parameters: Sequence[Any] = ()) -> State:
        """The facts, and the `files` for which an SQL condition holds."""
        return State(self.facts(), self.files(condition, parameters))

    def summary(self, condition: str = "1", parameters: Sequence[Any] = ()) -> Summary:
        """The facts, the counts of all, and the failures and partial files for which an SQL condition holds."""
        failures, partial = self.failures(condition, parameters), self.partial(condition, parameters)
        return Summary(self.facts(), self.counts(), failures, partial)

    def files(self, condition: str = "1", parameters: Sequence[Any] = ()) -> dict[str, Known]:
        """The files for which an SQL condition holds, by path; all where none is given, here and below. A row that is
        none of ours comes under a name that no file has."""
        outdated = "1" if self.is_earlier else f"reading < {READING} OR tokenizing < {TOKENIZING}"
        path = f"CASE WHEN {validation.SOUND_FILE} THEN path ELSE '/' || id END"
        sql = f"SELECT {path}, id, kind, size, mtime_ns, reason IS NOT NULL, {outdated} FROM files WHERE {condition}"
        return {row[0]: _known(row[1:]) for row in self.rows(sql, parameters)}

    def failures(self, condition: str = "1", parameters: Sequence[Any] = ()) -> dict[str, tuple[str, str]]:
        """The files that could not be read: path -> (reason, message)."""
        found = self.rows(validation.UNREAD + condition, parameters)
        return {path: (reason, said) for path, kind, reason, said in found if validation.is_sound_path(path, kind)}

    def partial(self, condition: str = "1", parameters: Sequence[Any] = ()) -> dict[str, str]:
        """The files that were read in part: path -> what is missing."""
        found = [] if self.is_earlier else self.rows(validation.PARTIAL + condition, parameters)
        return {path: partial for path, kind, partial in found if validation.is_sound_path(path, kind)}

    def unsound(self) -> dict[int, str]:
        """The files whose rows are none of ours, or whose paths lead out of the folder, by id; how each is called."""
        rows, inside = self.rows(validation.PATHS), self.inside()
        return {
            id: validation.named(path, id)
            for id, path, kind, is_sound in rows
            if not (is_sound and validation.is_sound_path(path, kind)) or (inside and inside.leads_out(path))
        }

    def digests(self, ids: Sequence[int]) -> dict[int, bytes]:
        """The digest of each of these files."""
        return dict(self._asked("SELECT id, digest FROM files WHERE id IN ({})", ids))

    def counts(self, condition: str = "1", parameters: Sequence[Any] = ()) -> Counts:
        """How much the index holds."""
        partial = "0" if self.is_earlier else "count(nullif(partial, ''))"
        counted = f"SELECT count(*), count(reason), {partial} FROM files WHERE {condition}"
        files, failed, partial = self.rows(counted, parameters)[0]
        among = "" if condition == "1" else f"WHERE file IN (SELECT id FROM files WHERE {condition})"
        items = dict(self.rows(f"SELECT modality, count(*) FROM items {among} GROUP BY modality", parameters))
        return Counts(files, items.get("picture", 0), items.get("text", 0), failed, partial)

    def count(self, modality: Modality) -> int:
        """How many items of a modality there are."""
        return self.rows("SELECT count(*) FROM items WHERE modality = ?", (modality,))[0][0]

    def ids(self, modality: Modality) -> np.ndarray:
        """The ids, (n,) int64 in ascending order, of all items of a modality."""
        sql = f"SELECT id FROM items WHERE modality = ? AND {validation.sound_vector(self.dim)} ORDER BY id"
        rows = self.rows(sql, (modality,))
        return np.fromiter((id for (id,) in rows), np.int64, len(rows))

    def matching(self, condition: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> np.ndarray:
        """The ids, (n,) int64 in ascending order, of the items for which an SQL condition on the columns of `files` and
        `items` holds."""
        sql = f"SELECT items.id FROM items JOIN files ON files.id = items.file WHERE {condition}"
        rows = self.rows(sql, parameters)
        return np.sort(np.fromiter((id for (id,) in rows), np.int64, len(rows)))

    def items(self, ids: Iterable[int]) -> list[Item]:
        """These items in the order of their ids as asked for; those that are gone by now are left out, and those that
        are `refused`."""
        asked, vector_bytes, inside = [int(id) for id in ids], 2 * self.dim, self.inside()
        items: dict[int, Item] = {}
        for row in self._asked(validation.ITEMS, asked):
            item = validation.item_of(row, vector_bytes)
            if item is None or (inside and inside.leads_out(item.path)):
                self.refused[row[0]] = validation.named(row[1], row[0])
            else:
                items[item.id] = item
        return [items[id] for id in asked if id in items]

    def vectors(self, modality: Modality, *, after: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All vectors of a modality with ids above `after`, block by block: ids (n,) int64, ascending, and (n, dim)
        float16. What is no vector of unit length is left out. No transaction is held between blocks: look at `stamp`
        before and after."""
        dim = self.dim
        sound = validation.sound_vector(dim)
        sql = f"SELECT id, vector FROM items WHERE modality = ? AND id > ? AND {sound} ORDER BY id LIMIT ?"
        while rows := self.rows(sql, (modality, after, BLOCK)):
            ids, vectors = np.array([id for id, _ in rows], np.int64), self._matrix([each for _, each in rows], dim)
            if ids[0] <= after or (np.diff(ids) <= 0).any():  # or it would never end
                raise IndexDamagedError(f"{self.path} is damaged (its items are out of order).")
            are_unit = validation.are_unit(vectors)
            yield (ids, vectors) if are_unit.all() else (ids[are_unit], vectors[are_unit])
            after = rows[-1][0]

    def vectors_of(self, ids: Iterable[int]) -> np.ndarray:
        """The vectors of these items, (n, dim) float16, in their order. Raises IndexBusyError where one is gone."""
        asked = [int(id) for id in ids]
        found = dict(self._asked("SELECT id, vector FROM items WHERE id IN ({})", asked))
        if len(found) < len(set(asked)):
            raise IndexBusyError(f"{self.path} has changed while it was read: another process updates it. Try again.")
        return self._matrix([found[id] for id in asked], self.dim)

    def _matrix(self, blobs: list[bytes], dim: int) -> np.ndarray:
        if any(not isinstance(blob, bytes) or len(blob) != 2 * dim for blob in blobs):
            raise IndexDamagedError(f"{self.path} holds vectors that are cut short.")
        return np.frombuffer(b"".join(blobs), "<f2").reshape(-1, dim)

    def parts_of(
        self, contents: Contents, wrong: Collection[Modality] = ()
    ) -> list[tuple[Modality, float | None, str | None, np.ndarray]]:
        """Parts that a file may have in common with what is known: all items of any file with the same bytes, and the
        texts that the file of that path had; each as modality, at_s, text and vector. Of other files counts what was
        made as it is today, of the file's own what is of no `wrong` modality."""
        asked = {"path": os.fsencode(contents.file.path), "digest": contents.digest}
        asked |= {"picture": "picture" in wrong, "text": "text" in wrong}
        rows = self.rows(f"{_PARTS} path = CAST(:path AS TEXT) AND modality = 'text' AND {_SOUND}", asked)
        if contents.digest:
            rows += self.rows(f"{_PARTS} digest = :digest AND {_SOUND}", asked)
        dim = self.dim
        rows = [row for row in rows if isinstance(row[3], bytes) and len(row[3]) == 2 * dim]
        vectors = self._matrix([row[3] for row in rows], dim)
        found = zip(rows, vectors, validation.are_unit(vectors), strict=True)
        return [(*row[:3], vector) for row, vector, is_sound in found if is_sound]

    def _asked(self, sql: str, ids: Sequence[int]) -> list[Any]:
        """The rows of a statement that takes any number of ids where it has {}."""
        rows = []
        for start in range(0, len(ids), _ASKED_AT_ONCE):
            some = ids[start : start + _ASKED_AT_ONCE]
            rows += self.rows(sql.format(", ".join("?" * len(some))), some)
        return rows

    # --- what changes

    def upgrade(self) -> None:
        """Make a catalog of an earlier format one of today's; one that is needs nothing."""
        if self.is_earlier:
            with self.writing() as db:
                form = self.facts()["format"]  # another process may have done it
                if form < FORMAT:
                    change_tables(db, form)
            self.is_earlier = False

    def put(self, entries: Iterable[Entry], *, gone: Iterable[int] = ()) -> None:
        """Files as they were read, each with all that belongs to it; what was known of them before goes. Items that
        are what they were keep their ids. The files that are `gone`, by id, are dropped before."""
        with self.writing():
            self._drop(gone)
            dim = self.dim
            for entry in entries:
                row = validation.file_row(entry.contents, settled=entry.settled)
                (file,) = self._db.execute(_PUT_FILE, row).fetchone()
                rows = list(validation.item_rows(file, entry, dim))
                with self._any_text():
                    before = self._db.execute(_OWN_ITEMS, (file,)).fetchall()
                if rows != before:
                    self._db.execute("DELETE FROM items WHERE file = ?", (file,))
                    self._db.executemany(_PUT_ITEM, rows)

    def restamp(self, files: Iterable[tuple[int, File, bool]]) -> None:
        """Known files, by id, as they are called and dated now, with whether that is settled; their items stay."""
        files = list(files)
        with self.writing():
            # through names that no file has, so that two may change places
            self._db.executemany("UPDATE files SET path = '/' || id WHERE id = ?", [(id,) for id, _, _ in files])
            self._db.executemany(
                "UPDATE files SET path = CAST(? AS TEXT), size = ?, mtime_ns = ? WHERE id = ?",
                [
                    (os.fsencode(file.path), file.size, file.mtime_ns if settled else None, id)
                    for id, file, settled in files
                ],
            )

    def forget(self, ids: Iterable[int]) -> None:
        """Drop these files with all that belongs to them."""
        with self.writing():
            self._drop(ids)

    def _drop(self, ids: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM files WHERE id = ?", ((int(id),) for id in ids))
