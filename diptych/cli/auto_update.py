"""Updates an index before a search: makes a missing one, and scans the folder for changes if it is small."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from diptych.cli.options import print_status, report_refused, report_reread, report_skipped, stages
from diptych.cli.terminal import ask
from diptych.cli.wording import message_of
from diptych.display.counting import counted
from diptych.errors import IndexBusyError, IndexDirectoryError, IndexNotWritableError

if TYPE_CHECKING:
    from diptych.failures import Failure
    from diptych.index.local import LocalIndex

MAX_SCANNED = 10_000  # files; a larger folder is scanned before a search only on request
MAX_UNASKED = 1_000  # files; indexing more than these for the first time needs the user's consent
_COUNT_LIMIT_S = 3.0  # how long files are counted for that question


class FailureReport(NamedTuple):
    """The files of an index that cannot be read, by their path below the folder as the user typed it. The last
    `known_count` of them were known before this update."""

    failures: Mapping[str, Failure]
    known_count: int

    @classmethod
    def merged(cls, reports: Iterable[FailureReport]) -> FailureReport:
        """The report of several folders: new failures first."""
        new: dict[str, Failure] = {}
        known: dict[str, Failure] = {}
        for failures, known_count in reports:
            new_count = len(failures) - known_count
            new |= dict(islice(failures.items(), new_count))
            known |= dict(islice(failures.items(), new_count, None))
        known = {path: failure for path, failure in known.items() if path not in new}
        return cls(new | known, len(known))


def typed(index: LocalIndex, folder: str, path: str) -> Path:
    """A file of the index, given by its path there, as a path below `folder`, which is what the user typed."""
    return Path(folder) / path[len(index.subfolder) + bool(index.subfolder) :]


def update_if_needed(index: LocalIndex, folder: str, update: bool | None) -> FailureReport:
    """Make a missing index, and update it if the folder is small or `update` is True. An update that the user did not
    request neither waits nor fails: if another process updates, or nothing can be written, the search uses the index
    as it is. Raises ClickException if the user declines to index a large folder."""
    from diptych.index.update.outdated import count_older

    is_needed = update is True or not index.exists
    if index.exists:
        files = index.counts().files
        if update is False:
            return _known_failures(index, folder)
        if update is None and files > MAX_SCANNED:
            print_status(f"index of {counted(files, 'file')}, last updated {_age(index)}; --update looks for new ones")
            if older := count_older(index.catalog, index.subfolder):
                print_status(
                    f"{older:,} were read by an earlier version; --update rereads those that this version reads better"
                )
            return _known_failures(index, folder)
    elif update is False:
        raise IndexDirectoryError(f"{index.index_dir} holds no index yet; leave out --no-update to make it.")
    elif update is None:
        _ask_first(index, folder)
    try:
        with stages("indexing", "building the search structure") as (advance, on_build):
            wait_s = None if is_needed else 0.0
            updated = index.update(progress=advance, wait_s=wait_s, on_wait=print_status, on_build=on_build)
    except (IndexBusyError, IndexNotWritableError) as error:
        if is_needed:
            raise
        print_status(f"searching the index as it is: {message_of(error)}")
        return _known_failures(index, folder)
    report_refused(updated.refused)
    report_reread(updated.reread)
    if updated.newly_skipped:
        report_skipped(updated.skipped)
    return FailureReport(_as_typed(index, folder, updated.failures), updated.failed_before)


def _ask_first(index: LocalIndex, folder: str) -> None:
    """Ask before a large folder is indexed for the first time, such as the user's home. A script is not asked."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        return
    count, is_all = _counted(index)
    if count <= MAX_UNASKED:
        return
    number = f"{count:,}" if is_all else f"more than {count:,}"
    print_status(f"{index.folder} is not indexed yet. It contains {number} pictures, videos and texts.")
    if ask("Index all of them now? [y/N]") not in ("y", "yes"):
        raise click.ClickException(
            f"nothing was indexed. Name a smaller folder than {folder}, or exclude files: diptych index {folder} "
            "--exclude GLOB"
        )


def _counted(index: LocalIndex) -> tuple[int, bool]:
    """The number of files to index, and whether the time sufficed to count all of them."""
    from diptych.media.scanning.scan import scan

    end, count = time.monotonic() + _COUNT_LIMIT_S, 0
    for count, _ in enumerate(scan(index.root, **index.rules._asdict()), start=1):
        if count > MAX_UNASKED and time.monotonic() > end:
            return count, False
    return count, True


def _known_failures(index: LocalIndex, folder: str) -> FailureReport:
    from diptych.failures import Failure

    known = _as_typed(index, folder, {path: Failure(*failure) for path, failure in index.failures().items()})
    return FailureReport(known, len(known))


def _as_typed(index: LocalIndex, folder: str, failures: Mapping[str, Failure]) -> dict[str, Failure]:
    """Failures by the path as the user typed it, in the message too: with several folders the path in the index is
    ambiguous."""
    result = {}
    for path, failure in failures.items():
        typed_path = str(typed(index, folder, path))
        if failure.message.startswith(f"{path}: ") and not failure.message_parts:
            failure = failure._replace(message=typed_path + failure.message[len(path) :])
        result[typed_path] = failure
    return result


def _age(index: LocalIndex) -> str:
    return str(index.catalog.facts().get("updated_at", "at an unknown time")).replace("T", " at ")
