"""The result of an update of an index."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from diptych.failures import Failure

Progress = Callable[[int, int], None]  # (done, total)


class Updated(NamedTuple):
    """What an update did, in files. `failures` names all that cannot be read (path -> Failure), those that were met
    this time first; the last `failed_before` of them could not be read earlier and have not changed. `partial` names
    those of which a part could be read (path -> what is missing). `unreachable` is the number of files whose folder
    could not be looked into, which are kept. `skipped` counts by reason what was left out by choice, and
    `newly_skipped` says whether some of that was not there at the last update. `reread` counts by
    kind the files that have not changed and were read again, for this version reads them otherwise than the last.
    `refused` names what the catalog held that was no file of the folder's, and is forgotten."""

    added: int
    changed: int
    renamed: int
    forgotten: int
    unchanged: int
    failed_before: int
    unreachable: int
    failures: dict[str, Failure]
    skipped: dict[str, int]
    seconds: float
    partial: dict[str, str] = {}  # noqa: RUF012 (nobody writes to it)
    reread: dict[str, int] = {}  # noqa: RUF012
    newly_skipped: bool = False
    refused: tuple[str, ...] = ()

    @property
    def new_failures(self) -> dict[str, Failure]:
        """Those that were met this time."""
        return dict(islice(self.failures.items(), len(self.failures) - self.failed_before))

    @property
    def is_same(self) -> bool:
        """Whether nothing happened."""
        did = self.added or self.changed or self.renamed or self.forgotten or self.reread
        return not (did or self.new_failures)
