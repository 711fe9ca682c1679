"""Tables in plain text: cells between commas, tabs, semicolons or bars, with a header or without."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from diptych.data.samples import count
from diptych.data.tables.columns import is_caption, names_a_picture, require_few, usual_columns
from diptych.data.tables.tsv import CONTINUED, Ahead, tab_separated
from diptych.errors import DataError
from diptych.text.encoding import MAX_LINE, BadLines, Lines, open_text

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_HEAD = 20  # lines that are looked at to see what a file is
_NUMBERED = re.compile(r"#\d+$")  # Flickr8k's `name.jpg#0`

Note = Callable[[str, int], None]


class Form(TypedDict):
    """How cells are parted, as the csv module names it. Spaces behind separators are no part of a cell where the header
    has them, too: a quote may follow them."""

    delimiter: str
    skipinitialspace: bool


class Separated(NamedTuple):
    """A table in plain text: the columns' names ("1", "2", ... where there is no header), its rows, what its cells are
    separated by, and its encoding in words."""

    names: list[str]
    rows: Iterator[dict[str, Any]]
    separator: str
    encoding: str


def open_separated(path: Path, usual: str, asked: Sequence[str], skipped: dict[str, int]) -> Separated:
    """A file of separated cells; `usual` is the separator that its name promises, `asked` are columns that it should
    have. Rows that cannot be read are counted in `skipped` with the line of the first, once all rows are taken.

    Cells are quoted as in RFC 4180. Where a quote is never closed, or closed within another row, that line alone is
    left out. DataError where the file holds no row.
    """
    csv.field_size_limit(MAX_LINE)  # captions may be long
    file, encoding = open_text(path)
    first = next((line for line in file if line.strip()), None)
    if first is None:
        file.close()
        what = f"has no line under {MAX_LINE:,} characters" if file.too_long else "is empty"
        raise DataError(f"{path} {what}; wanted a header and a row for each caption.")
    head = [first, *islice(file, _HEAD)]
    require_few(1 + max(map(first.count, SEPARATORS)), str(path))
    separator = _separator(head[0], usual, asked)
    cells = _cells(head[0], separator)
    bare = not set(asked) & set(cells) and not usual_columns(cells) and any(map(names_a_picture, cells))
    names = [str(number) for number in range(1, len(cells) + 1)] if bare else cells
    lines = chain(head if bare else head[1:], file)
    form = Form(delimiter=separator, skipinitialspace=separator == "," and ", " in head[0])
    rows = _records(lines, names, form, skipped, file, 1 if bare else 2)
    return Separated(names, rows if not bare else _without_numbers(rows), separator, encoding)


def _separator(header: str, usual: str, asked: Sequence[str]) -> str:
    """That which makes columns of the header that are asked for, or have usual names, or are most."""

    def fits(separator: str) -> tuple[int, bool, int, bool]:
        cells = _cells(header, separator)
        known = usual_columns(cells) or (len(cells) > 1 and any(map(names_a_picture, cells)))
        return len(set(asked) & set(cells)), known, len(cells), separator == usual

    return max(SEPARATORS, key=fits)


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:
        return [cell.strip() for cell in line.split(separator)]


def _records(
    lines: Iterable[str], names: list[str], form: Form, skipped: dict[str, int], file: Lines, number: int
) -> Iterator[dict[str, Any]]:
    bad = BadLines()
    unit = "row" if form["delimiter"] == "\t" else "line"  # of which a quoted cell may have several
    with file:
        if form["delimiter"] == "\t":
            whole = tab_separated(chain(["\t".join(names)], lines))
            rows: Iterable[tuple[int, list[str]]] = islice(enumerate(whole), 1, None)
        else:
            rows = strict_rows(lines, form, number, bad.note)
        for line, cells in rows:
            if form["delimiter"] == "," and len(cells) > len(names) > 1 and is_caption(names[-1]):
                cells = [*cells[: len(names) - 1], ",".join(cells[len(names) - 1 :])]  # a caption's own, unquoted
            if len(cells) > len(names):
                bad.note("more cells than columns", line)
            elif any(cells):
                yield dict(zip_longest(names, cells))
    file.tell_of(bad)
    for reason, many in bad.counts(unit):
        count(skipped, reason, many)


def strict_rows(lines: Iterable[str], form: Form, number: int, note: Note) -> Iterator[tuple[int, list[str]]]:
    """The rows of lines, the first of which has this number, each with the number of its first line. A line whose
    quotes make no row, alone or with those after it, is noted."""
    coming = Ahead(lines)
    for line in coming:
        cells, taken = _row(line, coming, form)
        if cells is None or _swallowed(taken, form["delimiter"]):
            note("a quote that is not closed", number)
            coming.in_vain(taken[1:])
            taken = [line]
        elif cells:
            yield number, cells
        coming.skip(len(taken) - 1)
        number += len(taken)


def _row(line: str, coming: Ahead, form: Form) -> tuple[list[str] | None, list[str]]:
    """The cells of the row that begins with a line, and its lines; no cells where a quote is open at the end of as many
    as may be looked at, or stands where none may."""
    taken: list[str] = []

    def following() -> Iterator[str]:
        taken.append(line)
        yield line
        while len(taken) <= CONTINUED and coming.may_look() and (more := coming.peek(len(taken) - 1)) is not None:
            taken.append(more)
            yield more

    try:
        return next(csv.reader(following(), strict=True, **form), []), taken
    except csv.Error:
        return None, taken


def _swallowed(lines: Sequence[str], separator: str) -> bool:
    """Whether a cell that goes on over lines has taken another row in: one of these names a picture where the first
    does."""
    first, *others = (line.split(separator) for line in lines)
    places = [at for at, cell in enumerate(first) if names_a_picture(cell)]
    return any(len(row) > max(places) and all(names_a_picture(row[at]) for at in places) for row in others if places)


def _without_numbers(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows without a header, as Flickr8k's `.token.txt`, may count a picture's captions behind its name."""
    for row in rows:
        yield {
            name: _NUMBERED.sub("", cell) if at == 0 and cell else cell for at, (name, cell) in enumerate(row.items())
        }
