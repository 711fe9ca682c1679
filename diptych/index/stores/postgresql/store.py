"""An index in a PostgreSQL database, searched by pgvector."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql

from diptych.errors import IndexBusyError, IndexDirectoryError
from diptych.index.catalog.browsing import Facets, ItemKey, Order, Sort
from diptych.index.catalog.stored_items import Block, StoredItem, check_block
from diptych.index.catalog.validation import Item, are_unit, display_path
from diptych.index.filters.filters import Filters
from diptych.index.model import check_same_model
from diptych.index.stores.postgresql import browsing, preparation, rows
from diptych.index.stores.postgresql.connection import Connection, Database, check_timeout
from diptych.index.stores.postgresql.filters.conditions import PREFIX, Condition, condition_of
from diptych.index.stores.postgresql.schema import FORMAT, State, Tables
from diptych.index.stores.postgresql.selection import Known, PostgreSQLSelection, Source
from diptych.index.stores.postgresql.texts import escaped
from diptych.index.stores.store import Progress
from diptych.media.items import IndexCounts, Modality

if TYPE_CHECKING:
    from diptych.index.stores.uri import StoreURI

BLOCK = 2048  # items
_IDS = 100_000  # at a time
_STEMS = 1000  # in a statement
MAX_MS = 2**31 - 1
_PUT_S = 0.05  # seconds for each row of a block, besides the time limit: what an index of vectors may take


class PostgreSQLStore:
    """An index in a PostgreSQL database; see `diptych.index.stores.store.Store`.

    No call waits longer than `timeout_s` for an answer, except `put` of large blocks, and `prepare`. `subfolder` limits
    searches. Threads may share a store, which has one connection, so one waits for the other; with a store each they
    work side by side, as processes do. What pools connections between must keep sessions, as PgBouncer may.
    """

    cache_dir = None
    keeps_others_out = True
    items_per_put = 1024

    def __init__(self, uri: StoreURI, *, timeout_s: float = 30.0, subfolder: str = ""):
        check_timeout(timeout_s)
        self.subfolder, self._refused = subfolder, dict[int, str]()
        self._database, self._tables = Database(uri, timeout_s), Tables(uri.name)
        self._known: Known | None = None

    def __repr__(self) -> str:
        return f"PostgreSQLStore({self.name})"

    @property
    def name(self) -> str:
        """The address, without a password."""
        return self._database.name

    @property
    def refused(self) -> Mapping[int, str]:
        """As `Store.refused`."""
        return self._refused

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    # --- reading

    @property
    def exists(self) -> bool:
        """Whether the tables are there."""
        try:
            return bool(self._state())
        except IndexDirectoryError:
            return False

    def _state(self) -> State:
        return self._database.run(lambda connection: self._tables.read_state(connection, self.name))

    def _current(self) -> Known:
        """What is known of the index in its present state."""
        state, known = self._state(), self._known
        if known is None or known.state[:3] != state[:3]:
            self._known = known = Known(state)
        return known

    def facts(self) -> dict[str, Any]:
        """The facts, with the `format` of the tables and a `generation` that changes with every change."""
        state = self._state()
        change = str(state.change)
        own = {"format": FORMAT, "generation": state.change, "change.picture": change, "change.text": change}
        return {**state.facts, **own}

    def counts(self) -> IndexCounts:
        """The numbers of files and items in the subfolder. There are none that failed, because only items are kept."""
        condition, values = self._condition(Filters())
        statement = self._tables.sql(
            "SELECT count(DISTINCT path), count(*) FILTER (WHERE modality = 'picture'), "
            "count(*) FILTER (WHERE modality = 'text') FROM {items} WHERE {condition}",
            condition=condition,
        )
        files, pictures, texts = self._rows(statement, values)[0]
        return IndexCounts(files, pictures, texts, 0)

    def select(self, modality: Modality, filters: Filters) -> PostgreSQLSelection:
        """As `Store.select`; it is of the present state, while later searches in it find what is there then."""
        within = filters.within(self.subfolder)
        source = Source(self._database, self._tables, self._current(), modality)
        return PostgreSQLSelection(source, condition_of(within, self._tables.facts) if within else None, within)

    def sample(self, modality: Modality, count: int) -> tuple[np.ndarray, np.ndarray]:
        """As `Store.sample`. It is drawn once for a state of the index."""
        known = self._current()
        if (modality, count) not in known.samples:
            statement = self._tables.sql(
                "SELECT id, vector FROM {items} WHERE modality = {modality} ORDER BY drawn LIMIT %s",
                modality=sql.Literal(modality),
            )
            found = sorted(self._rows(statement, [min(count, 1 << 62)]))
            vectors = rows.vectors_in([vector for _, vector in found], known.state.dim).astype(np.float32)
            known.samples[modality, count] = np.array([id for id, _ in found], np.int64), vectors
        return known.samples[modality, count]

    def items(self, ids: Iterable[int]) -> list[Item]:
        """As `Store.items`."""
        asked = [int(id) for id in ids]
        statement = self._tables.sql(
            "SELECT {columns} FROM {items} WHERE id = ANY(%s::bigint[])", columns=rows.ITEM_COLUMNS
        )
        found = {item.id: item for item in self._valid(self._rows(statement, [asked]))} if asked else {}
        return [found[id] for id in asked if id in found]

    def vectors_of(self, ids: Iterable[int]) -> np.ndarray:
        """As `Store.vectors_of`."""
        asked, dim = [int(id) for id in ids], self._state().dim
        statement = self._tables.sql("SELECT id, vector FROM {items} WHERE id = ANY(%s::bigint[])")
        found = dict(self._rows(statement, [asked])) if asked else {}
        if len(found) < len(set(asked)):
            raise IndexBusyError(f"{self.name} changed while it was read: another process is updating it. Try again.")
        return rows.vectors_in([found[id] for id in asked], dim)

    def with_digests(self, modality: Modality, digests: Collection[bytes], filters: Filters) -> list[Item]:
        """As `Store.with_digests`."""
        return self._matching("{items} WHERE digest = ANY(%s::bytea[])", [list(digests)], modality, filters)

    def with_stems(self, modality: Modality, stems: Collection[str], filters: Filters) -> list[Item]:
        """As `Store.with_stems`."""
        edges = "unnest(%s::text[], %s::text[]) AS edges(low, high) JOIN {items} ON {path} > low AND {path} < high"
        found = list[Item]()
        listed = sorted(stems)
        for is_short, path in ((True, "left(path, 500)"), (False, "path")):  # as far as paths are indexed
            some = [stem for stem in listed if (len(escaped(stem)) < PREFIX) == is_short]
            for start in range(0, len(some), _STEMS):
                low, high = ([escaped(stem + end) for stem in some[start : start + _STEMS]] for end in "./")
                found += self._matching(edges.replace("{path}", path) + " WHERE true", [low, high], modality, filters)
        return [item for item in found if os.path.splitext(item.path)[0] in stems]

    def _matching(self, source: str, given: list[Any], modality: Modality, filters: Filters) -> list[Item]:
        """The items of rows `source` that pass the filters."""
        if not given[0]:
            return []
        condition, values = self._condition(filters)
        statement = self._tables.sql(
            "SELECT {columns} FROM " + source + " AND modality = %s AND ({condition}) ORDER BY id",
            columns=rows.ITEM_COLUMNS, condition=condition,
        )  # fmt: skip
        return self._valid(self._rows(statement, [*given, modality, *values]))

    def _condition(self, filters: Filters) -> Condition:
        return condition_of(filters.within(self.subfolder), self._tables.facts)

    def _rows(self, statement: sql.Composed, values: list[Any]) -> list[tuple[Any, ...]]:
        def fetched(connection: Connection) -> list[tuple[Any, ...]]:
            with connection.cursor(binary=True) as cursor:
                return cursor.execute(statement, values).fetchall()

        return self._database.run(fetched)

    def _valid(self, found: Iterable[tuple[Any, ...]]) -> list[Item]:
        """The items in rows; rows that are not valid are refused."""
        valid = list[Item]()
        for row in found:
            item = rows.item_in(row)
            if item is None:
                self._refused[row[0]] = display_path(row[1], row[0])
            else:
                valid.append(item)
        return valid

    def alone(self, modality: Modality, filters: Filters) -> set[int]:
        """As `Store.alone`; those of both modalities are kept together."""
        return self._current().alone.setdefault(filters, set())

    def path_of(self, path: str) -> Path:
        """The path under the `root` of the facts."""
        known = self._known or self._current()
        return Path(str(known.state.facts.get("root", ""))) / path

    # --- browsing

    def state(self) -> str:
        """As `Store.state`."""
        try:
            state = self._state()
        except IndexDirectoryError:
            return "none"
        return f"{state.made}-{state.change}"

    def newest_id(self) -> int:
        """As `Store.newest_id`."""
        return (self._rows(self._tables.sql("SELECT max(id) FROM {items}"), [])[0][0] or 0) if self.exists else 0

    def listed(self, modality: Modality, filters: Filters, sort: Sort, order: Order) -> np.ndarray:
        """As `Store.listed`. Of files with equal values, those whose names are not UTF-8 come last."""
        return browsing.listed(self._rows, self._tables, modality, self._condition(filters), sort, order)

    def of_file(self, path: str, most: int = 1000) -> list[Item]:
        """As `Store.of_file`."""
        return self.items(browsing.ids_of_file(self._rows, self._tables, path, most))

    def find(self, path: str, modality: Modality, at_s: float | None, line: int | None) -> int | None:
        """As `Store.find`."""
        return browsing.find(self._rows, self._tables, path, modality, at_s, line)

    def keys(self, modality: Modality, filters: Filters) -> dict[int, ItemKey]:
        """As `Store.keys`, of the first 200,000."""
        return browsing.keys(self._rows, self._tables, modality, self._condition(filters))

    def facets(self, filters: Filters) -> Facets:
        """As `Store.facets`."""
        return browsing.facets(self._rows, self._tables, self._condition(filters), self.subfolder)

    # --- copying

    @contextmanager
    def writing(self) -> Iterator[None]:
        """As `Store.writing`: a lock of the server's, which ends with this process's connection."""
        with self._database.apart() as connection:
            key = [f"diptych {self._tables.schema} writing"]
            row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", key).fetchone()
            if row != (True,):
                raise IndexBusyError(f"another process is writing to {self.name}. Try again when it has finished.")
            yield

    def blocks(self, *, after: int = 0) -> Iterator[Block]:
        """As `Store.blocks`. No transaction is held between blocks."""
        dim = self._state().dim
        statement = self._tables.sql(
            "SELECT {columns}, vector FROM {items} WHERE id > %s ORDER BY id LIMIT %s", columns=rows.STORED_COLUMNS
        )
        while found := self._rows(statement, [after, BLOCK]):
            after = found[-1][0]
            vectors = rows.vectors_in([row[-1] for row in found], dim)
            items = {item.id: item for item in self._valid(row[:-4] for row in found)}
            kept = are_unit(vectors) & np.fromiter((row[0] in items for row in found), bool, len(found))
            stored = [StoredItem(items[row[0]], *row[-4:-1]) for row, keep in zip(found, kept, strict=True) if keep]
            if stored:
                yield Block(stored, vectors[kept])

    def ids(self) -> np.ndarray:
        """As `Store.ids`."""
        statement = self._tables.sql("SELECT id FROM {items} WHERE id > %s ORDER BY id LIMIT %s")
        parts, after = [np.empty(0, np.int64)], -(1 << 63)
        while found := self._rows(statement, [after, _IDS]):
            after = found[-1][0]
            parts.append(np.fromiter((id for (id,) in found), np.int64, len(found)))
        return np.concatenate(parts)

    def put(self, block: Block) -> None:
        """As `Store.put`. An index of vectors that was built takes them in."""
        check_block(block, self._state().dim, self.name)
        self._write([stored.item.id for stored in block.items], block)

    def remove(self, ids: Iterable[int]) -> None:
        """As `Store.remove`."""
        self._write([int(id) for id in ids], None)

    def _write(self, ids: list[int], block: Block | None) -> None:
        """In one transaction, delete what has these ids, and put a block instead."""
        ids = [id for id in ids if -(1 << 63) <= id < 1 << 63]
        limit_s = self._database.timeout_s + _PUT_S * len(ids)

        def written(connection: Connection) -> None:
            connection.execute(
                "SELECT set_config('statement_timeout', %s, true)", [str(min(int(limit_s * 1000), MAX_MS))]
            )
            gone = self._tables.sql(
                "WITH gone AS (DELETE FROM {items} WHERE id = ANY(%s::bigint[]) RETURNING modality) "
                "SELECT modality, count(*) FROM gone GROUP BY modality"
            )
            changed = {"picture": 0, "text": 0}
            for modality, count in connection.execute(gone, [ids]):
                changed[modality] -= count
            if block:
                rows.write_rows(connection, self._tables.items, block)
                for stored in block.items:
                    changed[stored.item.modality] += 1
            # last, because others that write wait for this row
            update = "UPDATE {state} SET change = change + 1, picture = picture + %s, text = text + %s"
            connection.execute(self._tables.sql(update), list(changed.values()))

        self._database.run(written, limit_s=limit_s)

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """As `Store.set_facts`. Makes the tables, and adds pgvector to the database where this user may."""

        def written(connection: Connection) -> None:
            if is_new:
                self._tables.create(connection, self.name, facts)
            if not is_new or not self._tables.is_empty(connection):
                check_same_model(self.name, self._tables.read_state(connection, self.name).facts, facts)
            self._tables.write_facts(connection, facts)

        is_new = not self.exists
        self._database.run(written)

    def prepare(self, progress: Progress = lambda done, total: None) -> None:
        """As `Store.prepare`: builds an index of vectors for each modality that has many, while others may read and
        write, and measures how far it must be searched for a recall of 0.98. `progress` gets the vectors of one index
        and of all."""
        preparation.prepare(self._database, self._tables, self._current, self.sample, progress)
