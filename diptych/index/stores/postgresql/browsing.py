"""Lists and counts of the files of a store, and the keys by which items of one content are one hit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql

from diptych.index.catalog.browsing import MOST_CAMERAS, MOST_FOLDERS, MOST_MONTHS, Facets, ItemKey, Order, Sort
from diptych.index.stores.postgresql.texts import escaped, unescaped

if TYPE_CHECKING:
    from diptych.index.stores.postgresql.filters.conditions import Condition
    from diptych.index.stores.postgresql.schema import Tables
    from diptych.media.items import Modality

Rows = Callable[[sql.Composed, list[Any]], list[tuple[Any, ...]]]
MOST_KEYS = 200_000  # items, about 100 MB
_LONGEST = 500  # characters of a name
_COLUMNS: dict[Sort, str] = {"taken_at": "min(taken_at)", "path": "path", "added": "min(id)", "size": "min(size)"}
# Columns of a file are in the row of each of its items
_FILES = (
    "WITH file AS (SELECT path, min(kind) AS kind, min(camera) AS camera, min(taken_at) AS taken_at, "
    "min(latitude) AS latitude FROM {items} WHERE {condition} GROUP BY path), named AS (SELECT kind, camera, "
    "left(taken_at, 7) AS month, regexp_replace(substr(path, %s), '/?[^/]*$', '') AS folder, latitude FROM file) "
)
_GROUPS = (
    "SELECT grouping(kind, camera, month, folder), kind, camera, month, folder, count(*), count(month), "
    "count(latitude) FROM named GROUP BY GROUPING SETS ((), (kind), (camera), (month), (folder))"
)
_GROUPED = {0b0111: 0, 0b1011: 1, 0b1101: 2, 0b1110: 3}  # a bit is set for each column that rows are not grouped by
_OF_FILE = "FROM {items} WHERE left(path, 500) = left(%s, 500) AND path = %s"


def listed(
    rows: Rows, tables: Tables, modality: Modality, condition: Condition, sort: Sort, order: Order
) -> np.ndarray:
    """As `Store.listed`. Of files with equal values, those whose names are not UTF-8 come last."""
    direction = "ASC" if order == "asc" else "DESC"
    statement = (
        "SELECT min(id) FROM {items} WHERE modality = %s AND ({condition}) GROUP BY path "
        f"ORDER BY {_COLUMNS[sort]} {direction} NULLS LAST, path"
    )
    found = rows(tables.sql(statement, condition=condition.sql), [modality, *condition.values])
    return np.fromiter((id for (id,) in found), np.int64, len(found))


def ids_of_file(rows: Rows, tables: Tables, path: str, most: int) -> list[int]:
    """The ids of at most so many items of a file, ascending."""
    statement = tables.sql("SELECT id " + _OF_FILE + " ORDER BY id LIMIT %s")
    return [id for (id,) in rows(statement, [escaped(path), escaped(path), most])]


def find(rows: Rows, tables: Tables, path: str, modality: Modality, at_s: float | None, line: int | None) -> int | None:
    """As `Store.find`."""
    same = " AND modality = %s AND at_s IS NOT DISTINCT FROM %s::float8 AND line IS NOT DISTINCT FROM %s::bigint"
    statement = tables.sql("SELECT id " + _OF_FILE + same + " ORDER BY id LIMIT 1")
    found = rows(statement, [escaped(path), escaped(path), modality, at_s, line])
    return found[0][0] if found else None


def keys(rows: Rows, tables: Tables, modality: Modality, condition: Condition) -> dict[int, ItemKey]:
    """As `Store.keys`, of the first MOST_KEYS items."""
    statement = tables.sql(
        "SELECT id, nullif(digest, ''::bytea), CASE kind WHEN 'text' THEN line END, path FROM {items} "
        "WHERE modality = %s AND ({condition}) ORDER BY id LIMIT %s",
        condition=condition.sql,
    )
    found = rows(statement, [modality, *condition.values, MOST_KEYS])
    return {id: ItemKey((digest or path, line), unescaped(path)) for id, digest, line, path in found}


def facets(rows: Rows, tables: Tables, condition: Condition, subfolder: str) -> Facets:
    """As `Store.facets`; folders are relative to the subfolder."""
    start = len(escaped(subfolder)) + 2 if subfolder else 1
    found = rows(tables.sql(_FILES + _GROUPS, condition=condition.sql), [*condition.values, start])
    counts, total, dated, located = [Counter[str]() for _ in range(4)], 0, 0, 0
    for grouping, *names, files, with_month, with_latitude in found:
        if grouping not in _GROUPED:
            total, dated, located = files, with_month, with_latitude
        elif (name := names[_GROUPED[grouping]]) is not None and len(name) <= _LONGEST:
            counts[_GROUPED[grouping]][unescaped(name)] += files
    kinds, cameras, months, folders = counts
    return Facets(
        total, total - dated, located, kinds.most_common(3), cameras.most_common(MOST_CAMERAS),
        months.most_common(MOST_MONTHS), folders.most_common(MOST_FOLDERS),
    )  # fmt: skip
