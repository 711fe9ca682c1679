"""Bringing an index up to date before it is asked: made where there is none, looked over where that is quick."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from diptych.cli.options import report_refused, report_reread, report_skipped, say, stages
from diptych.cli.terminal import ask
from diptych.cli.wording import message_of
from diptych.errors import IndexBusyError, IndexDirectoryError, IndexNotWritableError

if TYPE_CHECKING:
    from diptych.failures import Failure
    from diptych.index.local import LocalIndex

LOOKED_OVER = 10_000  # files; a folder of up to so many is looked over before each search
MANY = 1_000  # files; before more than so many are indexed without having been asked to, a person is asked
_COUNTED_S = 3.0  # how long they are counted


class Left(NamedTuple):
    """What the index holds of files that cannot be read, with paths as the folder was typed; the last `before` of them
    were known before."""

    failures: Mapping[str, Failure]
    before: int

    @classmethod
    def of_all(cls, lefts: Iterable[Left]) -> Left:
        """Of several folders."""
        lefts = list(lefts)
        halves: list[dict[str, Failure]] = [{}, {}]
        for failures, before in lefts:
            new = len(failures) - before
            halves[0] |= dict(islice(failures.items(), new))
            halves[1] |= dict(islice(failures.items(), new, None))
        before = {path: why for path, why in halves[1].items() if path not in halves[0]}
        return cls(halves[0] | before, len(before))


def typed(index: LocalIndex, folder: str, path: str) -> Path:
    """A file of the index, named by its path there, as below the folder that was typed."""
    return Path(folder) / path[len(index.under) + bool(index.under) :]


def brought_up_to_date(index: LocalIndex, folder: str, update: bool | None) -> Left:
    """Make the index where there is none; look over the folder where it is small, or that is asked for. What was not
    asked for is neither waited for nor insisted upon: where another process updates, or nothing can be written, a
    search goes on with what is there. Raises ClickException where a person does not want a large folder indexed."""
    from diptych.index.update.rereading import count_older

    is_needed = update is True or not index.exists
    if index.exists:
        files = index.counts().files
        if update is False:
            return _left_before(index, folder)
        if update is None and files > LOOKED_OVER:
            say(f"index of {files:,} files, last looked over {_age(index)}; --update looks for new ones")
            if older := count_older(index.catalog, index.under):
                say(f"{older:,} were read by an earlier version; --update reads those again that this one reads better")
            return _left_before(index, folder)
    elif update is False:
        raise IndexDirectoryError(f"{index.place} holds no index yet; leave out --no-update to make it.")
    elif update is None:
        _ask_first(index, folder)
    try:
        with stages("indexing", "arranging for search") as (advance, arranging):
            wait_s = None if is_needed else 0.0
            updated = index.update(progress=advance, wait_s=wait_s, on_wait=say, arranging=arranging)
    except (IndexBusyError, IndexNotWritableError) as error:
        if is_needed:
            raise
        say(f"searching the index as it is: {message_of(error)}")
        return _left_before(index, folder)
    report_refused(updated.refused)
    report_reread(updated.reread)
    if updated.newly_skipped:
        report_skipped(updated.skipped)
    return Left(_as_typed(index, folder, updated.failures), updated.failed_before)


def _ask_first(index: LocalIndex, folder: str) -> None:
    """Before a large folder is indexed for the first time, as a search in one's home would. A script is not asked."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        return
    count, is_all = _counted(index)
    if count <= MANY:
        return
    number = f"{count:,}" if is_all else f"more than {count:,}"
    say(f"{index.folder} was never indexed, and holds {number} pictures, videos and texts.")
    if ask("Index them all, in order to search them? [y/N]") not in ("y", "yes"):
        raise click.ClickException(
            f"nothing was indexed. Name a smaller folder than {folder}, or leave some out: diptych index {folder} "
            "--exclude GLOB"
        )


def _counted(index: LocalIndex) -> tuple[int, bool]:
    """How many files there are to index, and whether there was time to count them all."""
    from diptych.media.scan import scan

    end, count = time.monotonic() + _COUNTED_S, 0
    for count, _ in enumerate(scan(index.root, **index.rules._asdict()), start=1):
        if count > MANY and time.monotonic() > end:
            return count, False
    return count, True


def _left_before(index: LocalIndex, folder: str) -> Left:
    from diptych.failures import Failure

    known = _as_typed(index, folder, {path: Failure(*why) for path, why in index.failures().items()})
    return Left(known, len(known))


def _as_typed(index: LocalIndex, folder: str, failures: Mapping[str, Failure]) -> dict[str, Failure]:
    """By the path as it was typed, which the message names as well: of several folders it is not clear otherwise."""
    found = {}
    for path, why in failures.items():
        shown = str(typed(index, folder, path))
        if why.message.startswith(f"{path}: ") and not why.words:
            why = why._replace(message=shown + why.message[len(path) :])
        found[shown] = why
    return found


def _age(index: LocalIndex) -> str:
    return str(index.catalog.facts().get("updated_at", "at an unknown time")).replace("T", " at ")
