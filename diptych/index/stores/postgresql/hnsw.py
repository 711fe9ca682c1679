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
from diptych.media.items import Modality

MAX_DIM = 4000  # numbers of a halfvec in an index
LINKS, BREADTH = 16, 200  # m and ef_construction
MIN_ROWS = 20_000  # below these, comparing all takes less than 10 ms
EFFORTS = (40, 60, 80, 100, 140, 200, 300, 400, 600, 800, 1000)  # hnsw.ef_search; 1000 is pgvector's limit
TARGET_RECALL, RECALL_AT, QUERIES = 0.985, 10, 128  # 0.98 is wanted for other queries
TUNED_GROWTH = 2  # times as many rows: tune again
_BYTES_PER_ROW = 2 * LINKS * 8 + 350  # of the graph in memory while it is built, besides the vector
_LEAST_MB, _MOST_MB = 64, 2048  # of maintenance_work_mem
_POLL_S = 0.5
_PROGRESS = "SELECT tuples_done, tuples_total FROM pg_stat_progress_create_index WHERE pid = %s"
Progress = Callable[[int, int], None]


class Effort(NamedTuple):
    """What was measured: the breadth of a search, the recall of the ten nearest, and of how many rows. `breadth` is 0
    where no breadth reaches TARGET_RECALL, so that all rows are compared."""

    breadth: int
    recall: float
    rows: int

    @classmethod
    def of(cls, facts: dict[str, Any], modality: Modality) -> Effort | None:
        """The effort in the facts; None if it was not measured, or is not one of ours."""
        found = facts.get(fact(modality))
        try:
            breadth, recall, rows = str(found).split()
            effort = cls(int(breadth), float(recall), int(rows))
        except ValueError:
            return None
        return effort if 0 <= effort.breadth <= EFFORTS[-1] and effort.rows > 0 else None

    def __str__(self) -> str:
        return f"{self.breadth} {self.recall:.4f} {self.rows}"


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
    """Build the index while others read and write. `watcher` is another connection, which asks how far it is."""
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
        while not done.wait(_POLL_S):
            if found := watcher.execute(_PROGRESS, [connection.info.backend_pid]).fetchone():
                progress(min(found[0], rows), rows)
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
    search: Callable[[np.ndarray, int], np.ndarray],
    exact: Callable[[np.ndarray], np.ndarray],
    queries: np.ndarray,
    rows: int,
) -> Effort:
    """The least breadth whose recall suffices. `search` finds ids for a query at a breadth, `exact` the right ones."""
    truth = [exact(query) for query in queries]
    recall = 0.0
    for breadth in EFFORTS:
        found = [search(query, breadth) for query in queries]
        recall = float(np.mean([np.isin(right, some).mean() for right, some in zip(truth, found, strict=True)]))
        if recall >= TARGET_RECALL:
            return Effort(breadth, recall, rows)
    return Effort(0, recall, rows)


def queries_for(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Queries, (n, dim) float32, for items with a sample `own` of vectors: half are of these, moved by noise, and half
    come across the modality gap. Those are `other` items' vectors, where there are enough; else own ones that are moved
    as far as texts lie from pictures, so that cosines with the items are about 0.3."""
    rng = np.random.default_rng(0)
    half = QUERIES // 2
    near = own[rng.integers(len(own), size=half)] + 0.3 * _directions(rng, half, own.shape[1])
    if len(other) >= half:
        across = other[rng.integers(len(other), size=half)]
    else:
        detail = own - own.mean(axis=0)
        across = _unit(detail[rng.integers(len(own), size=half)])
        across = 0.35 * across + _directions(rng, 1, own.shape[1]) + 0.2 * _directions(rng, half, own.shape[1])
    return _unit(np.concatenate([near, across]))


def _directions(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    return _unit(rng.normal(size=(count, dim)).astype(np.float32))


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-6)).astype(np.float32)


def modalities_to_build(counts: dict[Modality, int], dim: int) -> Iterator[Modality]:
    """The modalities with so many items that an index pays."""
    if dim <= MAX_DIM:
        for modality, count in counts.items():
            if count >= MIN_ROWS:
                yield modality
