"""Tab-separated lines: each line may be quoted as in CSV or not."""

import csv
from collections.abc import Iterable, Iterator
from itertools import islice

MAX_CONTINUED = 100  # lines that a quoted cell may span, so that an open quote does not extend to the file's end
_MAX_WASTED = 1 << 27  # characters of a file that may be read without success: every line may have an open quote
_COST_PER_LINE = 100  # added for each line, whose length is the smallest part of its cost


def tab_separated(lines: Iterable[str]) -> Iterator[list[str]]:
    """The cells of each row; the first row determines the number of columns.

    Files do not declare whether they are quoted: a cell that begins with `"` may contain tabs and line ends up to the
    closing quote, or be a caption that begins with a quote. A line is read as quoted if its quotes are balanced. A
    quote spans several lines only if these make a row of full width and the first of them alone is not a complete row
    among complete rows. Everything else is read as plain text, so a stray quote affects only its own row.
    """
    lookahead = LookaheadLines(lines)
    width = 0
    for line in lookahead:
        plain = _plain(line)
        cells = (_quoted([line]) or _continued(line, lookahead, width)) if '"' in line else plain
        if cells is None or (len(plain) == width and len(cells) < width):
            cells = plain
        if cells:
            width = width or len(cells)
            yield cells


class LookaheadLines:
    """An iterator of lines that can be looked at in advance."""

    def __init__(self, lines: Iterable[str]):
        self._lines, self._seen, self._left = iter(lines), list[str](), _MAX_WASTED

    def __iter__(self) -> "LookaheadLines":
        return self

    def __next__(self) -> str:
        return self._seen.pop(0) if self._seen else next(self._lines)

    def peek(self, index: int) -> str | None:
        """The line after `index` others, or None at the end."""
        self._seen += islice(self._lines, index + 1 - len(self._seen)) if index >= len(self._seen) else ()
        return self._seen[index] if index < len(self._seen) else None

    def may_look(self) -> bool:
        """Whether the budget of unsuccessful reads is not used up."""
        return self._left > 0

    def count_wasted(self, lines: Iterable[str]) -> None:
        """Counts lines that were read in advance and made no row."""
        self._left -= sum(len(line) + _COST_PER_LINE for line in lines)

    def skip(self, count: int) -> None:
        del self._seen[:count]


def _continued(line: str, lookahead: LookaheadLines, width: int) -> list[str] | None:
    """The row of a line and the following lines that close its quote, which are consumed; None if there is none."""
    whole = len(_plain(line)) == width
    lines = [line]
    while (
        len(lines) <= MAX_CONTINUED
        and lookahead.may_look()
        and (following := lookahead.peek(len(lines) - 1)) is not None
    ):
        if whole and len(_plain(following)) == width:
            break  # two complete rows
        lines.append(following)
        if '"' not in following:
            continue
        if (cells := _quoted(lines)) and len(cells) == width:
            lookahead.skip(len(lines) - 1)
            return cells
        lookahead.count_wasted(lines)
        if cells:
            break
    lookahead.count_wasted(lines[1:])
    return None


def _quoted(lines: list[str]) -> list[str] | None:
    """The cells of lines that are one row with balanced quotes, or None."""
    try:
        rows = list(csv.reader(lines, delimiter="\t", strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _plain(line: str) -> list[str]:
    text = line.rstrip("\r\n")
    return text.split("\t") if text else []
