"""The nearest items of a selection. Milvus proposes, and the cosines are computed here, from the stored vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.errors import ArgumentError
from diptych.index.filters.filters import Filters
from diptych.index.filters.row_filter import passing_ids
from diptych.index.stores.milvus.expressions import Expression, expression_of
from diptych.index.stores.milvus.schema import FILTERED_FIELDS, filtered_row
from diptych.media.items import Modality
from diptych.vectors.float16 import exact_inner_products

if TYPE_CHECKING:
    from diptych.index.stores.milvus.collection import Collection, Description

_FEW = 1000  # rows whose vectors are fetched and compared here, sooner than searched for
_MORE = 4  # times as many candidates, or as wide a search, where too few were found
_TRIES = 3
MOST_EF = 32_768  # that a server takes
_LISTS = (10, 100)  # lengths of lists that searches are tuned for
_UNTUNED = (2048, 2048)  # how widely a graph is searched for these before its recall is measured
FILTERED_SHARE = 0.1  # of the rows pass the filter that Milvus Lite's filtered searches are tuned with
SERVER_SHARE = 0.5  # the same of a server's, which finds by parts what lets fewer pass
# Servers compare all rows that pass, and visit no graph, where at most 7 % do (knowhere: kHnswSearchKnnBFThreshold)
_PART = 0.05
_MANY = 16_384  # rows that are fetched for several queries at once

Found = tuple[np.ndarray, np.ndarray]


class MilvusSelection:
    """The items of a modality that pass filters; see `diptych.index.stores.store.Selection`."""

    def __init__(self, collection: Collection, description: Description, modality: Modality, filters: Filters):
        self._collection, self._filters = collection, filters
        self._modality: Modality = modality
        self._dim, self._settings = description.form.dim, description.settings
        self._updated_at = description.facts.get("updated_at")
        self._expression = expression_of(
            filters, updated_at=self._updated_at, has_infix=bool(filters.camera) and collection.connection.has_infix
        )

    def __len__(self) -> int:
        return self._possible if self._allowed is None else len(self._allowed)

    def search(self, query: np.ndarray, k: int) -> Found:
        """As `Selection.search`. The limit is filled if enough items pass."""
        query = self._checked(query, k)
        k = min(k, len(self))
        if not k:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        return self._found(query, k) or self._exhaustive(query, k)

    def search_many(self, queries: np.ndarray, k: int) -> list[Found]:
        """As `Selection.search_many`."""
        checked = [self._checked(query, k) for query in queries]
        k = min(k, len(self))
        if not k or self._is_small or self._allowed is not None or k * len(checked) * self._parts > _MANY:
            return [self.search(query, max(k, 1)) for query in checked]
        found = self._nearest(np.stack(checked), k, self._ef(k))
        return [
            ranked(query, *some, k) if len(some[0]) >= k else self.search(query, k)
            for query, some in zip(checked, found, strict=True)
        ]

    def _checked(self, query: np.ndarray, k: int) -> np.ndarray:
        query = np.ascontiguousarray(query, np.float32)
        if query.shape != (self._dim,) or not np.isfinite(query).all() or k < 1:
            raise ArgumentError(
                f"query shape {query.shape}, k = {k}; wanted {self._dim} finite numbers and k of 1 or more."
            )
        return query

    # --- how many

    @cached_property
    def _possible(self) -> int:
        """The number of rows that pass the expression."""
        return self._collection.count(self._modality, self._expression)

    @cached_property
    def _allowed(self) -> np.ndarray | None:
        """The ids of the rows that pass the filters; None if they are those that pass the expression."""
        if self._expression.is_exact:
            return None
        connection = self._collection.connection
        key = "allowed", self._modality, self._filters, self._updated_at
        if (known := connection.kept(key)) is None:
            parts = [np.array(self._passing(rows), np.int64) for rows in self._batches(FILTERED_FIELDS)]
            known = np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
            connection.keep(key, known)
        return known

    def _passing(self, rows: list[dict[str, Any]]) -> list[int]:
        valid = []
        for row in rows:
            try:
                valid.append(filtered_row(row))
            except (KeyError, TypeError, ValueError, AttributeError):  # reading its item says so
                continue
        return passing_ids(self._filters, valid, updated_at=self._updated_at)

    @property
    def _is_small(self) -> bool:
        """Whether so few pass that a graph would miss them, or a search would find others first."""
        return len(self) <= _FEW and bool(self._filters) and (self._allowed is not None or self._ef(1) is not None)

    # --- candidates

    def _found(self, query: np.ndarray, k: int) -> Found | None:
        """The nearest by Milvus's own search; None if that does not find as many, or should not be asked."""
        most, wanted, ef = self._collection.connection.most_rows, self._wanted(k), self._ef(k)
        if self._is_small:
            return None
        for _ in range(_TRIES):
            if wanted > most:
                return None
            ids, vectors = self._nearest(query[None], min(wanted, self._possible), ef)[0]
            kept = np.ones(len(ids), bool) if self._allowed is None else np.isin(ids, self._allowed)
            if kept.sum() >= k:
                return ranked(query, ids[kept], vectors[kept], k)
            if self._allowed is not None and len(ids) >= wanted:
                wanted = wanted * _MORE
            elif ef is None:
                return None
            ef = ef and ef * _MORE
        return None

    def _wanted(self, k: int) -> int:
        """How many candidates of the expression have `k` among them that pass the filters, as a rule."""
        if self._allowed is None:
            return k
        return math.ceil(1.5 * k * self._possible / max(1, len(self))) + 8

    def _ef(self, k: int) -> int | None:
        """How widely a graph is searched for `k` neighbours; None if all rows are compared anyway. Milvus Lite looks at
        rows that do not pass as well, so it must look at more."""
        if self._settings.get("index") != "HNSW":
            return None
        short, long = self._settings.get("ef", {}).get(self._modality, _UNTUNED)
        share = (min(max(k, _LISTS[0]), _LISTS[1]) - _LISTS[0]) / (_LISTS[1] - _LISTS[0])
        ef = short + share * (long - short)
        ef *= max(1.0, k / _LISTS[1])
        if self._filters:
            wide = self._filtered_width * ef / short
            share = self._possible / max(1, self._collection.count(self._modality))
            ef = max(ef, wide * FILTERED_SHARE / share if self._collection.connection.is_lite and share else wide)
        return max(k, math.ceil(ef))

    @property
    def _filtered_width(self) -> float:
        """How widely a graph is searched for the shorter list where there is a filter; 0 if that is not known."""
        return self._settings.get("filtered", {}).get(self._modality, 0)

    @cached_property
    def _parts(self) -> int:
        """The number of searches into which one is divided. A graph is left early where most of its rows do not pass,
        and no width that a server takes makes up for that; of parts small enough a server compares all rows."""
        if not self._filters or self._collection.connection.is_lite or self._settings.get("index") != "HNSW":
            return 1
        share = self._possible / max(1, self._collection.count(self._modality))
        return 1 if share >= SERVER_SHARE and self._filtered_width else max(1, math.ceil(share / _PART))

    def _nearest(self, queries: np.ndarray, k: int, ef: int | None) -> list[Found]:
        is_lite = self._collection.connection.is_lite
        params: Mapping[str, Any] = {} if ef is None else {"ef": ef if is_lite else max(k, min(ef, MOST_EF))}
        parts = [
            self._collection.nearest(queries, k, self._modality, self._expression & part, params=params)
            for part in _divided(self._parts)
        ]
        return [_joined(found) for found in zip(*parts, strict=True)]

    # --- all of them

    def _exhaustive(self, query: np.ndarray, k: int) -> Found:
        """The nearest of all, block by block."""
        ids, vectors = np.empty(0, np.int64), np.empty((0, self._dim), np.float16)
        for more_ids, more_vectors in self._blocks():
            ids, vectors = np.concatenate([ids, more_ids]), np.concatenate([vectors, more_vectors])
            best = _order(ids, _cosines(vectors, query))[:k]
            ids, vectors = ids[best], vectors[best]
        return ranked(query, ids, vectors, k)

    def _blocks(self) -> Iterator[Found]:
        """The ids and vectors of all that pass."""
        if self._allowed is None:
            for rows in self._batches(["id", "vector"]):
                yield self._arrays(rows)
            return
        for start in range(0, len(self._allowed), _FEW):
            some = self._allowed[start : start + _FEW].tolist()
            rows = self._collection.rows_with_ids(some, ["id", "vector"], modality=self._modality)
            yield self._arrays(list(rows.values()))

    def _batches(self, fields: list[str]) -> Iterator[list[dict[str, Any]]]:
        return self._collection.batches(self._modality, self._expression, fields)

    def _arrays(self, rows: list[dict[str, Any]]) -> Found:
        ids = np.fromiter((row["id"] for row in rows), np.int64, len(rows))
        return ids, self._collection.form.incoming([row["vector"] for row in rows])


def _divided(parts: int) -> Iterator[Expression]:
    """Conditions on the hash of the id, each of which lets as many rows pass; together all."""
    edges = [round(part * 2**64 / parts) - 2**63 for part in range(parts)]
    for low, high in zip(edges, [*edges[1:], None], strict=True):
        least = Expression("drawn >= {part_from}", {"part_from": low}) if low > edges[0] else Expression()
        yield least & (Expression() if high is None else Expression("drawn < {part_to}", {"part_to": high}))


def _joined(found: Sequence[Found]) -> Found:
    ids, vectors = zip(*found, strict=True)
    return np.concatenate(ids), np.concatenate(vectors)


def ranked(query: np.ndarray, ids: np.ndarray, vectors: np.ndarray, k: int) -> Found:
    """The `k` best of these, best first, equal ones by id, and their cosines."""
    cosines = _cosines(vectors, query)
    best = _order(ids, cosines)[:k]
    return ids[best], cosines[best]


def _cosines(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    return exact_inner_products(vectors, query, np.arange(len(vectors)))


def _order(ids: np.ndarray, cosines: np.ndarray) -> np.ndarray:
    return np.lexsort((ids, -cosines))
