"""Ctrl-C and SIGTERM end a command soon, whatever it is at: also in a library that hears nothing of them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from diptych.cli.exit_codes import INTERRUPTED

SOON_S = 1.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAID, _CURSOR = b"diptych: interrupted\n", b"\x1b[?25h"  # a bar hides the cursor


@contextmanager
def exit_on_signal(soon_s: float = SOON_S) -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt in the block, as Ctrl-C does, so that what was done is kept. Where the block has
    not ended `soon_s` after either, the process is ended as it stands: an index survives that.

    Outside of the main thread, where Python takes no signals, and where somebody else listens for them, it only waits.
    """
    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":  # whose pipes do not serve
        yield
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    politely = signal.signal(signal.SIGTERM, _interrupt)
    over = threading.Event()
    watching = threading.Thread(target=_watch, args=(heard, over, soon_s), daemon=True, name="diptych-signals")
    watching.start()
    try:
        yield
    finally:
        over.set()
        signal.signal(signal.SIGTERM, politely)
        signal.set_wakeup_fd(before)
        with suppress(OSError):  # so many signals came that none fits
            os.write(told, b"\0")
        watching.join()
        os.close(told)
        os.close(heard)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _watch(heard: int, over: threading.Event, soon_s: float) -> None:
    """End the process where the block outlasts a signal. Python writes each signal's number as a byte."""
    while not over.is_set():
        if os.read(heard, 1)[0] in _SIGNALS and not over.wait(soon_s):
            os.write(2, _SAID + _CURSOR * os.isatty(2))
            os._exit(INTERRUPTED)
