"""Filters applied to rows that were fetched from somewhere else than a catalog, by SQLite itself: the same conditions,
with the same meaning."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import NamedTuple

from diptych.index.catalog.distance import great_circle_km
from diptych.index.filters.filters import Filters
from diptych.media.scanning.path_patterns import fits


class FilteredRow(NamedTuple):
    """What filters look at: an item's id, and its file's path as bytes, kind, time and details."""

    id: int
    path: bytes
    kind: str
    mtime_ns: int | None
    width: int | None
    height: int | None
    taken_at: str | None
    latitude: float | None
    longitude: float | None
    camera: str | None


_MARKS = ", ".join("CAST(? AS TEXT)" if name == "path" else "?" for name in FilteredRow._fields)


def passing_ids(filters: Filters, rows: Iterable[FilteredRow], *, updated_at: str | None = None) -> list[int]:
    """The ids of the rows that pass, in the order of their ids. `updated_at` is the fact of that name, the date of
    files that have no other."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.create_function("path_fits", 3, fits, deterministic=True)
        db.create_function("great_circle_km", 4, great_circle_km, deterministic=True)
        db.execute(f"CREATE TABLE files({', '.join(FilteredRow._fields)})")
        db.execute("CREATE TABLE facts(key, value)")
        db.execute("INSERT INTO facts VALUES ('updated_at', ?)", (updated_at,))
        db.executemany(f"INSERT INTO files VALUES ({_MARKS})", rows)
        condition, values = filters.condition()
        return [id for (id,) in db.execute(f"SELECT id FROM files WHERE {condition} ORDER BY id", values)]
