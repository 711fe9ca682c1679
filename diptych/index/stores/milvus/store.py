"""An index in Milvus; see `diptych.index.stores.store.Store`."""

from __future__ import annotations

import math
import os
from collections.abc import Collection as Several
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import IndexBusyError, IndexDamagedError, StoreError
from diptych.index.catalog import validation
from diptych.index.catalog.browsing import Facets, ItemKey, Order, Sort
from diptych.index.catalog.schema import MODALITIES
from diptych.index.catalog.stored_items import Block, StoredItem, check_block
from diptych.index.catalog.validation import Item
from diptych.index.filters.filters import Filters
from diptych.index.model import check_same_model
from diptych.index.stores.milvus import browsing, tuning
from diptych.index.stores.milvus.collection import EVERYTHING, Collection, Description
from diptych.index.stores.milvus.connection import Connection
from diptych.index.stores.milvus.expressions import Expression
from diptych.index.stores.milvus.schema import (
    ALL_FIELDS,
    ITEM_FIELDS,
    items_in,
    rows_of,
    stem_hash,
    stored_items,
)
from diptych.index.stores.milvus.search import MilvusSelection
from diptych.index.stores.store import Progress
from diptych.index.stores.uri import StoreURI
from diptych.media.items import IndexCounts, Modality
from diptych.vectors.drawing import drawn

_VALUES = 500  # per expression
_SPARE = 1.2  # more rows than are drawn on average, so that one query suffices
_BITS = 64

_writing = set[str]()  # names of the stores that are being written to


class MilvusStore:
    """The index that a URI names: `milvus://host:19530/name` on a server or cluster, `milvus:///folder/file.db#name` in
    a file of Milvus Lite. No call takes longer than `timeout_s` seconds, except `prepare` and those that read all rows,
    which spend at most that on each part.

    Threads may share a store, and one process may have several of the same index. Milvus Lite lets one process at a
    time open a file, and works off one call after the other. Two processes may read and write a collection of a server;
    what another process wrote is seen within seconds.

    `put` stores all or nothing as far as Milvus can: a block is one or two requests, and if one fails, what was there
    before is put back; a server that goes away meanwhile keeps a part. Raises ArgumentError for a URI that names no
    Milvus.
    """

    cache_dir = None

    def __init__(self, uri: StoreURI, *, timeout_s: float = 30.0, subfolder: str = ""):
        self.subfolder = subfolder
        self._connection = Connection(uri, timeout_s)
        self._collection = Collection(self._connection, uri.name)
        self._refused: dict[int, str] = {}
        self._samples: dict[tuple[Modality, int], tuple[int, np.ndarray, np.ndarray]] = {}

    @property
    def name(self) -> str:
        """The URI, without a password."""
        return self._connection.name

    @property
    def refused(self) -> Mapping[int, str]:
        """Rows that were read and are not valid."""
        return self._refused

    def close(self) -> None:
        """Close the connection. Milvus Lite ends with its last store."""
        self._connection.close()

    # --- reading

    @property
    def exists(self) -> bool:
        """Whether there is a collection of this name."""
        return self._collection.exists

    def _described(self) -> Description:
        described = self._collection.description()
        if not described.facts.keys() >= {"fingerprint", "model", "dim"}:
            raise IndexDamagedError(f"{self.name} lacks facts that every index has.")
        return described

    def facts(self) -> dict[str, Any]:
        """As `Store.facts`."""
        return self._described().facts

    def counts(self) -> IndexCounts:
        """The numbers of files and items in the subfolder. It reads every item."""
        key = "counts", self.subfolder
        if (known := self._connection.kept(key)) is None:
            known = browsing.counts(self._passing(Filters()))
            self._connection.keep(key, known)
        return known

    def _passing(self, filters: Filters) -> browsing.Passing:
        updated_at = self.facts().get("updated_at") if filters.file_dates else None
        return browsing.Passing(self._collection, filters.within(self.subfolder), updated_at, self._refused)

    def select(self, modality: Modality, filters: Filters) -> MilvusSelection:
        """As `Store.select`."""
        return MilvusSelection(self._collection, self._described(), modality, filters.within(self.subfolder))

    def sample(self, modality: Modality, count: int) -> tuple[np.ndarray, np.ndarray]:
        """As `Store.sample`. It is drawn once for as long as the number of items stays."""
        size = self._collection.count(modality)
        known = self._samples.get((modality, count))
        if known is None or known[0] != size:
            known = self._samples[modality, count] = size, *self._drawn(modality, count, size)
        return known[1:]

    def _drawn(self, modality: Modality, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Those with the smallest hashes: below a bound that is raised until there are enough."""
        share = _SPARE * count / max(1, size) + 32 / max(1, size)
        while True:
            bound = math.ceil(share * 2**_BITS) - 2 ** (_BITS - 1)
            some = Expression("drawn < {drawn}", {"drawn": bound}) if share < 1 else EVERYTHING
            ids, vectors = [np.empty(0, np.int64)], [np.empty((0, self._collection.form.dim), np.float16)]
            for rows in self._collection.batches(modality, some, ["id", "vector"]):
                ids.append(np.fromiter((row["id"] for row in rows), np.int64, len(rows)))
                vectors.append(self._collection.form.incoming([row["vector"] for row in rows]))
            found = np.concatenate(ids)
            if len(found) >= count or share >= 1:
                chosen = drawn(found, count)
                return chosen, np.concatenate(vectors)[np.searchsorted(found, chosen)].astype(np.float32)
            share *= 2

    def items(self, ids: Iterable[int]) -> list[Item]:
        """As `Store.items`."""
        listed = [int(id) for id in ids]
        found = self._collection.rows_with_ids(list(dict.fromkeys(listed)), ITEM_FIELDS)
        items = items_in(list(found.values()), self._refused)
        return [items[id] for id in listed if id in items]

    def vectors_of(self, ids: Iterable[int]) -> np.ndarray:
        """As `Store.vectors_of`."""
        listed = [int(id) for id in ids]
        found = self._collection.rows_with_ids(list(dict.fromkeys(listed)), ["id", "vector"])
        if gone := [id for id in listed if id not in found]:
            raise IndexBusyError(f"item {gone[0]} was removed from {self.name} while it was read. Try again.")
        return self._collection.form.incoming([found[id]["vector"] for id in listed])

    def with_digests(self, modality: Modality, digests: Several[bytes], filters: Filters) -> list[Item]:
        """As `Store.with_digests`."""
        return [
            item
            for item in self._matching("digest", [one.hex() for one in digests if one], modality, filters)
            if item.digest in digests
        ]

    def with_stems(self, modality: Modality, stems: Several[str], filters: Filters) -> list[Item]:
        """As `Store.with_stems`."""
        return [
            item
            for item in self._matching("stem", [stem_hash(one) for one in stems], modality, filters)
            if os.path.splitext(item.path)[0] in stems
        ]

    def _matching(self, field: str, values: Sequence[Any], modality: Modality, filters: Filters) -> list[Item]:
        """The items that pass and have one of these values in a field."""
        found, passing = list[Item](), self._passing(filters)
        for start in range(0, len(values), _VALUES):
            some = Expression(f"{field} in {{values}}", {"values": list(values[start : start + _VALUES])})
            found += passing.items(modality, some)
        return found

    def alone(self, modality: Modality, filters: Filters) -> set[int]:
        """As `Store.alone`; what a caller adds is known for as long as no other process can change the index."""
        key = "alone", modality, filters.within(self.subfolder)
        if (known := self._connection.kept(key)) is None:
            known = set[int]()
            self._connection.keep(key, known)
        return known

    def path_of(self, path: str) -> Path:
        """As `Store.path_of`; relative where the store does not know its folder."""
        return Path(os.path.join(self.facts().get("root", ""), path))

    # --- browsing

    def state(self) -> str:
        """As `Store.state`."""
        return self._collection.change if self.exists else "none"

    def newest_id(self) -> int:
        """As `Store.newest_id`."""
        return self._collection.newest_id if self.exists else 0

    def listed(self, modality: Modality, filters: Filters, sort: Sort, order: Order) -> np.ndarray:
        """As `Store.listed`. It reads every item that passes, as the following do."""
        return browsing.listed(self._passing(filters), modality, sort, order)

    def of_file(self, path: str, most: int = 1000) -> list[Item]:
        """As `Store.of_file`."""
        some = Expression("stem == {stem}", {"stem": stem_hash(os.path.splitext(path)[0])})
        items = browsing.Passing(self._collection, Filters(), None, self._refused).items(None, some)
        return list(islice((item for item in items if item.path == path), most))

    def find(self, path: str, modality: Modality, at_s: float | None, line: int | None) -> int | None:
        """As `Store.find`."""
        wanted = modality, at_s, line
        items = self.of_file(path, most=1 << 31)
        return next((item.id for item in items if (item.modality, item.at_s, item.line) == wanted), None)

    def keys(self, modality: Modality, filters: Filters) -> dict[int, ItemKey]:
        """As `Store.keys`, of the first 200,000."""
        return browsing.keys(self._passing(filters), modality)

    def facets(self, filters: Filters) -> Facets:
        """As `Store.facets`."""
        return browsing.facets(self._passing(filters), self.subfolder)

    # --- copying

    @property
    def items_per_put(self) -> int:
        """As many vectors and texts as fit a message."""
        return 1024

    @property
    def keeps_others_out(self) -> bool:
        """Of Milvus Lite, which one process opens. Milvus has no locks, so on a server `writing` keeps out this
        process's other writers alone."""
        return self._connection.is_lite

    @contextmanager
    def writing(self) -> Iterator[None]:
        """As `Store.writing`."""
        if self.name in _writing:
            raise IndexBusyError(f"another thread is writing to {self.name}. Try again when it has finished.")
        _writing.add(self.name)
        try:
            yield
        finally:
            _writing.discard(self.name)

    def blocks(self, *, after: int = 0) -> Iterator[Block]:
        """As `Store.blocks`."""
        self._collection.settle()
        for rows in self._collection.batches(None, EVERYTHING, ALL_FIELDS, after=after):
            vectors = self._collection.form.incoming([row["vector"] for row in rows])
            kept = list[tuple[int, StoredItem]]()
            units = validation.are_unit(vectors)
            kept = [(at, stored) for at, stored in stored_items(rows, self._refused) if units[at]]
            if kept:
                yield Block([stored for _, stored in kept], vectors[[at for at, _ in kept]])

    def ids(self) -> np.ndarray:
        """As `Store.ids`."""
        parts = [np.empty(0, np.int64)]
        self._collection.settle()
        for rows in self._collection.batches(None, EVERYTHING, ["id"]):
            parts.append(np.fromiter((row["id"] for row in rows), np.int64, len(rows)))
        return np.concatenate(parts)

    def put(self, block: Block) -> None:
        """As `Store.put`."""
        form = self._described().form
        check_block(block, form.dim, self.name)
        rows = rows_of(block, form)
        before = self._collection.rows_with_ids([row["id"] for row in rows], ALL_FIELDS)
        try:
            self._replace(rows, before)
        except StoreError:
            self._take_back(rows, before)
            raise
        finally:
            self._collection.note_change([row["id"] for row in rows])

    def _replace(self, rows: list[dict[str, Any]], before: Mapping[int, Mapping[str, Any]]) -> None:
        """Store rows; those of `before` that were pictures and become texts, or the reverse, leave their partition."""
        for modality, other in zip(MODALITIES, reversed(MODALITIES), strict=True):
            some = [row for row in rows if row["modality"] == modality]
            ids = [row["id"] for row in some]
            # before the rows are put: Milvus Lite deletes what is older in every partition
            self._collection.delete([id for id in ids if id in before and before[id]["modality"] == other], other)
            self._collection.upsert(modality, some)

    def _take_back(self, rows: list[dict[str, Any]], before: Mapping[int, Mapping[str, Any]]) -> None:
        """After a failure, what was there before."""
        form = self._collection.form
        old = [dict(row, vector=form.outgoing(form.incoming([row["vector"]])[0])) for row in before.values()]
        with suppress(StoreError):  # what failed first says why
            self._collection.delete([row["id"] for row in rows if row["id"] not in before])
            for modality in MODALITIES:
                self._collection.upsert(modality, [row for row in old if row["modality"] == modality])

    def remove(self, ids: Iterable[int]) -> None:
        """As `Store.remove`."""
        self._described()
        gone = [int(id) for id in ids]
        self._collection.delete(gone)
        newest = self._collection.newest_id
        left = self.ids().max(initial=0) if newest in gone else newest
        self._collection.note_change([], newest=int(left))

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """As `Store.set_facts`."""
        if not self.exists:
            self._collection.create(int(facts["dim"]), facts)
            return
        check_same_model(self.name, self._described().facts, facts)
        self._collection.set_facts(facts)
        self._collection.note_change([])

    def prepare(self, progress: Progress = lambda done, total: None, *, exact_up_to: int | None = None) -> None:
        """As `Store.prepare`: seals what was put, and builds a graph where there are more than `exact_up_to` numbers
        and it is faster than comparing all, as wide as the measured recall wants it. `settings` says what was chosen.
        While a graph is built, a server does not search. By default a file of Milvus Lite has none: most of the time
        of its searches goes elsewhere."""
        self._described()
        if exact_up_to is None:
            exact_up_to = 1 << 62 if self._connection.is_lite else tuning.EXACT_UP_TO
        tuning.prepare(self._collection, self.sample, progress, exact_up_to=exact_up_to)

    @property
    def settings(self) -> Mapping[str, Any]:
        """How searches are made: the kind of the index, and of a graph its parameters, how widely each modality is
        searched (for 10 and for 100 items) and the recall that was measured with these."""
        return self._described().settings
