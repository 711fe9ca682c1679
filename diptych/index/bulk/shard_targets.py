"""Where the vectors of shards go: files of vectors, or a store. Each shard has a record when it is complete."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
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
from diptych.storage.lock import locked

if TYPE_CHECKING:
    from diptych.index.stores.store import Progress, Store


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
    replaces its items. The records are in a folder of this machine."""

    def __init__(self, store: Store, records: str | os.PathLike[str], model_name: str):
        """`model_name` is the model's name in the store's facts, by which searches open it."""
        self.store, self.records, self._model_name = store, Records(records), model_name
        self._taken: dict[str, tuple[int, int]] = {}  # pictures and texts

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
            yield

    def take(self, piece: Piece) -> None:
        """Store a piece at once."""
        if piece.block.items:
            self.store.put(with_own_ids(piece.block, self.store))
        texts = sum(stored.item.text is not None for stored in piece.block.items)
        before = self._taken.get(piece.shard, (0, 0))
        self._taken[piece.shard] = before[0] + len(piece.block.items) - texts, before[1] + texts

    def complete(self, shard: str, record: Mapping[str, Any], failures: Mapping[str, Failure]) -> None:
        """Write the shard's record."""
        pictures, texts = self._taken.pop(shard)
        write_record(self.records.path(shard), pictures, texts, failures, record)

    def finish(self, progress: Progress) -> None:
        """Build what makes searches fast."""
        self.store.prepare(progress)
