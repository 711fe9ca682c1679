"""Lists and counts of the files of a collection, made here from the rows that pass: Milvus neither groups nor sorts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from diptych.index.catalog.browsing import MOST_CAMERAS, MOST_FOLDERS, MOST_MONTHS, Facets, ItemKey, Order, Sort
from diptych.index.catalog.validation import Item
from diptych.index.filters.filters import Filters
from diptych.index.filters.row_filter import passing_ids
from diptych.index.stores.milvus.collection import EVERYTHING, Collection
from diptych.index.stores.milvus.expressions import Expression, expression_of
from diptych.index.stores.milvus.schema import ITEM_FIELDS, filtered_row, items_in
from diptych.media.items import IndexCounts, Modality

MOST_KEYS = 200_000  # items, about 100 MB
_LONGEST = 500  # characters of a name


class Passing(NamedTuple):
    """The rows of a collection that pass filters. `updated_at` is the fact of that name; `refused` gets the names of
    rows that are not valid."""

    collection: Collection
    filters: Filters
    updated_at: str | None
    refused: dict[int, str]

    def items(self, modality: Modality | None, also: Expression = EVERYTHING) -> Iterator[Item]:
        """Their items, ascending by id, for which `also` holds as well."""
        has_infix = bool(self.filters.camera) and self.collection.connection.has_infix
        expression = expression_of(self.filters, updated_at=self.updated_at, has_infix=has_infix)
        for rows in self.collection.batches(modality, expression & also, ITEM_FIELDS):
            items = items_in(rows, self.refused)
            if not expression.is_exact:
                known = [filtered_row(row) for row in rows if row["id"] in items]
                items = {id: items[id] for id in passing_ids(self.filters, known, updated_at=self.updated_at)}
            yield from items.values()


def counts(passing: Passing) -> IndexCounts:
    """The numbers of files and items."""
    files, numbers = set[bytes](), Counter[str]()
    for item in passing.items(None):
        files.add(os.fsencode(item.path))
        numbers[item.modality] += 1
    return IndexCounts(len(files), numbers["picture"], numbers["text"], 0)


def listed(passing: Passing, modality: Modality, sort: Sort, order: Order) -> np.ndarray:
    """As `Store.listed`."""
    with_value, without = list[tuple[Any, bytes, int]](), list[tuple[bytes, int]]()
    seen = set[str]()
    for item in passing.items(modality):
        if item.path in seen:
            continue
        seen.add(item.path)
        path = os.fsencode(item.path)
        value = {"taken_at": item.details.taken_at, "path": path, "added": item.id, "size": item.size}[sort]
        if value is None:
            without.append((path, item.id))
        else:
            with_value.append((value, path, item.id))
    with_value.sort(key=lambda one: one[1])
    with_value.sort(key=lambda one: one[0], reverse=order == "desc")  # equal ones stay in the order of their paths
    ids = chain((id for _, _, id in with_value), (id for _, id in sorted(without)))
    return np.fromiter(ids, np.int64, len(seen))


def keys(passing: Passing, modality: Modality) -> dict[int, ItemKey]:
    """As `Store.keys`, of the first MOST_KEYS items."""
    found = dict[int, ItemKey]()
    for item in passing.items(modality):
        if len(found) >= MOST_KEYS:
            break
        line = item.line if item.kind == "text" else None
        found[item.id] = ItemKey((item.digest or item.path, line), item.path)
    return found


def facets(passing: Passing, subfolder: str) -> Facets:
    """As `Store.facets`; folders are relative to the subfolder."""
    start, seen = len(subfolder) + 1 if subfolder else 0, set[str]()
    kinds, cameras, months, folders = (Counter[str]() for _ in range(4))
    dated = located = 0
    for item in passing.items(None):
        if item.path in seen:
            continue
        seen.add(item.path)
        details = item.details
        kinds[item.kind] += 1
        folders[item.path[start:].rpartition("/")[0]] += 1
        located += details.latitude is not None
        if details.taken_at is not None:
            dated += 1
            months[details.taken_at[:7]] += 1
        if details.camera is not None:
            cameras[details.camera] += 1
    return Facets(
        len(seen), len(seen) - dated, located, kinds.most_common(3), _most(cameras, MOST_CAMERAS),
        _most(months, MOST_MONTHS), _most(folders, MOST_FOLDERS),
    )  # fmt: skip


def _most(names: Counter[str], most: int) -> list[tuple[str, int]]:
    return [(name, count) for name, count in names.most_common(most) if len(name) <= _LONGEST]
