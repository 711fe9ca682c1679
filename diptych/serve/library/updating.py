"""Indexes the folder in the background, and says how far it is."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from diptych.display.counting import counted
from diptych.errors import DiptychError
from diptych.serve.web.problems import RequestProblem

if TYPE_CHECKING:
    from collections.abc import Callable

    from diptych.index.local import LocalIndex
    from diptych.index.update.results import UpdateResult

State = Literal["absent", "idle", "scanning", "indexing", "building", "waiting", "failed"]
_WAKE_S = 0.5
_RETRY_S = 60.0  # after a failure
_TELL_S = 60.0  # between lines of the log that say how far it is
_log = logging.getLogger("diptych.serve")


class Updating:
    """Updates `index` now, after each change in its folder with `watching`, and when `request` is called; `after` is
    called when one has succeeded; `worded` makes the message of an error. Without `start` nothing is updated."""

    def __init__(
        self, index: LocalIndex, *, watching: bool = True, after: Callable[[], None] = lambda: None,
        worded: Callable[[Exception], str] = str,
    ):  # fmt: skip
        self._index, self._is_watching, self._after, self._worded = index, watching, after, worded
        self._stop, self._requested = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.state: State = "idle"
        self.done = self.total = 0
        self.error: str | None = None
        self._is_first = True  # no update has succeeded yet: the log is told at once how far it is
        self._told_at = -_TELL_S

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, daemon=True, name="updating")
        self._thread.start()

    def request(self) -> None:
        """Look for new and changed files soon; also where nothing was started."""
        self._requested.set()
        if self._thread is None or not self._thread.is_alive():
            self.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop. An update that is under way loses at most its last second."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def status(self) -> dict[str, Any]:
        """The state, as events say it."""
        return {"state": self.state, "done": self.done, "total": self.total, "error": self.error}

    def _run(self) -> None:
        """Update until `close`."""
        while not self._stop.is_set():
            self._requested.clear()
            if self._update() and self._is_watching:
                self._watch()
            elif not self._is_watching:
                self._requested.wait(_WAKE_S)
                while not (self._stop.is_set() or self._requested.is_set()):
                    self._requested.wait(_WAKE_S)
            else:
                self._pause()

    def _pause(self) -> None:
        until = time.monotonic() + _RETRY_S
        while time.monotonic() < until and not (self._stop.is_set() or self._requested.is_set()):
            self._requested.wait(_WAKE_S)

    def _update(self) -> bool:
        """One update; whether it succeeded."""
        self._set("scanning")
        self._told_at = -_TELL_S if self._is_first else time.monotonic()
        try:
            done = self._index.update(wait_s=None, progress=self._progress, on_wait=self._wait, on_build=self._build)
            self._tell(done)
            self.error, self.done, self.total = None, 0, 0
            self._after()
            self._set("idle")
        except Exception as error:  # whatever it is, the server goes on with the index as it is
            if self._stop.is_set():
                return False
            is_known = isinstance(error, DiptychError | OSError)
            said = self._worded(error)
            self.error = said if is_known else "The server has failed; its log says why."
            self._set("failed")
            _log.warning("the index was not updated: %s", said, exc_info=not is_known)
            return False
        return True

    def _watch(self) -> None:
        """Update after each change, until one fails or an update is asked for."""
        import watchfiles

        from diptych.index.watching import MAX_WAIT_MS, QUIET_MS, is_gone, relevant_changes

        changes = watchfiles.watch(
            self._index.folder, watch_filter=relevant_changes(self._index), debounce=MAX_WAIT_MS, step=QUIET_MS,
            stop_event=self._stop, rust_timeout=int(_WAKE_S * 1000), yield_on_timeout=True,
            ignore_permission_denied=True, raise_interrupt=False,
        )  # fmt: skip
        is_first = True  # an empty first item means that watching has started: what changed before is not missed
        for changed in changes:
            if self._stop.is_set():
                return
            is_due = changed or is_first or self._requested.is_set() or is_gone(self._index)
            if is_due and not self._update_again():
                return
            is_first = False

    def _update_again(self) -> bool:
        self._requested.clear()
        return self._update()

    def _progress(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise _Stopped
        self.done, self.total = done, total
        self._set("indexing")
        if total and time.monotonic() - self._told_at >= _TELL_S:
            self._told_at = time.monotonic()
            _log.info("read %s of %s files", f"{done:,}", f"{total:,}")

    def _wait(self, words: str) -> None:
        self._set("waiting")
        _log.info("%s", words)

    def _build(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self._set("building")

    def _tell(self, done: UpdateResult) -> None:
        """Tell the log what an update did; of those that found all as it was, the first alone."""
        if self._is_first or not done.is_unchanged:
            _log.info("%s", summary(done, self._index))
        self._is_first = False

    def _set(self, state: State) -> None:
        self.state = state


class NotUpdating:
    """Stands for `Updating` where a server keeps the index, and others update it there."""

    def start(self) -> None:
        """Nothing is to be started."""

    def request(self) -> None:
        """Raises RequestProblem (404)."""
        raise RequestProblem(
            404, "NotOfferedError", "the index is kept by a server, and updated there.",
            remedy="Bring it up to date with `diptych index copy FOLDER ADDRESS`.",
        )  # fmt: skip

    def close(self) -> None:
        """Nothing is to be stopped."""

    def status(self) -> dict[str, Any]:
        """It is always idle."""
        return {"state": "idle", "done": 0, "total": 0, "error": None}


def summary(done: UpdateResult, index: LocalIndex) -> str:
    """A line of the log: what an update did, what there is, and how many files cannot be read."""
    counts = index.counts()
    if not counts.files:
        return "there is nothing to index in the folder yet: no pictures, films or texts"
    numbers = {"added": done.added, "changed": done.changed, "renamed": done.renamed, "removed": done.forgotten}
    changes = ", ".join(f"{number:,} {word}" for word, number in numbers.items() if number)
    did = f"indexed in {done.seconds:.0f} s: {changes}" if changes else "the index is up to date"
    files, pictures = counted(counts.files - counts.failed, "file"), counted(counts.pictures, "picture")
    has = f"{files}, {pictures} and {counted(counts.texts, 'text')}"
    reasons = Counter(failure.reason for failure in done.failures.values())
    failed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    return f"{did}; {has}" + (f"; left out {counts.failed:,} ({failed}): diptych doctor names them" if failed else "")


class _Stopped(OSError):
    """The server shuts down while files are embedded."""
