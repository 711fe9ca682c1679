"""A budget for each SQLite query. A hostile table may refer to one page many times, and so have billions of rows in a
file of a few pages; the budget therefore grows with the file's size."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Steps of SQLite's virtual machine: between two checks (some milliseconds), and the most for a query. This package's
# queries take under sixty steps a row, and a row has a hundred bytes or more.
EVERY = 100_000
_LEAST, _A_BYTE = 5_000_000, 2


class BudgetedConnection(sqlite3.Connection):
    """A connection that interrupts a query when its steps exceed the budget; `is_exhausted` distinguishes this from
    others. It counts from its opening, because SQLite itself reads the schema, until the first `counted` query
    has ended, and after that only in `counted` queries. Writes are not limited.

    The checks also let Python handle signals while SQLite runs.
    """

    is_exhausted = False
    _counts, _steps = True, 0

    def bound(self, size: Callable[[], int | None]) -> None:
        """Start counting for a file of `size()` bytes."""

        def spend() -> bool:
            self._steps += EVERY if self._counts else 0
            self.is_exhausted = self._steps > _LEAST + _A_BYTE * (size() or 0)
            return self.is_exhausted

        self.set_progress_handler(spend, EVERY)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the steps of one query, within this block."""
        self._steps, self.is_exhausted, self._counts = 0, False, True
        try:
            yield
        finally:
            self._steps, self._counts = 0, False

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """As in `sqlite3.Connection`; DatabaseError if the budget is exhausted before the first row."""
        try:
            return super().execute(*arguments)
        except sqlite3.OperationalError as error:
            if self.is_exhausted:
                raise sqlite3.DatabaseError("more rows than a file of its size can have") from error
            raise
