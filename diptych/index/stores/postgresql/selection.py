"""Searches among the items that pass some filters: by the index of vectors where that pays, else by comparing all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from psycopg import sql

from diptych.errors import ArgumentError, warn
from diptych.index.catalog.validation import are_unit
from diptych.index.stores.exhaustive import top_k
from diptych.index.stores.postgresql import hnsw
from diptych.index.stores.postgresql.rows import vectors_in
from diptych.vectors.float16 import exact_inner_products

if TYPE_CHECKING:
    from diptych.index.stores.postgresql.connection import Connection, Database
    from diptych.index.stores.postgresql.filters.conditions import Condition
    from diptych.index.stores.postgresql.schema import State, Tables
    from diptych.media.items import Modality

Found = tuple[np.ndarray, np.ndarray]
COUNTED = 250_000  # items of a modality up to which those that pass are counted
MAX_COMPARED = 500_000  # items that are compared one by one without a warning
MAX_FETCHED = 100_000  # items whose vectors are fetched for many queries at once
_SAMPLE, _ENOUGH = 20_000, 200  # items of a sample, and those of them that must pass for an estimate
_QUICK_SAMPLE = 1_000
_FETCHED = 4_096  # vectors at a time
_MORE, _PART = 16, 8  # candidates more than wanted: these and one in eight, because a query is rounded to float16
# Microseconds, measured: to visit an item of the index of vectors, to pass over a row, to compare one, to fetch one
_VISIT_US, _PASS_US, _COMPARE_US, _FETCH_US = 20.0, 0.2, 0.4, 8.0
_KEPT = 0.75  # of those that are expected to pass, so that the index seldom has to go on for the last of them
_PLANNED = "SELECT set_config('enable_seqscan', 'on', true), set_config('enable_sort', 'on', true)"
_ITERATIVE = (
    "SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', 'relaxed_order', true), "
    "set_config('hnsw.max_scan_tuples', %s, true), set_config('hnsw.scan_mem_multiplier', '16', true), "
    "set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true)"
)


class Known:
    """What was counted, drawn or found of an index in one state of it; another state has another."""

    def __init__(self, state: State):
        self.state = state
        self.counts: dict[object, int] = {}
        self.shares: dict[object, float] = {}
        self.samples: dict[tuple[Modality, int], Found] = {}
        self.alone: dict[object, set[int]] = {}
        self.built: dict[Modality, bool] = {}


class Source(NamedTuple):
    """The items of one modality that a selection is made of."""

    database: Database
    tables: Tables
    known: Known
    modality: Modality


class PostgreSQLSelection:
    """The items of a modality that pass a condition; None if all do. `key` stands for the condition among those of one
    state."""

    def __init__(self, source: Source, condition: Condition | None, key: object):
        self._source, self._condition, self._key = source, condition, (source.modality, key)
        self._values = condition.values if condition else []
        passes = condition.sql if condition else sql.SQL("true")
        is_ours = sql.SQL("modality = {}").format(sql.Literal(source.modality))  # no parameter: it chooses the index
        self._where = sql.SQL("WHERE {} AND ({})").format(is_ours, passes)

    @property
    def _all(self) -> int:
        return self._source.known.state.count(self._source.modality)

    def __len__(self) -> int:
        """How many items there are. Without filters, and up to COUNTED items, it is exact. Beyond these it is estimated
        by the part of a sample that passes, where enough do, and so that it is more likely too large than too small:
        what asks for so many gets all that there are. Few items are counted, however many do not pass."""
        counts = self._source.known.counts
        if self._condition is None:
            return self._all
        if self._key not in counts:
            counts[self._key] = self._counted()
        return counts[self._key]

    def _counted(self) -> int:
        if self._all > COUNTED:
            passed, of = self._sampled(_SAMPLE)
            if passed >= _ENOUGH:
                return min(self._all, int(self._all * (passed + 4 * passed**0.5) / of))
        statement = self._source.tables.sql("SELECT count(*) FROM {items} {where}", where=self._where)
        return self._source.database.run(lambda connection: _number(connection, statement, self._values))

    def _sampled(self, size: int) -> tuple[int, int]:
        """Of how many items of a sample the condition is true, and how many were drawn."""
        drawn = sql.SQL("WHERE modality = {} ORDER BY drawn LIMIT {}").format(
            sql.Literal(self._source.modality), sql.Literal(size)
        )
        passes = self._condition.sql if self._condition else sql.SQL("true")
        statement = self._source.tables.sql(
            "SELECT count(*) FILTER (WHERE {passes}), count(*) FROM (SELECT * FROM {items} {drawn}) AS drawn",
            passes=passes, drawn=drawn,
        )  # fmt: skip
        row = self._source.database.run(lambda connection: connection.execute(statement, self._values).fetchone())
        return row or (0, 0)

    def _passing(self) -> float:
        """About how many items pass."""
        if self._condition is None or self._key in self._source.known.counts:
            return len(self)
        shares = self._source.known.shares
        if self._key not in shares:
            passed, of = self._sampled(_QUICK_SAMPLE)
            shares[self._key] = (passed + 0.5) / (of + 1)
        return shares[self._key] * self._all

    # --- searching

    def search(self, query: np.ndarray, k: int) -> Found:
        """As `Selection.search`. Approximate only by an index of vectors; a limit is filled whatever the way."""
        query = self._checked(query, k)
        visited = self._visited(k) if query.any() else 0

        def found(connection: Connection) -> Found:
            if visited:
                ids, cosines = self.by_index(connection, query, k, visited)
                if len(ids) == k:
                    return ids, cosines
            return self.compared(connection, query, k)

        return self._source.database.run(found)

    def search_many(self, queries: np.ndarray, k: int) -> list[Found]:
        """As `Selection.search_many`. Where all are compared, and they are few, their vectors are fetched once."""
        checked = [self._checked(query, k) for query in queries]
        if checked and self._is_fetched(len(checked), k):
            return top_k(self.fetched(), np.stack(checked), k)
        return [self.search(query, k) for query in checked]

    def _is_fetched(self, queries: int, k: int) -> bool:
        """Whether it is fastest to fetch all vectors that pass once, for so many queries."""
        passing = self._passing()
        scan_us, visited = self._all * _PASS_US, self._visited(k)
        one_us = visited * _VISIT_US if visited else scan_us + passing * _COMPARE_US
        return passing <= MAX_FETCHED and scan_us + passing * _FETCH_US < queries * one_us

    def _checked(self, query: np.ndarray, k: int) -> np.ndarray:
        dim, query = self._source.known.state.dim, np.ascontiguousarray(query, np.float32)
        if query.shape != (dim,) or not np.isfinite(query).all() or k < 1:
            raise ArgumentError(f"query shape {query.shape}, k = {k}; wanted {dim} finite numbers and k of 1 or more.")
        return query

    def _visited(self, k: int) -> int:
        """How many items a search by the index visits, 0 if comparing all is faster or there is no such index. Where a
        part of all passes filters, the k nearest of these are among as many more of all."""
        every = self._all
        if every < hnsw.MIN_ROWS:
            return 0
        passing, effort = self._passing(), self._effort()
        if effort is None and passing > MAX_COMPARED:
            self._warn(passing)
        if effort is None:
            return 0
        nearest = min(every, int(k * every / max(passing, 1.0)))
        visited = min(every, effort.visited(nearest))
        is_dearer = visited * _VISIT_US > every * _PASS_US + passing * _COMPARE_US
        return 0 if is_dearer else visited

    def _effort(self) -> hnsw.Effort | None:
        """That of the index of vectors, if there is one."""
        database, tables, known, modality = self._source
        effort = hnsw.Effort.of(known.state.facts, modality)
        if effort and modality not in known.built:
            known.built[modality] = bool(database.run(lambda connection: hnsw.is_built(connection, tables, modality)))
        return effort if effort and known.built[modality] else None

    def _warn(self, passing: float) -> None:
        name, dim = self._source.database.name, self._source.known.state.dim
        reason = f"vectors of {dim:,} numbers have none, {hnsw.MAX_DIM:,} is the most"
        if dim <= hnsw.MAX_DIM:
            reason = "it has none; `prepare` of the store builds it, as copying into it does"
        warn(f"{name}: about {passing:,.0f} vectors are compared one by one without an index ({reason}).")

    def by_index(self, connection: Connection, query: np.ndarray, k: int, visited: int) -> Found:
        """The nearest by the index of vectors, which visits about so many items. pgvector stops when a limit is filled,
        not when it is right, so the limit is what passes of these, and the best of them are kept."""
        part = 1.0 if self._condition is None else self._passing() / max(self._all, 1)
        is_at_once = self._condition is None and visited <= hnsw.MAX_EF
        limit = _candidates(k) if is_at_once else max(_candidates(k), int(_KEPT * visited * part))
        breadth = min(hnsw.MAX_EF, max(visited, hnsw.EFFORTS[0]))
        connection.execute(_ITERATIVE, [str(breadth), str(max(20_000, min(self._all, 2**31 - 1)))])
        statement = (
            "SELECT id, vector FROM (SELECT id, vector, vector <#> %s::halfvec AS distance FROM {items} {where} "
            "ORDER BY vector <=> %s::halfvec LIMIT %s) AS near ORDER BY distance, id LIMIT %s"
        )
        text = _as_text(query)
        found = self._ranked(connection, statement, [text, *self._values, text, limit, _candidates(k)], query, k)
        connection.execute(_PLANNED)
        return found

    def compared(self, connection: Connection, query: np.ndarray, k: int) -> Found:
        """The nearest of all that pass; the operator is one that the index of vectors does not serve."""
        statement = "SELECT id, vector FROM {items} {where} ORDER BY vector <#> %s::halfvec, id LIMIT %s"
        return self._ranked(connection, statement, [*self._values, _as_text(query), _candidates(k)], query, k)

    def _ranked(self, connection: Connection, statement: str, values: list, query: np.ndarray, k: int) -> Found:
        """The rows of a statement, by the exact cosines of their vectors with the query."""
        rows = _binary(connection, self._source.tables.sql(statement, where=self._where), values)
        ids = np.fromiter((id for id, _ in rows), np.int64, len(rows))
        vectors = vectors_in([vector for _, vector in rows], len(query))
        cosines = exact_inner_products(vectors, query, np.arange(len(rows)))
        order = np.lexsort((ids, -cosines))
        kept = order[are_unit(vectors)[order]][:k]
        return ids[kept], cosines[kept]

    def fetched(self) -> Iterator[Found]:
        """The ids and vectors of all that pass, ascending by id."""
        after, more = -(1 << 63), sql.SQL("AND id > %s ORDER BY id LIMIT %s")
        statement = self._source.tables.sql(
            "SELECT id, vector FROM {items} {where} {more}", where=self._where, more=more
        )
        while True:
            with_after = [*self._values, after, _FETCHED]
            rows = self._source.database.run(lambda connection: _binary(connection, statement, with_after))  # noqa: B023
            if not rows:
                return
            after = rows[-1][0]
            vectors = vectors_in([vector for _, vector in rows], self._source.known.state.dim)
            yield np.fromiter((id for id, _ in rows), np.int64, len(rows)), vectors


def _candidates(k: int) -> int:
    return k + max(_MORE, k // _PART)


def _number(connection: Connection, statement: sql.Composed, values: list) -> int:
    row = connection.execute(statement, values).fetchone()
    return row[0] if row else 0


def _binary(connection: Connection, statement: sql.Composed, values: list) -> list[tuple]:
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(statement, values).fetchall()


def _as_text(query: np.ndarray) -> str:
    """A query as the server reads a halfvec; a larger number than float16 holds becomes the largest."""
    rounded = np.clip(query, -65504, 65504).astype(np.float16).astype(np.float32)
    return f"[{','.join(map(str, rounded.tolist()))}]"
