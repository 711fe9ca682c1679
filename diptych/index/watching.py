"""Keeps an index up to date while its folder changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.errors import IndexUnsafeError

if TYPE_CHECKING:
    from watchfiles import Change

    from diptych.index.local import LocalIndex
    from diptych.index.update.results import Progress, UpdateResult

QUIET_MS, MAX_WAIT_MS = 500, 5000  # an update starts after so long without a change, or at the latest
_WAKE_MS = 500


def watch(
    index: LocalIndex,
    on_update: Callable[[UpdateResult], None],
    *,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    on_wait: Callable[[str], None] | None = None,
    processes: int | None = None,
) -> None:
    """Update now, and again after each change under the index's folder, until `stop` is set or Ctrl-C is pressed.

    `on_update` gets the result of the first update, and of each later one that changed something. `progress`, `on_wait`
    and `processes` are those of `LocalIndex.update`; while another process updates the index, this waits. Raises what
    an update raises, so it ends if the disk is removed.
    """
    import watchfiles

    changes = watchfiles.watch(
        index.folder, watch_filter=relevant_changes(index), debounce=MAX_WAIT_MS, step=QUIET_MS, stop_event=stop,
        rust_timeout=_WAKE_MS, yield_on_timeout=True, ignore_permission_denied=True,
    )  # fmt: skip
    is_first = True
    for changed in changes:  # an empty first item means that watching has started, so no change is missed
        if not (is_first or changed or is_gone(index)):
            continue
        done = index.update(wait_s=None, progress=progress, on_wait=on_wait, processes=processes)
        if is_first or not done.is_unchanged:
            on_update(done)
        is_first = False


def is_gone(index: LocalIndex) -> bool:
    """Whether somebody has deleted the index that an update made, or put something else there."""
    try:
        return not index.exists
    except IndexUnsafeError:
        return True


def relevant_changes(index: LocalIndex) -> Callable[[Change, str], bool]:
    """Which changes are worth an update: folders, and files by their endings (not, for example, a log beside the
    pictures), but none in the index directory. Whether a deleted path was a folder cannot be determined, so all
    deletions count."""
    from watchfiles import Change

    from diptych.media.scanning.suffixes import KIND_OF_SUFFIX

    suffixes = {*KIND_OF_SUFFIX, ".xmp"}
    real_dir = Path(os.path.realpath(index.index_dir))
    own_dirs = {str(index.index_dir), str(real_dir)}

    def is_relevant(change: Change, path: str) -> bool:
        if any(path == own or path.startswith(own + os.sep) for own in own_dirs):
            return False
        return change == Change.deleted or os.path.splitext(path)[1].lower() in suffixes or os.path.isdir(path)

    return is_relevant
