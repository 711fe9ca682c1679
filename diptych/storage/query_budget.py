"""How long SQLite may be at one question. A stranger's table may name one page again and again, and so have billions of
rows in a file of some pages; what it costs to read is bounded by the size of the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Steps of SQLite's machine: how often it is asked, some milliseconds apart, and what a question may take. Those of ours
# take under sixty a row, and a row has a hundred bytes or more.
EVERY = 100_000
_LEAST, _A_BYTE = 5_000_000, 2


class BudgetedConnection(sqlite3.Connection):
    """A connection that gives up a question at which it has been longer than the file can be worth: it fails as
    interrupted then, and `is_exhausted` says that nobody interrupted it. It counts from its opening, for SQLite reads
    the schema by itself, until the first `counted` question has ended, and from then on in such alone: to write may
    take as long as it takes.

    While SQLite runs it comes back to Python so often, which hears no signal else.
    """

    is_exhausted = False
    _counts, _steps = True, 0

    def bound(self, size: Callable[[], int | None]) -> None:
        """Begin to count, for a file of that many bytes."""

        def spend() -> bool:
            self._steps += EVERY if self._counts else 0
            self.is_exhausted = self._steps > _LEAST + _A_BYTE * (size() or 0)
            return self.is_exhausted

        self.set_progress_handler(spend, EVERY)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """One question, within this block."""
        self._steps, self.is_exhausted, self._counts = 0, False, True
        try:
            yield
        finally:
            self._steps, self._counts = 0, False

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """As any connection's; DatabaseError where the question is given up before its first row."""
        try:
            return super().execute(*arguments)
        except sqlite3.OperationalError as error:
            if self.is_exhausted:
                raise sqlite3.DatabaseError("more rows than a file of its size can have") from error
            raise
