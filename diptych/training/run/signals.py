"""Ctrl-C and SIGTERM, handled between two steps, so that a checkpoint is the state after a complete step."""

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

Result = TypeVar("Result")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_S = 3.0
LOGGING_S = 1.0


class _StopRequested(BaseException):
    """A request during a wait. It is not an Exception, so that the data's error handlers do not catch it."""


class SignalHandler:
    """While it is entered, the first Ctrl-C or SIGTERM sets `requested` and logs that; another one, PATIENCE_S seconds
    later, raises KeyboardInterrupt at once.

    Outside the main thread, where Python handles no signals, it does nothing.
    """

    def __init__(self, log: Callable[[str], None] | None = None) -> None:
        self.requested: str | None = None
        self._log, self._requested_s, self._is_waiting = log, 0.0, False
        self._before: dict[int, object] = {}
        self._logging = _thread.allocate_lock()  # held while the request is being logged

    def __enter__(self) -> "SignalHandler":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        if self._logging.acquire(timeout=LOGGING_S):  # what is printed next follows the line about the request
            self._logging.release()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def run_unless_requested(self, work: Callable[[], Result]) -> Result | None:
        """The result of `work`; None after a request, or on a request meanwhile, which interrupts `work`."""
        with contextlib.suppress(_StopRequested):
            try:
                self._is_waiting = True
                return None if self.requested else work()
            finally:
                self._is_waiting = False
        return None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if self.requested:
            # A scheduler signals every process of a job, and torchrun forwards that: signals at the same time are one
            # request.
            if now_s - self._requested_s > PATIENCE_S:
                raise KeyboardInterrupt
            return
        self._requested_s = now_s
        self.requested = "interrupted" if number == signal.SIGINT else "terminated"
        if self._log:  # in a new thread, not a Thread: the interrupted code may have the locks that both would need
            line = f"{self.requested}: saving a checkpoint; interrupt again after {PATIENCE_S:.0f} s to end without one"
            self._logging.acquire()
            _thread.start_new_thread(self._log_request, (self._log, line))
        if self._is_waiting:
            self._is_waiting = False  # a second request must not interrupt the cleanup after the first
            raise _StopRequested

    def _log_request(self, log: Callable[[str], None], line: str) -> None:
        try:
            log(line)
        finally:
            self._logging.release()
