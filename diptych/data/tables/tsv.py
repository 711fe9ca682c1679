"""Tab-separated lines: quoted as in CSV, or not quoted at all, line by line."""

import csv
from collections.abc import Iterable, Iterator
from itertools import islice

CONTINUED = 100  # lines that a quoted cell may go on over: without an end a quote would be looked up to the file's end
_IN_VAIN = 1 << 27  # characters of a file that may be looked at in vain: each of its lines may have an open quote
_PER_LINE = 100  # of them for a line, whose length is the least of its costs


def tab_separated(lines: Iterable[str]) -> Iterator[list[str]]:
    """The cells of each row; the first row says how many there are.

    Nobody marks whether a file is quoted: a cell that begins with `"` may hold tabs and line ends up to the closing
    quote, or be a plain caption that begins so. A line is read as quoted where its quotes are sound. A quote may stay
    open over several lines only where these together make a row of full width and the first alone does not stand
    among whole rows. All else is plain, so that a stray quote costs no row beside its own.
    """
    coming = Ahead(lines)
    width = 0
    for line in coming:
        plain = _plain(line)
        cells = (_quoted([line]) or _continued(line, coming, width)) if '"' in line else plain
        if cells is None or (len(plain) == width and len(cells) < width):
            cells = plain
        if cells:
            width = width or len(cells)
            yield cells


class Ahead:
    """Lines, some of which can be looked at before they are taken."""

    def __init__(self, lines: Iterable[str]):
        self._lines, self._seen, self._left = iter(lines), list[str](), _IN_VAIN

    def __iter__(self) -> "Ahead":
        return self

    def __next__(self) -> str:
        return self._seen.pop(0) if self._seen else next(self._lines)

    def peek(self, index: int) -> str | None:
        """The line that comes after `index` others."""
        self._seen += islice(self._lines, index + 1 - len(self._seen)) if index >= len(self._seen) else ()
        return self._seen[index] if index < len(self._seen) else None

    def may_look(self) -> bool:
        """Whether more may be looked at."""
        return self._left > 0

    def in_vain(self, lines: Iterable[str]) -> None:
        """These were looked at and made no row."""
        self._left -= sum(len(line) + _PER_LINE for line in lines)

    def skip(self, count: int) -> None:
        del self._seen[:count]


def _continued(line: str, coming: Ahead, width: int) -> list[str] | None:
    """The row of a line and of those after it that close its quote, which are taken. None where it has no such end."""
    whole = len(_plain(line)) == width
    lines = [line]
    while len(lines) <= CONTINUED and coming.may_look() and (following := coming.peek(len(lines) - 1)) is not None:
        if whole and len(_plain(following)) == width:
            break  # two whole rows
        lines.append(following)
        if '"' not in following:
            continue
        if (cells := _quoted(lines)) and len(cells) == width:
            coming.skip(len(lines) - 1)
            return cells
        coming.in_vain(lines)
        if cells:
            break
    coming.in_vain(lines[1:])
    return None


def _quoted(lines: list[str]) -> list[str] | None:
    """The cells of lines that are one row with sound quotes."""
    try:
        rows = list(csv.reader(lines, delimiter="\t", strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _plain(line: str) -> list[str]:
    text = line.rstrip("\r\n")
    return text.split("\t") if text else []
