"""The state of a folder when an update scans it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from diptych.index.catalog.facts import ScanRules

if TYPE_CHECKING:
    from diptych.failures import Failure
    from diptych.media.items import File

_PROGRAM_FOLDER = "of a program's own"  # the scan's reason


class FolderState(NamedTuple):
    """The files, the failures and the counts of skipped entries of one scan, which began at `scanned_ns`."""

    files: dict[str, File]
    failures: dict[str, Failure]
    skipped: dict[str, int]
    scanned_ns: int

    @property
    def unreadable_folders(self) -> list[str]:
        """The folders that could not be read."""
        return [path for path, failure in self.failures.items() if failure.reason == "unreadable folder"]


def scan_folder(root: Path, rules: ScanRules, subfolder: str = "", *, holds_index: bool = True) -> FolderState:
    """Scan the folder, or its `subfolder`. `holds_index` says that the index is inside it: the index does not count as
    skipped. Raises OSError where the folder does not exist."""
    from diptych.media.scanning.scan import scan

    scanned_ns = time.time_ns()
    scanned = scan(root, **rules._asdict(), under=subfolder)
    files = {file.path: file for file in scanned}
    skipped = dict(scanned.skipped)
    if holds_index and not subfolder:
        skipped[_PROGRAM_FOLDER] = skipped.get(_PROGRAM_FOLDER, 1) - 1
    skipped = {reason: count for reason, count in skipped.items() if count}
    return FolderState(files, dict(scanned.failures), skipped, scanned_ns)
