"""What an update finds in the folder: files, those that cannot be read, and what is left out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from diptych.index.catalog.facts import Rules

if TYPE_CHECKING:
    from diptych.failures import Failure
    from diptych.media.items import File

_OWN = "of a program's own"  # the scan's reason


class Found(NamedTuple):
    """What is in the folder now, by path; `now_ns` is when the search for it began."""

    files: dict[str, File]
    failures: dict[str, Failure]
    skipped: dict[str, int]
    now_ns: int

    @property
    def closed(self) -> list[str]:
        """The folders that could not be looked into."""
        return [path for path, failure in self.failures.items() if failure.reason == "unreadable folder"]


def find(root: Path, rules: Rules, under: str = "", *, holds_index: bool = True) -> Found:
    """Scan the folder, or the part `under` it. `holds_index` says that the index lies in it, which a scan leaves out
    and counts. Raises OSError where the folder is gone."""
    from diptych.media.scan import scan

    now_ns = time.time_ns()
    scanned = scan(root, **rules._asdict(), under=under)
    files = {file.path: file for file in scanned}
    skipped = dict(scanned.skipped)
    if holds_index and not under:
        skipped[_OWN] = skipped.get(_OWN, 1) - 1
    return Found(files, dict(scanned.failures), {reason: count for reason, count in skipped.items() if count}, now_ns)
