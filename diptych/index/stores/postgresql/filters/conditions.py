"""Filters as conditions of PostgreSQL on the columns of `items`. What a user gives is a parameter, never SQL.

They let the same items pass as SQLite's do, for a path's pattern becomes a regular expression of the server
(`path_regex.py`), so that it can be searched in any table without asking for each path. Times of files are compared as
numbers, because the server need not know the zone of this machine: in the hour that a clock repeats in autumn, a filter
to the minute may differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg import sql

from diptych.index.catalog.distance import EARTH_RADIUS_KM
from diptych.index.filters.filters import Filters
from diptych.index.filters.geography import GeoBox, GeoCircle, bounding_box
from diptych.index.stores.postgresql.filters.path_regex import path_regex
from diptych.index.stores.postgresql.texts import escaped
from diptych.media.scanning.path_patterns import literal_folder

_ENDING = re.compile(r"\*\.[a-z0-9]+", re.I | re.A)
_TEMPLATE = "2000-01-01T00:00:00"  # completes a partial date
_INT64 = 1 << 63
PREFIX = 500  # characters of a path that are indexed
_SIGNS = {"landscape": sql.SQL("width > height"), "portrait": sql.SQL("width < height")}
_EQUAL = sql.SQL("width = height")
# The haversine formula, as in diptych.index.catalog.distance
_DISTANCE = sql.SQL(
    "2 * %s::float8 * asin(least(1, sqrt(sin((radians(%s::float8) - radians(latitude)) / 2) ^ 2 + "
    "cos(radians(latitude)) * cos(radians(%s::float8)) * sin(radians(%s::float8 - longitude) / 2) ^ 2))) <= %s::float8"
)
_UPDATED_AT = sql.SQL("(SELECT value #>> '{{}}' FROM {facts} WHERE key = 'updated_at') COLLATE \"C\"")


class Condition(NamedTuple):
    """SQL for a WHERE, and its parameters in order."""

    sql: sql.Composable
    values: list[Any]


def condition_of(filters: Filters, facts: sql.Composable) -> Condition:
    """The condition of filters, whose `subfolder` is relative to the root of the index; `facts` is that table."""
    parts = list(_parts(filters, facts))
    joined = sql.SQL(" AND ").join([sql.SQL("({})").format(part) for part, _ in parts]) if parts else sql.SQL("true")
    return Condition(joined, [value for _, values in parts for value in values])


def _parts(filters: Filters, facts: sql.Composable) -> Iterator[Condition]:
    if filters.since or filters.until:
        yield _dated(filters, facts) if filters.file_dates else _between(sql.SQL("taken_at"), filters)
    if filters.box:
        yield _in_box(filters.box)
    if filters.near:
        yield _in_circle(filters.near)
    if filters.camera:
        yield Condition(sql.SQL("strpos(lower(camera), %s) > 0"), [_lower(escaped(filters.camera))])
    if filters.subfolder:
        yield _inside(filters.subfolder)
    if filters.path:
        yield from _path(filters.path, filters.subfolder)
    for column, least in (("width", filters.min_width), ("height", filters.min_height)):
        if least is not None:
            yield Condition(sql.SQL("{} >= %s").format(sql.Identifier(column)), [least])
    if filters.min_megapixels is not None:
        yield Condition(sql.SQL("width * height >= %s"), [round(filters.min_megapixels * 1e6)])
    if filters.orientation:
        yield Condition(_SIGNS.get(filters.orientation, _EQUAL), [])
    if filters.kind:
        yield Condition(sql.SQL("kind = %s"), [filters.kind])


def _between(date: sql.Composable, filters: Filters) -> Condition:
    """Dates of any precision sort as text, a prefix first."""
    parts, values = list[sql.Composable](), list[Any]()
    if filters.since:
        parts.append(sql.SQL("left({}, 19) >= %s").format(date))  # as it is indexed
        values.append(filters.since)
    if filters.until:
        parts.append(sql.SQL("left({}, %s) <= %s").format(date))
        values += [len(filters.until), filters.until]
    return Condition(sql.Composed([sql.SQL(" AND ").join(parts)]), values)


def _dated(filters: Filters, facts: sql.Composable) -> Condition:
    """A file without a date has the time of its change, or, if that is not known, the time of the last update."""
    own, values = _between(sql.SQL("taken_at"), filters)
    updated, more = _between(_UPDATED_AT.format(facts=facts), filters)
    bounds = _first_ns(filters.since), _first_ns(filters.until, after=True)
    changed = "taken_at IS NULL AND mtime_ns >= %s AND mtime_ns < %s"
    condition = "({}) OR (" + changed + ") OR (taken_at IS NULL AND mtime_ns IS NULL AND {})"
    return Condition(sql.SQL(condition).format(own, updated), [*values, *bounds, *more])  # type: ignore[arg-type]


def _first_ns(date: str | None, *, after: bool = False) -> int:
    """The first nanosecond since 1970 of a local date of any precision, or the first `after` it; one that is earlier or
    later than any file's where there is no date."""
    if date is None:
        return _INT64 - 1 if after else -_INT64
    first = datetime.fromisoformat(date + _TEMPLATE[len(date) :])
    try:
        return round((_next(first, len(date)) if after else first).timestamp()) * 10**9
    except (OverflowError, ValueError, OSError):
        return -_INT64 if first.year < 2000 else _INT64 - 1


def _next(first: datetime, precision: int) -> datetime:
    """The beginning of the next year, month, day, hour, minute or second."""
    if precision == 4:
        return first.replace(year=first.year + 1)
    if precision == 7:
        return (first + timedelta(days=32)).replace(day=1)
    return first + {10: timedelta(days=1), 13: timedelta(hours=1), 16: timedelta(minutes=1)}.get(
        precision, timedelta(seconds=1)
    )


def _in_box(box: GeoBox) -> Condition:
    south, west, north, east = map(float, box)
    longitudes = "longitude BETWEEN %s AND %s" if west <= east else "(longitude >= %s OR longitude <= %s)"
    condition = "latitude BETWEEN %s AND %s AND " + longitudes
    return Condition(sql.SQL(condition), [south, north, west, east])  # type: ignore[arg-type]


def _in_circle(circle: GeoCircle) -> Condition:
    box, values = _in_box(bounding_box(circle))
    latitude, longitude, radius_km = map(float, circle)
    more = [EARTH_RADIUS_KM, latitude, latitude, longitude, radius_km]
    return Condition(sql.SQL("{} AND {}").format(box, _DISTANCE), [*values, *more])


def _inside(folder: str) -> Condition:
    """The files in a folder, at any depth; "0" is the character after "/"."""
    low, high = escaped(f"{folder}/"), escaped(f"{folder}0")
    column = sql.SQL("left(path, 500)" if len(low) <= PREFIX else "path")
    return Condition(sql.SQL("{0} >= %s AND {0} < %s").format(column), [low, high])


def _path(pattern: str, subfolder: str) -> Iterator[Condition]:
    if _ENDING.fullmatch(pattern):
        yield Condition(sql.SQL("lower(path) LIKE %s"), ["%" + _lower(pattern[1:])])
        return
    if start := literal_folder(pattern):
        yield _inside(f"{subfolder}/{start}" if subfolder else start)
        if pattern.removeprefix("./").lstrip("/") == f"{start}/**":
            return
    skipped = len(escaped(subfolder)) + bool(subfolder)
    condition = sql.SQL('(normalize(substr(path, %s), NFC) COLLATE "C") ~ %s')
    yield Condition(condition, [skipped + 1, path_regex(escaped(pattern))])


def _lower(text: str) -> str:
    """Small letters of ASCII alone, as SQLite's and the collation "C" have them."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)
