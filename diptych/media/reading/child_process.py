"""A child process that reads files. If it hangs or dies, its parent gets an EOFError."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from diptych.errors import ArgumentError, ReaderProcessError
from diptych.media.reading.reader_process import LENGTHS

_START_S = 120.0  # for a process's imports on a busy machine
_MOST_JSON, _MOST_PIXELS = 2**26, 2**30  # bytes; a process that announces more is broken
_COMMAND = "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); "
_COMMAND += "importlib.import_module(sys.argv[2]).main()"


class ChildProcess:
    """A running `reader_process`, or another `program` with the same pipes. It is new, not a fork: it inherits
    no threads, locks, open files or modules of the parent, and a script needs no `if __name__ == "__main__":`."""

    def __init__(self, settings: dict[str, Any], program: str = "diptych.media.reading.reader_process"):
        """Start it without waiting, because its imports take a while. `settings` are its first line."""
        self._process = subprocess.Popen(
            command_line(program), bufsize=-1, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **process_options()
        )
        self._orders: Any = self._process.stdin
        self._answers: Any = self._process.stdout
        _widen(self._answers)
        self._lock = threading.Lock()  # killing an overdue file must not hit the next file
        self._deadline_s = float("inf")
        self.is_overdue = False
        with contextlib.suppress(OSError):  # it has died: `wait_until_ready` reports that
            self.send(settings)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait until its imports are done. Raises ReaderProcessError if it ends before."""
        try:
            answer, _ = self.receive(_START_S)
        except (OSError, EOFError, ValueError) as error:
            raise ReaderProcessError(f"a reading process did not start ({self.end()}); its output is above.") from error
        if "broken" in answer:
            self.end()
            raise ReaderProcessError(f"a reading process did not start:\n{answer['broken']}")

    def send(self, order: Any, content: bytes = b"") -> None:
        """Send a line, and bytes after it. Raises OSError if nobody reads it."""
        self._orders.write(json.dumps(order).encode() + b"\n")
        self._orders.write(content)
        self._orders.flush()

    def receive(self, limit_s: float) -> tuple[dict[str, Any], bytes]:
        """The next answer and its pixels. Raises EOFError if the process ends first, as it does after `limit_s`, and
        ValueError if the answer is malformed."""
        with self._lock:
            self._deadline_s = time.monotonic() + limit_s
        try:
            json_bytes, pixel_bytes = LENGTHS.unpack(_exactly(self._answers, LENGTHS.size))
            if json_bytes > _MOST_JSON or pixel_bytes > _MOST_PIXELS:
                raise ArgumentError(f"an answer of {json_bytes} and {pixel_bytes} bytes")
            return json.loads(_exactly(self._answers, json_bytes)), _exactly(self._answers, pixel_bytes)
        finally:
            with self._lock:
                self._deadline_s = float("inf")

    def kill_if_overdue(self) -> None:
        """Kill it if the awaited answer is overdue. Another thread calls this regularly."""
        with self._lock:
            if time.monotonic() > self._deadline_s:
                self.is_overdue, self._deadline_s = True, float("inf")
                self._process.kill()

    def kill(self) -> None:
        """Kill it; a waiting `receive` raises EOFError. Call `end` afterwards."""
        self._process.kill()

    def end(self) -> str:
        """End the process if it still runs. Returns a description of how it ended by itself."""
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(0.5)  # it may be dying still
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)  # a process blocked on a lost network disk does not die at once
        for pipe in (self._orders, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()
        return "its answer was malformed" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"


def command_line(program: str) -> list[str]:
    """What runs `main` of a module in a new process."""
    paths = [str(Path(__file__).parents[2]), *(path for path in sys.path if isinstance(path, str))]
    # -I: imports nothing from the working directory, which may be untrusted
    return [sys.executable, "-I", "-c", _COMMAND, json.dumps(paths), program]


def process_options() -> dict[str, Any]:
    """Arguments for starting that process: it computes in one thread, and Ctrl-C goes to the parent alone."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        "env": {**os.environ, **one_thread},
        "process_group": None if sys.platform == "win32" else 0,
        "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    }


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    content = pipe.read(count)
    if len(content) < count:
        raise EOFError
    return content


def _widen(pipe: IO[bytes]) -> None:
    """Enlarge the pipe to hold a picture, so that the process can read its next file while the parent is busy."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, 2**20)
