"""Where the vectors of shards go: files of vectors, or a store. Each shard has a record when it is complete."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from diptych.failures import Failure
from diptych.index.bulk.items import with_own_ids
from diptych.index.bulk.shard_embedder import Piece
from diptych.index.bulk.shard_files import (
    LOCK,
    BulkResult,
    EmbeddedRow,
    ModelFacts,
    ShardFiles,
    check_job,
    count_record,
    read_record,
    write_record,
)
from diptych.index.catalog.stored_items import Block
from diptych.storage.lock import locked

if TYPE_CHECKING:
    from diptych.index.stores.store import Progress, Store

_HELD_S = 5.0  # a piece waits no longer for others


class Records:
    """The records of a job in a folder: which shards are complete, and with which content.

    A shard's record is written when all of it is in the target, so a job that was interrupted repeats no shard that was
    complete, and does all of the others.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)

    @contextmanager
    def writing(self, model: ModelFacts, source: str, dtype: str) -> Iterator[None]:
        """Hold the job's lock. Raises DataError where the folder has another job, IndexBusyError where it runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        check_job(self.folder, model, {"source": source, "dtype": dtype})
        remedy = "Wait for it, or name another folder."
        with locked(self.folder / LOCK, does=f"is writing to {self.folder}", remedy=remedy):
            yield

    def path(self, shard: str) -> Path:
        """The path of a shard's record."""
        return self.folder / f"{self.stem(shard)}.json"

    @staticmethod
    def stem(shard: str) -> str:
        """A file name for a shard: its own, and a hash of all of its path."""
        own = re.sub(r"[^\w.-]", "_", shard.rpartition("/")[2].rpartition(".")[0])[:80] or "shard"
        return f"{own}-{hashlib.blake2b(shard.encode('utf-8', 'surrogatepass'), digest_size=5).hexdigest()}"

    def version(self, shard: str) -> str | None:
        """The version of the shard that is complete; None if none is. Raises DataError for a damaged record."""
        path = self.path(shard)
        return str(read_record(path).get("version", "")) if path.is_file() else None

    def count(self, shard: str, written: BulkResult) -> None:
        """Add a complete shard to a result."""
        count_record(self.path(shard), written)

    def forget(self) -> None:
        """Remove all records: the target has nothing any more."""
        for path in self.folder.glob("*-??????????.json"):
            path.unlink()


class ShardTarget(Protocol):
    """Takes the pieces of shards. Pieces of several shards may come in any order; a shard that is taken again replaces
    what was taken of it."""

    records: Records

    def writing(self, model: ModelFacts, source: str) -> AbstractContextManager[None]:
        """A block in which pieces may be taken, with the `source` that they are of."""
        ...

    def take(self, piece: Piece) -> None:
        """Store a piece."""
        ...

    def complete(self, shard: str, record: Mapping[str, Any], failures: Mapping[str, Failure]) -> None:
        """All pieces of a shard were taken: write its record."""
        ...

    def finish(self, progress: Progress) -> None:
        """All shards were taken."""
        ...


class VectorFiles:
    """npy files of vectors, each with a Parquet table of its rows: those of a shard have its name. Vectors of captions
    are in the folder texts below."""

    def __init__(self, folder: str | os.PathLike[str], dtype: str = "float16"):
        self.records, self._dtype = Records(folder), np.dtype(dtype)
        self._model: ModelFacts | None = None
        self._pieces: dict[str, dict[int, Piece]] = {}

    @contextmanager
    def writing(self, model: ModelFacts, source: str) -> Iterator[None]:
        """As `ShardTarget.writing`."""
        self._model = model
        with self.records.writing(model, source, self._dtype.name):
            yield

    def take(self, piece: Piece) -> None:
        """Keep a piece until its shard is complete."""
        self._pieces.setdefault(piece.shard, {})[piece.number] = piece

    def complete(self, shard: str, record: Mapping[str, Any], failures: Mapping[str, Failure]) -> None:
        """Write the shard's files, by path, and then its record."""
        assert self._model is not None
        rows = [row for piece in self._pieces.pop(shard).values() for row in _rows(piece, self._model.dim)]
        files = ShardFiles(self.records.folder, self.records.stem(shard), self._model, self._dtype)
        files.write(sorted(rows, key=lambda row: row.path), failures, record)

    def finish(self, progress: Progress) -> None:
        """Nothing is left to do."""


def _rows(piece: Piece, dim: int) -> Iterator[EmbeddedRow]:
    """The pictures of a piece, each with its captions."""
    pictures, texts = {}, dict[str, list[tuple[str, np.ndarray]]]()
    for stored, vector in zip(piece.block.items, piece.block.vectors, strict=True):
        item = stored.item
        if item.text is None:
            pictures[item.path] = item, vector
        else:
            texts.setdefault(item.path, []).append((item.text, vector))
    for path, (item, vector) in pictures.items():
        captions = sorted(texts.get(path, []), key=lambda one: one[0] != item.details.caption)
        own = np.stack([each for _, each in captions]) if captions else np.empty((0, dim), np.float16)
        details = item.details
        yield EmbeddedRow(path, [text for text, _ in captions], details.width, details.height, vector, own)


class StoreTarget:
    """A store: each sample is an item under an id that is made of its path, so that a shard that is taken again
    replaces its items. The records are in a folder of this machine.

    Pieces are held for some seconds, until they are as many items as the store best takes at once. A shard's record is
    written after they are stored."""

    def __init__(self, store: Store, records: str | os.PathLike[str], model_name: str):
        """`model_name` is the model's name in the store's facts, by which searches open it."""
        self.store, self.records, self._model_name = store, Records(records), model_name
        self._taken: dict[str, tuple[int, int]] = {}  # pictures and texts
        self._held: list[Block] = []
        self._records_held: list[Callable[[], None]] = []  # writes the record of a shard whose pieces are held
        self._put_s = time.monotonic()

    @contextmanager
    def writing(self, model: ModelFacts, source: str) -> Iterator[None]:
        """As `ShardTarget.writing`. Records of a store that is gone are forgotten. Raises IndexModelError where the
        store has vectors of another model, IndexBusyError where another process writes to it."""
        facts = {"fingerprint": model.fingerprint, "model": self._model_name, "dim": model.dim}
        with ExitStack() as stack:
            stack.enter_context(self.records.writing(model, source, "float16"))
            stack.enter_context(self.store.writing())
            if not self.store.exists:
                self.records.forget()
            self.store.set_facts({**facts, "root": source, "source": source})
            try:
                yield
            finally:
                self._put_held()  # of a job that is interrupted, too

    def take(self, piece: Piece) -> None:
        """Store a piece, with those that are held."""
        self._held += [piece.block] if piece.block.items else []
        texts = sum(stored.item.text is not None for stored in piece.block.items)
        before = self._taken.get(piece.shard, (0, 0))
        self._taken[piece.shard] = before[0] + len(piece.block.items) - texts, before[1] + texts
        if sum(len(block.items) for block in self._held) >= self.store.items_per_put or self._is_late:
            self._put_held()

    def complete(self, shard: str, record: Mapping[str, Any], failures: Mapping[str, Failure]) -> None:
        """Write the shard's record, as soon as its pieces are stored."""
        pictures, texts = self._taken.pop(shard)
        self._records_held.append(partial(write_record, self.records.path(shard), pictures, texts, failures, record))
        if not self._held or self._is_late:
            self._put_held()

    def finish(self, progress: Progress) -> None:
        """Build what makes searches fast."""
        self._put_held()
        self.store.prepare(progress)

    @property
    def _is_late(self) -> bool:
        return time.monotonic() - self._put_s > _HELD_S

    def _put_held(self) -> None:
        held, records, self._held, self._records_held = self._held, self._records_held, [], []
        self._put_s = time.monotonic()
        if held:
            items = [item for block in held for item in block.items]
            order = sorted(range(len(items)), key=lambda at: items[at].item.id)
            block = Block([items[at] for at in order], np.concatenate([block.vectors for block in held])[order])
            self.store.put(with_own_ids(block, self.store))
        for write in records:
            write()
