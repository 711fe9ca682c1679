"""The result of an update of an index."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from diptych.deprecation import RenamedAttribute

if TYPE_CHECKING:
    from diptych.failures import Failure

Progress = Callable[[int, int], None]  # (done, total)


class UpdateResult(NamedTuple):
    """The numbers of files that an update added, changed, and so on.

    `failures` names all files that cannot be read (path -> Failure): first those that failed for the first time, then
    the `failed_before` ones that failed at an earlier update, too, and have not changed. `partial` names files that
    were read in part (path -> what is missing). `unreachable` files are kept: their folder could not be read. `skipped`
    counts by reason what the rules leave out, and `newly_skipped` says whether that is more than at the last update.
    `reread` counts by kind the unchanged files that were read again because this version reads them differently.
    `refused` names catalog entries that were not valid files of the folder and were removed.
    """

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

    is_same = RenamedAttribute("is_same", "is_unchanged")

    @property
    def new_failures(self) -> dict[str, Failure]:
        """The files that failed in this update for the first time, or have changed since."""
        return dict(islice(self.failures.items(), len(self.failures) - self.failed_before))

    @property
    def is_unchanged(self) -> bool:
        """Whether the update changed nothing."""
        did = self.added or self.changed or self.renamed or self.forgotten or self.reread
        return not (did or self.new_failures)
