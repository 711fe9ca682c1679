"""Builds the indexes of vectors of a store, and measures how far each must be searched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diptych.index.stores.exhaustive import top_k
from diptych.index.stores.postgresql import hnsw
from diptych.index.stores.postgresql.connection import Connection, Database
from diptych.index.stores.postgresql.schema import Tables
from diptych.index.stores.postgresql.selection import Known, PostgreSQLSelection, Source
from diptych.index.stores.store import Progress
from diptych.media.items import Modality

_DRAWN = 2048  # vectors that queries are made of
Sample = Callable[[Modality, int], tuple[np.ndarray, np.ndarray]]


def prepare(
    database: Database, tables: Tables, current: Callable[[], Known], sample: Sample, progress: Progress
) -> None:
    """Build what is missing and measure what was not, or of half as many items."""
    state = current().state
    counts: dict[Modality, int] = {"picture": state.picture, "text": state.text}
    with database.apart() as connection:
        for modality in hnsw.modalities_to_build(counts, state.dim):
            if not hnsw.is_built(connection, tables, modality):
                with database.apart() as watcher:
                    hnsw.build(connection, watcher, tables, modality, counts[modality], state.dim, progress)
            progress(counts[modality], counts[modality])
        connection.execute(tables.sql("ANALYZE {items}"))
        for modality in hnsw.modalities_to_build(counts, state.dim):
            effort = hnsw.Effort.of(state.facts, modality)
            if effort is None or counts[modality] > hnsw.TUNED_GROWTH * effort.rows:
                measured = _measured(connection, Source(database, tables, current(), modality), sample)
                facts = {hnsw.fact(modality): str(measured)}
                database.run(lambda shared: tables.write_facts(shared, facts))  # noqa: B023


def _measured(connection: Connection, source: Source, sample: Sample) -> hnsw.Effort:
    """How far the index of a modality must be searched."""
    others: dict[Modality, Modality] = {"picture": "text", "text": "picture"}
    every = PostgreSQLSelection(source, None, None)
    kinds = hnsw.queries_for(sample(source.modality, _DRAWN)[1], sample(others[source.modality], _DRAWN)[1])

    nearest = np.stack([ids for ids, _ in top_k(every.fetched(), np.concatenate(kinds), hnsw.LONG)])
    right = np.split(nearest, len(kinds))

    def search(query: np.ndarray, length: int, visited: int) -> np.ndarray:
        with connection.transaction():
            return every.by_index(connection, query, length, visited)[0]

    return hnsw.tuned(search, kinds, right, source.known.state.count(source.modality))
