"""Ctrl-C and SIGTERM, taken between two steps, so that what is saved is a whole step's state."""

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


class _Asked(BaseException):
    """A request that came while the run waited. No Exception: data's own handlers must not take it for an error."""


class Stop:
    """While it is entered, the first Ctrl-C or SIGTERM only sets `asked`, and tells `say`; one some seconds later
    interrupts at once.

    Outside the main thread, where Python takes no signals, it does nothing.
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self.asked: str | None = None
        self._say, self._asked_s, self._is_waiting = say, 0.0, False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def unless_asked(self, work: Callable[[], Result]) -> Result | None:
        """What `work` gives; None where the request came before or comes meanwhile: `work` is left where it stands."""
        with contextlib.suppress(_Asked):
            try:
                self._is_waiting = True
                return None if self.asked else work()
            finally:
                self._is_waiting = False
        return None

    def _note(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if self.asked:
            # A scheduler signals a job's every process, and torchrun passes it on: what comes at once is one request.
            if now_s - self._asked_s > PATIENCE_S:
                raise KeyboardInterrupt
            return
        self._asked_s = now_s
        self.asked = "interrupted" if number == signal.SIGINT else "told to end"
        if self._say:  # in a thread, and no Thread: what was just interrupted may hold the locks that both would take
            words = f"{self.asked}: what is done is saved first; asked again after {PATIENCE_S:.0f} s, it is not"
            _thread.start_new_thread(self._say, (words,))
        if self._is_waiting:
            self._is_waiting = False  # a request that comes twice must not interrupt the clearing up after the first
            raise _Asked
