"""Which items may be found at all: dates, places, cameras, paths, sizes, as SQL conditions on the catalog's columns."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations_with_replacement
from typing import Any, Literal, NamedTuple, get_args

from diptych.index.items import Kind

Orientation = Literal["landscape", "portrait", "square"]
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d)?)?)?)?)?")
_WHOLE_DATE = "2000-01-01T00:00:00"  # what a date is filled up from
_DEPTH = 20  # how many folders ** stands for at most


class FilterError(ValueError):
    """A filter that no item could ever pass, or that is not understood."""


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
    included: `until="2024-05"` ends with May. `camera` is a part of its name, in any case. `path` is a pattern: `*` is
    anything within one folder, `**` any folders, `?` one letter, `[ab]` one of these; without a slash it is a file's
    name in any folder. Raises FilterError.
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

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            _check_date(name, getattr(self, name))
        _check_choice("orientation", self.orientation, Orientation)
        _check_choice("kind", self.kind, Kind)
        if self.since and self.until and self.until < self.since[: len(self.until)]:
            raise FilterError(f"since={self.since!r} is after until={self.until!r}; nothing can be both.")
        if self.place is not None:
            _check_box(self.place)
        for name in ("min_width", "min_height", "min_megapixels"):
            least = getattr(self, name)
            if least is not None and not 0 <= least < math.inf:
                raise FilterError(f"{name}={least}; wanted 0 or more.")

    def __bool__(self) -> bool:
        return self != Filters()

    def condition(self) -> tuple[str, list[Any]]:
        """SQL for a WHERE on `files`, "1" where nothing is asked, and its parameters in order."""
        parts = list(self._parts())
        sql = " AND ".join(f"({part})" for part, _ in parts) or "1"
        return sql, [value for _, values in parts for value in values]

    def _parts(self) -> Iterator[tuple[str, list[Any]]]:
        if self.since:
            yield "files.taken_at >= ?", [self.since]  # ISO dates sort as letters do, and a part comes before the whole
        if self.until:
            yield "substr(files.taken_at, 1, ?) <= ?", [len(self.until), self.until]
        if self.place:
            yield _inside(self.place)
        if self.camera:
            yield "instr(lower(files.camera), lower(?)) > 0", [self.camera]
        if self.path:
            yield _path_condition(self.path)
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


def _check_date(name: str, date: str | None) -> None:
    if date is None:
        return
    try:
        if not _DATE.fullmatch(date):
            raise ValueError("it has another form")
        datetime.fromisoformat(date + _WHOLE_DATE[len(date) :])
    except ValueError as error:
        raise FilterError(f"{name}={date!r} is no date ({error}); wanted 2024, 2024-05 or 2024-05-31.") from None


def _check_choice(name: str, value: object, choices: Any) -> None:
    if value is not None and value not in get_args(choices):
        raise FilterError(f"{name}={value!r}; wanted one of {', '.join(get_args(choices))}.")


def _check_box(box: Box) -> None:
    if len(box) != 4 or not all(isinstance(edge, int | float) and math.isfinite(edge) for edge in box):
        raise FilterError(f"place={tuple(box)}; wanted four numbers of degrees: south, west, north, east.")
    south, west, north, east = box
    if not -90 <= south <= north <= 90:
        raise FilterError(f"place has south {south:g} and north {north:g}; wanted -90 <= south <= north <= 90.")
    if not all(-180 <= edge <= 180 for edge in (west, east)):
        raise FilterError(f"place has west {west:g} and east {east:g}; wanted degrees between -180 and 180.")


def _inside(box: Box) -> tuple[str, list[Any]]:
    south, west, north, east = box
    longitudes = "files.longitude BETWEEN ? AND ?"
    if west > east:
        longitudes = "(files.longitude >= ? OR files.longitude <= ?)"
    return f"files.latitude BETWEEN ? AND ? AND {longitudes}", [south, north, west, east]


def _path_condition(pattern: str) -> tuple[str, list[Any]]:
    """SQLite's GLOB lets `*` run over slashes. A path with exactly the pattern's number of slashes has spent them all
    on the pattern's own, so none is left for a `*`; and `**` is written out as 0, 1, 2, ... folders."""
    globs = list(_globs(pattern))
    one = "(files.path GLOB CAST(? AS TEXT) AND length(files.path) - length(replace(files.path, '/', '')) = ?)"
    values = [value for glob in globs for value in (os.fsencode(glob), glob.count("/"))]
    return " OR ".join([one] * len(globs)), values


def _globs(pattern: str) -> Iterator[str]:
    pattern = pattern.removeprefix("./").replace("[!", "[^")
    if "/" not in pattern and "**" not in pattern:
        pattern = f"**/{pattern}"
    if pattern.endswith("/"):
        pattern += "**"
    if pattern.endswith("**"):
        pattern += "/*"  # the files in those folders
    parts = re.split(r"(?<![^/])\*\*/", pattern)
    if "**" in "".join(parts) or len(parts) > 3:
        raise FilterError(f"path={pattern!r}; wanted ** at most twice, and between slashes: holidays/**/*.jpg.")
    for ends in combinations_with_replacement(range(_DEPTH + 1), len(parts) - 1):
        depths = [end - start for start, end in zip((0, *ends), ends, strict=False)]
        yield parts[0] + "".join("*/" * depth + part for depth, part in zip(depths, parts[1:], strict=True))
