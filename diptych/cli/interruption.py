"""Ctrl-C and SIGTERM end a command soon, even inside a library that ignores them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from diptych.cli.exit_codes import INTERRUPTED

GRACE_S = 1.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_MESSAGE, _SHOW_CURSOR = b"diptych: interrupted\n", b"\x1b[?25h"  # a progress bar hides the cursor


@contextmanager
def exit_on_signal(grace_s: float = GRACE_S) -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt in the block, as Ctrl-C does, so that finished work is kept. If the block still
    runs `grace_s` after a signal, the process ends at once with exit code 130; an index survives that.

    Does nothing outside the main thread, where Python delivers no signals, or on Windows, where a pipe cannot report
    them.
    """
    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
        yield
        return
    reading_end, writing_end = os.pipe()
    os.set_blocking(writing_end, False)
    previous_fd = signal.set_wakeup_fd(writing_end, warn_on_full_buffer=False)
    previous_handler = signal.signal(signal.SIGTERM, _interrupt)
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(reading_end, done, grace_s), daemon=True, name="diptych-signals")
    watcher.start()
    try:
        yield
    finally:
        done.set()
        signal.signal(signal.SIGTERM, previous_handler)
        signal.set_wakeup_fd(previous_fd)
        with suppress(OSError):  # the pipe is full of signals, so the watcher wakes up anyway
            os.write(writing_end, b"\0")
        watcher.join()
        os.close(writing_end)
        os.close(reading_end)


@contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt in the block, as Ctrl-C does: finished work is committed, and the reader
    processes end. Unlike `exit_on_signal` it also works on Windows, and sets no time limit. Does nothing outside the
    main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _watch(reading_end: int, done: threading.Event, grace_s: float) -> None:
    """End the process if the block outlasts a signal. Python writes the number of each signal to the pipe."""
    while not done.is_set():
        if os.read(reading_end, 1)[0] in _SIGNALS and not done.wait(grace_s):
            os.write(2, _MESSAGE + _SHOW_CURSOR * os.isatty(2))
            os._exit(INTERRUPTED)
