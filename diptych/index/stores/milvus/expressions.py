"""Filters as expressions of Milvus: what passes, or more than passes where Milvus cannot say it. The rest is decided by
`diptych.index.filters.row_filter`, from the fields of the rows.

An expression is a template with the names of its values in braces. Servers from 2.5 on take template and values apart;
for Milvus Lite and older servers the values are written into it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from diptych.index.filters.filters import Filters
from diptych.index.filters.geography import bounding_box
from diptych.index.stores.milvus.schema import MAX_ENDING, NO_DEGREES, NO_TIME, folded
from diptych.media.scanning.path_patterns import literal_folder

Value = int | float | str | list[int] | list[str]
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_ENDING = re.compile(r"\*\.[a-z0-9]+", re.I | re.A)
_WORDS = re.compile(r"[a-z0-9]+")
_DATE_LENGTH = len("2000-01-01")
_MOST = (1 << 62) - 1  # Milvus's integers have 64 bits; larger than this is nothing
_SLACK = timedelta(days=2)  # more than any zone's distance from any other


class Expression(NamedTuple):
    """A condition: its `template`, the `values` that it names, and whether it `is_exact`; if not, it lets more pass
    than it should."""

    template: str = ""
    values: dict[str, Value] = {}  # noqa: RUF012 a tuple's default; it is never changed
    is_exact: bool = True

    def arguments(self, has_templates: bool) -> dict[str, Any]:
        """The arguments of a query or search of pymilvus."""
        if has_templates and self.values:
            return {"filter": self.template, "filter_params": self.values}
        return {"filter": self.text}

    @property
    def text(self) -> str:
        """With the values written into it."""
        return re.sub(r"\{(\w+)\}", lambda found: literal(self.values[found[1]]), self.template)

    def __and__(self, other: Expression) -> Expression:
        """Both; their values must have different names."""
        templates = [one.template for one in (self, other) if one.template]
        template = " and ".join(f"({one})" for one in templates) if len(templates) > 1 else "".join(templates)
        return Expression(template, self.values | other.values, self.is_exact and other.is_exact)


def literal(value: Value) -> str:
    """A value as an expression of Milvus has it. Every character that could end a text or begin an escape is escaped,
    in the forms that Milvus Lite and servers have in common."""
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, str):
        return f'"{value.encode("utf-8", "replace").decode().translate(_ESCAPES)}"'
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} cannot be part of an expression; wanted a text or a finite number")
    return repr(value)


def ids_in(ids: list[int], name: str = "ids") -> Expression:
    """These items."""
    return Expression(f"id in {{{name}}}", {name: [int(id) for id in ids]})


def expression_of(filters: Filters, *, updated_at: str | None = None, has_infix: bool = False) -> Expression:
    """Filters as an expression. `updated_at` is the fact of that name; `has_infix` is whether this Milvus finds a text
    inside another."""
    found = Expression()
    for part in _parts(filters, updated_at, has_infix):
        found &= part
    return found


def _parts(filters: Filters, updated_at: str | None, has_infix: bool) -> Iterator[Expression]:
    if filters.since or filters.until:
        yield _dates(filters, updated_at) if filters.file_dates else _dates_of_pictures(filters)
    if filters.box:
        yield _box(filters.box, "box", is_exact=True)
    if filters.near:
        yield _box(bounding_box(filters.near), "near", is_exact=False)
    if filters.camera:
        yield _camera(filters.camera, has_infix)
    if filters.subfolder:
        yield _inside(filters.subfolder, "subfolder")
    if filters.path:
        yield _path(filters.path, filters.subfolder)
    for field, least in (("width", filters.min_width), ("height", filters.min_height)):
        if least is not None:
            yield Expression(f"{field} >= {{{field}}}", {field: min(math.ceil(least), _MOST)})
    if filters.min_megapixels is not None:
        yield Expression("pixels >= {pixels}", {"pixels": round(min(filters.min_megapixels * 1e6, _MOST))})
    if filters.orientation:
        yield Expression("shape == {shape}", {"shape": filters.orientation})
    if filters.kind:
        yield Expression("kind == {kind}", {"kind": filters.kind})


def _dates_of_pictures(filters: Filters) -> Expression:
    found = Expression("taken_at > {no_date}", {"no_date": ""})
    if filters.since:
        found &= Expression("taken_at >= {since}", {"since": filters.since})
    if filters.until:
        found &= Expression("taken_at < {until}", {"until": _after(filters.until)})
    return found


def _after(date: str) -> str:
    """The first text after all that begin with a date or come before it."""
    return date[:-1] + chr(ord(date[-1]) + 1)


def _dates(filters: Filters, updated_at: str | None) -> Expression:
    """With the dates of files, to within two days, since the zone of this computer decides."""
    own = _dates_of_pictures(filters)
    values = dict(own.values)
    ranges = ["taken_at == {no_date}", "mtime_ns != {no_time}"]
    values["no_time"] = NO_TIME
    if filters.since and (earliest := _nanoseconds(filters.since, -_SLACK)) is not None:
        ranges.append("mtime_ns >= {earliest}")
        values["earliest"] = earliest
    if filters.until and (latest := _nanoseconds(filters.until, timedelta(days=367) + _SLACK)) is not None:
        ranges.append("mtime_ns <= {latest}")
        values["latest"] = latest
    template = f"({own.template}) or ({' and '.join(ranges)})"
    if updated_at is not None:
        template += " or (taken_at == {no_date} and mtime_ns == {no_time})"
    return Expression(template, values, is_exact=False)


def _nanoseconds(date: str, more: timedelta) -> int | None:
    """A date of any precision as the time of a file; None where Python cannot tell."""
    try:
        whole = datetime.fromisoformat(date[:_DATE_LENGTH] + "2000-01-01"[len(date) :])
        found = int((whole + more - datetime(1970, 1, 1)).total_seconds()) * 10**9
        return max(-_MOST, min(found, _MOST))
    except (OverflowError, ValueError):
        return None


def _box(box: tuple[float, float, float, float], name: str, *, is_exact: bool) -> Expression:
    south, west, north, east = map(float, box)
    edges: dict[str, Value] = {
        f"{name}_{edge}": value for edge, value in zip("swne", (south, west, north, east), strict=True)
    }
    latitudes = f"latitude >= {{{name}_s}} and latitude <= {{{name}_n}}"
    longitudes = f"longitude >= {{{name}_w}} and longitude <= {{{name}_e}}"
    if west > east:
        edges[f"{name}_none"] = NO_DEGREES / 10
        longitudes = f"longitude < {{{name}_none}} and (longitude >= {{{name}_w}} or longitude <= {{{name}_e}})"
    return Expression(f"{latitudes} and {longitudes}", edges, is_exact)


def _camera(camera: str, has_infix: bool) -> Expression:
    """Names with a value; where Milvus can, those with the same words in the same order."""
    if not has_infix or not (words := _WORDS.findall(folded(camera))):
        return Expression("camera > {camera}", {"camera": ""}, is_exact=False)
    return Expression("camera like {camera}", {"camera": f"%{'%'.join(words)}%"}, is_exact=False)


def _inside(folder: str, name: str) -> Expression:
    """The files in a folder. Of bytes that are not UTF-8, Milvus holds others, so the folders above decide."""
    try:
        folder.encode()
        is_exact = True
    except UnicodeEncodeError as error:
        folder, is_exact = folder[: error.start].rpartition("/")[0], False
    if not folder:
        return Expression(is_exact=is_exact)
    values: dict[str, Value] = {f"{name}_from": f"{folder}/", f"{name}_to": f"{folder}0"}  # "0" follows "/"
    return Expression(f"path >= {{{name}_from}} and path < {{{name}_to}}", values, is_exact)


def _path(pattern: str, subfolder: str) -> Expression:
    if _ENDING.fullmatch(pattern) and len(pattern) <= MAX_ENDING:
        return Expression("ending == {ending}", {"ending": folded(pattern[1:])})
    start = literal_folder(pattern)
    if not start:
        return Expression(is_exact=False)
    below = _inside(f"{subfolder}/{start}" if subfolder else start, "folder")
    is_whole = pattern.removeprefix("./").lstrip("/") == f"{start}/**"
    return below._replace(is_exact=below.is_exact and is_whole)
