"""Which items may be found at all: dates, places, cameras, paths, sizes, as SQL conditions on the catalog's columns."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from diptych.errors import ArgumentError, FilterError, MessageParts, PatternError, Setting
from diptych.media.items import Kind
from diptych.media.path_patterns import inside, literal_folder, within

if TYPE_CHECKING:
    from diptych.index.catalog.catalog import Catalog

Orientation = Literal["landscape", "portrait", "square"]
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d)?)?)?)?)?")
# A file that was changed just before it was read has no time in the catalog, for it may change again within its tick.
_ANY_DATE = (
    "coalesce(files.taken_at, strftime('%Y-%m-%dT%H:%M:%S', files.mtime_ns / 1000000000, 'unixepoch', 'localtime'), "
    "(SELECT value FROM facts WHERE key = 'updated_at'))"
)
_ENDING = re.compile(r"\*\.[a-z0-9]+", re.I | re.A)
_WHOLE_DATE = "2000-01-01T00:00:00"  # what a date is filled up from


class Box(NamedTuple):
    """A piece of the earth in degrees, north and east positive. Where `west` is greater than `east` it lies across the
    date line."""

    south: float
    west: float
    north: float
    east: float


@dataclass(frozen=True)
class Filters:
    """What an item's file must be like; None asks for nothing. A file that is silent on what is asked does not pass.

    `since` and `until` are dates as far as they matter, "2024", "2024-05", "2024-05-01" or "2024-05-01T12:30", both
    included (`until="2024-05"` ends with May), or Python's own. With `file_dates` a file that does not say when it was
    taken goes by the time of its last change. `camera` is a part of its name, in any case. `path` is a pattern
    (see `diptych.media.path_patterns`) of files, or of a folder with all that is in it: `*.jpg`, `holidays/**/b*`,
    `drafts`. `under` is a folder, relative to the index's root, that the file must be in; `path` is relative to that.
    Raises FilterError.
    """

    since: str | None = None
    until: str | None = None
    place: Box | None = None
    camera: str | None = None
    path: str | None = None
    min_width: int | None = None
    min_height: int | None = None
    min_megapixels: float | None = None
    orientation: Orientation | None = None
    kind: Kind | None = None
    under: str = ""
    file_dates: bool = False

    def __post_init__(self) -> None:
        for name in ("since", "until", "camera", "path", "under"):
            object.__setattr__(self, name, _as_text(name, getattr(self, name)))
        for name in ("since", "until"):
            _check_date(name, getattr(self, name))
        _check_choice("orientation", self.orientation, Orientation)
        _check_choice("kind", self.kind, Kind)
        if self.since and self.until and self.until < self.since[: len(self.until)]:
            raise _refused("since", self.since, " is after ", Setting("until", self.until), "; nothing can be both.")
        if self.place is not None:
            _check_box(self.place)
        if self.path:
            _check_path(self.path)
        for name in ("min_width", "min_height", "min_megapixels"):
            least = getattr(self, name)
            if least is not None and not (isinstance(least, int | float) and 0 <= least < math.inf):
                raise _refused(name, least, "; wanted 0 or more.")

    def __bool__(self) -> bool:
        return self != Filters()

    def within(self, folder: str) -> Filters:
        """The same for the files in a folder, relative to the index's root; "" is the root itself."""
        return replace(self, under=f"{folder}/{self.under}" if self.under else folder) if folder else self

    def condition(self) -> tuple[str, list[Any]]:
        """SQL for a WHERE on `files`, "1" where nothing is asked, and its parameters in order."""
        parts = list(self._parts())
        sql = " AND ".join(f"({part})" for part, _ in parts) or "1"
        return sql, [value for _, values in parts for value in values]

    def _parts(self) -> Iterator[tuple[str, list[Any]]]:
        date = _ANY_DATE if self.file_dates else "files.taken_at"
        if self.since:
            yield f"{date} >= ?", [self.since]  # ISO dates sort as letters do, and a part comes before the whole
        if self.until:
            yield f"substr({date}, 1, ?) <= ?", [len(self.until), self.until]
        if self.place:
            yield _inside(self.place)
        if self.camera:
            yield "instr(lower(files.camera), lower(?)) > 0", [self.camera]
        if self.under:
            yield inside(self.under)
        if self.path:
            yield _path_condition(self.path, self.under)
        for column, least in (("width", self.min_width), ("height", self.min_height)):
            if least is not None:
                yield f"files.{column} >= ?", [least]
        if self.min_megapixels is not None:
            yield "files.width * files.height >= ?", [round(self.min_megapixels * 1e6)]
        if self.orientation:
            sign = {"landscape": ">", "portrait": "<", "square": "="}[self.orientation]
            yield f"files.width {sign} files.height", []
        if self.kind:
            yield "files.kind = ?", [self.kind]


class Dated(NamedTuple):
    """How many pictures and videos pass the filters but for their dates, and how many of these say when they were
    taken."""

    files: int
    dated: int


def count_dated(catalog: Catalog, filters: Filters) -> Dated:
    """Why `since` and `until` may find nothing."""
    condition, values = replace(filters, since=None, until=None).condition()
    sql = f"SELECT count(*), count(taken_at) FROM files WHERE reason IS NULL AND kind != 'text' AND {condition}"
    return Dated(*catalog.rows(sql, values)[0])


def _refused(name: str, value: object, *words: str | Setting) -> FilterError:
    problem: MessageParts = [Setting(name, value), *words]
    return FilterError(problem, argument=name)


def _check_date(name: str, date: str | None) -> None:
    if date is None:
        return
    try:
        if not _DATE.fullmatch(date):
            raise ArgumentError("it has another form")
        datetime.fromisoformat(date + _WHOLE_DATE[len(date) :])
    except ValueError as error:
        raise _refused(name, date, f" is no date ({error}); wanted 2024, 2024-05 or 2024-05-31.") from None


def _check_choice(name: str, value: object, choices: Any) -> None:
    if value is not None and value not in get_args(choices):
        raise _refused(name, value, f"; wanted one of {', '.join(get_args(choices))}.")


def _as_text(name: str, value: object) -> str | None:
    """A date or a path in its own class as text."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(timespec="seconds")
    if isinstance(value, date | os.PathLike):
        return value.isoformat() if isinstance(value, date) else os.fspath(value)
    if value is None or isinstance(value, str):
        return value
    raise _refused(name, value, "; wanted a string.")


def _check_path(pattern: str) -> None:
    try:
        within(pattern)
    except PatternError as error:
        raise _refused("path", None, f": {error}") from None


def _check_box(box: Box) -> None:
    if len(box) != 4 or not all(isinstance(edge, int | float) and math.isfinite(edge) for edge in box):
        raise _refused("place", tuple(box), "; wanted four numbers of degrees: south, west, north, east.")
    south, west, north, east = box
    if not -90 <= south <= north <= 90:
        words = f" has south {south:g} and north {north:g}; wanted -90 <= south <= north <= 90."
        raise _refused("place", None, words)
    if not all(-180 <= edge <= 180 for edge in (west, east)):
        words = f" has west {west:g} and east {east:g}; wanted degrees between -180 and 180."
        raise _refused("place", None, words)


def _inside(box: Box) -> tuple[str, list[Any]]:
    south, west, north, east = box
    longitudes = "files.longitude BETWEEN ? AND ?"
    if west > east:
        longitudes = "(files.longitude >= ? OR files.longitude <= ?)"
    return f"files.latitude BETWEEN ? AND ? AND {longitudes}", [south, north, west, east]


def _path_condition(pattern: str, under: str) -> tuple[str, list[Any]]:
    """`path_fits` is the catalog's own function; it is asked only of paths that begin as the pattern does, and not
    where SQL says as much by itself, four times as fast."""
    if _ENDING.fullmatch(pattern):
        return "files.path LIKE ?", [f"%{pattern[1:]}"]  # which is of any case
    sql = "path_fits(CAST(files.path AS BLOB), ?, ?)"
    values: list[Any] = [len(os.fsencode(under)) + bool(under), os.fsencode(pattern)]
    if not (start := literal_folder(pattern)):
        return sql, values
    below, edges = inside(f"{under}/{start}" if under else start)
    if pattern.removeprefix("./").lstrip("/") == f"{start}/**":
        return below, edges
    return f"{below} AND {sql}", edges + values
