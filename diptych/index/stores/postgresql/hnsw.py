"""The index of vectors: how it is built, and how far it must be searched, which is measured on the vectors themselves.

There is one for each modality, because the texts nearest to a text are all nearer than any picture (the modality gap).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import psycopg
from psycopg import sql

from diptych.index.stores.postgresql.connection import Connection
from diptych.index.stores.postgresql.schema import Tables
from diptych.index.stores.store import Progress
from diptych.media.items import Modality
from diptych.scoring.zero_shot import unit
from diptych.vectors.tuning import LONG_LIST, RECALL_AT, TARGET_RECALL, synthetic_queries

MAX_DIM = 4000  # numbers of a halfvec in an index
LINKS, BREADTH = 16, 200  # m and ef_construction
MIN_ROWS = 20_000  # below these, comparing all takes less than 10 ms
# Items that a search visits. The first MAX_EF are found at once, more by going on from there
EFFORTS = (40, 60, 80, 100, 140, 200, 300, 400, 600, 800, 1000, 1500, 2500, 4000, 8000)
MAX_EF = 1000  # pgvector's limit of hnsw.ef_search
QUERIES = 64  # of each kind
SHORT, LONG = RECALL_AT, LONG_LIST  # lengths of lists whose recall is measured
TUNED_GROWTH = 2  # times as many rows: tune again
_BYTES_PER_ROW = 2 * LINKS * 8 + 350  # of the graph in memory while it is built, besides the vector
_LEAST_MB, _MOST_MB = 64, 2048  # of maintenance_work_mem
_POLL_S = 0.5
_PROGRESS = "SELECT tuples_done, tuples_total FROM pg_stat_progress_create_index WHERE pid = %s"


class Effort(NamedTuple):
    """How many items must be visited for the SHORT and the LONG list of the nearest, the recall that was measured of
    the short one, and of how many rows. A number is 0 where none of EFFORTS reaches TARGET_RECALL, so that all rows are
    compared."""

    short: int
    long: int
    recall: float
    rows: int

    @classmethod
    def of(cls, facts: dict[str, Any], modality: Modality) -> Effort | None:
        """The effort in the facts; None if it was not measured, or is not one of ours."""
        try:
            short, long, recall, rows = str(facts.get(fact(modality))).split()
            effort = cls(int(short), int(long), float(recall), int(rows))
        except ValueError:
            return None
        is_ours = all(0 <= visited <= EFFORTS[-1] for visited in effort[:2]) and effort.rows > 0
        return effort if is_ours else None

    def __str__(self) -> str:
        return f"{self.short} {self.long} {self.recall:.4f} {self.rows}"

    def visited(self, k: int) -> int:
        """How many items must be visited for a list of `k`; 0 if that is not known."""
        if k <= SHORT or not self.short:
            return self.short
        if k > LONG or not self.long:
            return -(-self.long * k // LONG)
        return self.short + max(0, self.long - self.short) * (k - SHORT) // (LONG - SHORT)


def fact(modality: Modality) -> str:
    """The name of the fact with the effort."""
    return f"hnsw.{modality}"


def index_name(modality: Modality) -> str:
    """The name of a modality's index of vectors."""
    return f"items_{modality}_vector"


def is_built(connection: Connection, tables: Tables, modality: Modality) -> bool | None:
    """Whether there is a valid index; None if there is one that was left unfinished."""
    found = connection.execute(
        "SELECT indisvalid FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n ON n.oid = "
        "c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        [tables.schema, index_name(modality)],
    ).fetchone()
    return False if found is None else found[0] or None


def build(
    connection: Connection,
    watcher: Connection,
    tables: Tables,
    modality: Modality,
    rows: int,
    dim: int,
    progress: Progress,
) -> None:
    """Build the index while others read and write; the server waits for transactions that began before it. `watcher`
    is another connection, which asks how far it is."""
    name = sql.Identifier(tables.schema, index_name(modality))
    if is_built(connection, tables, modality) is None:
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(name))
    megabytes = min(_MOST_MB, max(_LEAST_MB, 1 + rows * (_BYTES_PER_ROW + 2 * dim) // 10**6))
    connection.execute("SELECT set_config('maintenance_work_mem', %s, false)", [f"{megabytes}MB"])
    statement = tables.sql(
        "CREATE INDEX CONCURRENTLY {name} ON {items} USING hnsw (vector halfvec_cosine_ops) "
        "WITH (m = {links}, ef_construction = {breadth}) WHERE modality = {modality}",
        name=sql.Identifier(index_name(modality)), links=sql.Literal(LINKS), breadth=sql.Literal(BREADTH),
        modality=sql.Literal(modality),
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(_create, connection, statement, name)
        done = threading.Event()
        building.add_done_callback(lambda _: done.set())
        try:
            while not done.wait(_POLL_S):
                if found := watcher.execute(_PROGRESS, [connection.info.backend_pid]).fetchone():
                    progress(min(found[0], rows), rows)
        except BaseException:
            connection.cancel_safe()
            raise
        building.result()


def _create(connection: Connection, statement: sql.Composed, name: sql.Composable) -> None:
    """Builds with several workers, or with one where the server has too little shared memory for them."""
    try:
        connection.execute(statement)
    except (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory):
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(name))
        connection.execute("SET max_parallel_maintenance_workers = 0")
        connection.execute(statement)


def tuned(
    search: Callable[[np.ndarray, int, int], np.ndarray], kinds: list[np.ndarray], right: list[np.ndarray], rows: int
) -> Effort:
    """The least effort whose recall suffices for each kind of queries, (n, dim). `search` finds a number of ids for a
    query and visits a number of items; `right` are the LONG nearest for the queries of each kind, (n, LONG)."""

    def recall_of(queries: np.ndarray, true: np.ndarray, length: int, visited: int) -> float:
        found = [search(query, length, visited) for query in queries]
        return float(np.mean([np.isin(one[:length], some).mean() for one, some in zip(true, found, strict=True)]))

    def least(length: int, first: int) -> tuple[int, float]:
        recall = 0.0
        for visited in EFFORTS[EFFORTS.index(first) :]:
            recall = min(recall_of(queries, true, length, visited) for queries, true in zip(kinds, right, strict=True))
            if recall >= TARGET_RECALL:
                return visited, recall
        return 0, recall

    short, recall = least(SHORT, EFFORTS[0])
    return Effort(short, least(LONG, short)[0] if short else 0, recall, rows)


def queries_for(own: np.ndarray, other: np.ndarray) -> list[np.ndarray]:
    """Kinds of queries, each (n, dim) float32, for items with a sample `own` of vectors: these, moved by noise; some as
    from across the modality gap; and vectors of the `other` modality, where there are enough."""
    rng = np.random.default_rng(0)
    noise = unit(rng.normal(size=(QUERIES, own.shape[1])))
    kinds = [unit(own[rng.integers(len(own), size=QUERIES)] + 0.3 * noise)]
    kinds.append(synthetic_queries(own.astype(np.float16), count=QUERIES))
    if len(other) >= QUERIES:
        kinds.append(other[rng.integers(len(other), size=QUERIES)])
    return [queries.astype(np.float32) for queries in kinds]


def modalities_to_build(counts: dict[Modality, int], dim: int) -> Iterator[Modality]:
    """The modalities with so many items that an index pays."""
    if dim <= MAX_DIM:
        for modality, count in counts.items():
            if count >= MIN_ROWS:
                yield modality
