"""An index that follows its folder: an update whenever something in it has changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watchfiles import Change

    from diptych.index.local import LocalIndex
    from diptych.index.update.results import Progress, UpdateResult

QUIET_MS, AT_MOST_MS = 500, 5000  # an update begins when nothing has changed for so long, or after so long at most
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
    """Update now, and again after each change under the index's folder, until `stop` is set or Ctrl-C comes.

    `on_update` is told the outcome of the first update, and of each later one that did something. `progress`, `on_wait`
    and `processes` are those of `LocalIndex.update`; where another process updates, this waits. Raises what an update
    raises, so that a disk which is taken away ends it.
    """
    import watchfiles

    changes = watchfiles.watch(
        index.folder, watch_filter=_filter(index), debounce=AT_MOST_MS, step=QUIET_MS, stop_event=stop,
        rust_timeout=_WAKE_MS, yield_on_timeout=True, ignore_permission_denied=True,
    )  # fmt: skip
    is_first = True
    for seen in changes:  # the first, after a moment without changes, says that watching has begun: none is missed
        if not is_first and not seen:
            continue
        done = index.update(wait_s=None, progress=progress, on_wait=on_wait, processes=processes)
        if is_first or not done.is_unchanged:
            on_update(done)
        is_first = False


def _filter(index: LocalIndex) -> Callable[[Change, str], bool]:
    """What is worth an update: folders, and files by their endings, so that a log beside the pictures is not; never the
    index's own. Of what is gone nothing tells whether it was a folder."""
    from watchfiles import Change

    from diptych.media.images import ENDINGS
    from diptych.media.scan import RAW_ENDINGS, TEXT_ENDINGS, VIDEO_ENDINGS

    endings = {f".{name}" for name in f"{ENDINGS}|{RAW_ENDINGS}|{VIDEO_ENDINGS}|{TEXT_ENDINGS}|xmp".split("|")}
    place = Path(os.path.realpath(index.index_dir))
    places = {str(index.index_dir), str(place)}

    def is_wanted(change: Change, path: str) -> bool:
        if any(path == own or path.startswith(own + os.sep) for own in places):
            return False
        return change == Change.deleted or os.path.splitext(path)[1].lower() in endings or os.path.isdir(path)

    return is_wanted
