"""Ctrl-C and SIGTERM, taken between two steps, so that what is saved is a whole step's state."""

import signal
import threading
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_S = 3.0


class Stop:
    """While it is entered, the first Ctrl-C or SIGTERM only sets `asked`; one some seconds later interrupts at once.

    Outside the main thread, where Python takes no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        self._asked_s = 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if self.asked:
            # A scheduler signals a job's every process, and torchrun passes it on: what comes at once is one request.
            if now_s - self._asked_s > PATIENCE_S:
                raise KeyboardInterrupt
            return
        self._asked_s = now_s
        self.asked = "interrupted" if number == signal.SIGINT else "told to end"
