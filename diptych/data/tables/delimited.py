"""Delimited text tables: cells separated by commas, tabs, semicolons or bars, with or without a header."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from diptych.data.column_names import is_caption
from diptych.data.samples import count
from diptych.data.tables.columns import names_a_picture, names_an_address, require_few, usual_columns
from diptych.data.tables.tsv import MAX_CONTINUED, LookaheadLines, tab_separated
from diptych.errors import DataError
from diptych.text.encoding import MAX_LINE, BadLines, Lines, open_text

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_HEAD = 20  # lines by which the dialect is recognised
_NUMBERED = re.compile(r"#\d+$")  # Flickr8k's `name.jpg#0`

Note = Callable[[str, int], None]


class Dialect(TypedDict):
    """Parameters of the csv module. Spaces after separators are skipped if the header has them: a quote may follow."""

    delimiter: str
    skipinitialspace: bool


class DelimitedTable(NamedTuple):
    """A delimited table: the columns' names ("1", "2", ... without a header), its rows, its separator, and its encoding
    in words."""

    names: list[str]
    rows: Iterator[dict[str, Any]]
    separator: str
    encoding: str


def open_delimited(path: Path, usual: str, requested: Sequence[str], skipped: dict[str, int]) -> DelimitedTable:
    """A file of separated cells; `usual` is the separator that its name implies, `requested` are columns that it should
    have. Rows that cannot be read are counted in `skipped` with the line of the first, after all rows are read.

    Cells are quoted as in RFC 4180. A line whose quote is never closed, or closed in another row, is left out alone.
    Raises DataError for a file without rows.
    """
    csv.field_size_limit(MAX_LINE)  # captions may be long
    file, encoding = open_text(path)
    first = next((line for line in file if line.strip()), None)
    if first is None:
        file.close()
        problem = f"has no line under {MAX_LINE:,} characters" if file.too_long else "is empty"
        raise DataError(f"{path} {problem}; wanted a header and a row for each caption.")
    head = [first, *islice(file, _HEAD)]
    require_few(1 + max(map(first.count, SEPARATORS)), str(path))
    separator = _separator(head[0], usual, requested)
    cells = _cells(head[0], separator)
    is_headerless = not set(requested) & set(cells) and not usual_columns(cells) and any(map(_is_data, cells))
    names = [str(number) for number in range(1, len(cells) + 1)] if is_headerless else cells
    lines = chain(head if is_headerless else head[1:], file)
    dialect = Dialect(delimiter=separator, skipinitialspace=separator == "," and ", " in head[0])
    rows = _records(lines, names, dialect, skipped, file, 1 if is_headerless else 2)
    return DelimitedTable(names, rows if not is_headerless else _without_caption_numbers(rows), separator, encoding)


def _separator(header: str, usual: str, requested: Sequence[str]) -> str:
    """The separator that gives the requested columns, else columns with usual names, else the most columns."""

    def fits(separator: str) -> tuple[int, bool, int, bool]:
        cells = _cells(header, separator)
        known = usual_columns(cells) or (len(cells) > 1 and any(map(_is_data, cells)))
        return len(set(requested) & set(cells)), known, len(cells), separator == usual

    return max(SEPARATORS, key=fits)


def _is_data(cell: str) -> bool:
    """Whether a cell cannot be a column's name."""
    return names_a_picture(cell) or names_an_address(cell)


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:
        return [cell.strip() for cell in line.split(separator)]


def _records(
    lines: Iterable[str], names: list[str], dialect: Dialect, skipped: dict[str, int], file: Lines, number: int
) -> Iterator[dict[str, Any]]:
    bad = BadLines()
    unit = "row" if dialect["delimiter"] == "\t" else "line"  # a quoted cell of a TSV may span several lines
    with file:
        if dialect["delimiter"] == "\t":
            whole = tab_separated(chain(["\t".join(names)], lines))
            rows: Iterable[tuple[int, list[str]]] = islice(enumerate(whole), 1, None)
        else:
            rows = strict_rows(lines, dialect, number, bad.note)
        for line, cells in rows:
            if dialect["delimiter"] == "," and len(cells) > len(names) > 1 and is_caption(names[-1]):
                cells = [*cells[: len(names) - 1], ",".join(cells[len(names) - 1 :])]  # unquoted commas of the caption
            if len(cells) > len(names):
                bad.note("more cells than columns", line)
            elif any(cells):
                yield dict(zip_longest(names, cells))
    file.tell_of(bad)
    for reason, many in bad.counts(unit):
        count(skipped, reason, many)


def strict_rows(lines: Iterable[str], dialect: Dialect, number: int, note: Note) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells) of each row; the first line has `number`. Lines whose quotes form no row, alone
    or with the following lines, are noted."""
    lookahead = LookaheadLines(lines)
    for line in lookahead:
        cells, consumed = _row(line, lookahead, dialect)
        if cells is None or _spans_rows(consumed, dialect["delimiter"]):
            note("a quote that is not closed", number)
            lookahead.count_wasted(consumed[1:])
            consumed = [line]
        elif cells:
            yield number, cells
        lookahead.skip(len(consumed) - 1)
        number += len(consumed)


def _row(line: str, lookahead: LookaheadLines, dialect: Dialect) -> tuple[list[str] | None, list[str]]:
    """The cells of the row that begins with a line, and its lines. The cells are None if a quote is misplaced or still
    open after the largest number of lines."""
    consumed: list[str] = []

    def following() -> Iterator[str]:
        consumed.append(line)
        yield line
        while (
            len(consumed) <= MAX_CONTINUED
            and lookahead.may_look()
            and (more := lookahead.peek(len(consumed) - 1)) is not None
        ):
            consumed.append(more)
            yield more

    try:
        return next(csv.reader(following(), strict=True, **dialect), []), consumed
    except csv.Error:
        return None, consumed


def _spans_rows(lines: Sequence[str], separator: str) -> bool:
    """Whether a cell over several lines has swallowed another row: one that names pictures in the same columns."""
    first, *others = (line.split(separator) for line in lines)
    picture_columns = [at for at, cell in enumerate(first) if names_a_picture(cell)]
    return any(
        len(row) > max(picture_columns) and all(names_a_picture(row[at]) for at in picture_columns)
        for row in others
        if picture_columns
    )


def _without_caption_numbers(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Removes the caption number after a picture's name, as in Flickr8k's headerless `.token.txt`."""
    for row in rows:
        yield {
            name: _NUMBERED.sub("", cell) if at == 0 and cell else cell for at, (name, cell) in enumerate(row.items())
        }
