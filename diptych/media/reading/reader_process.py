"""The main loop of a child process that reads files. Orders are lines of JSON; answers are JSON and pixels.

It imports neither torch nor OpenVINO and ends when its parent does. If a decoder hangs after the parent has ended, the
kernel ends it. The output of decoders is discarded.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np

Work = TypeVar("Work")
LENGTHS = struct.Struct("<II")  # before each answer: the lengths of its JSON and of its pixels in bytes
GRACE_S = 10.0  # the parent ends an overdue process; without a parent, the kernel does after these extra seconds


def main() -> None:
    """Read one order after another until the pipe ends. The first line holds the settings: root, spec, memory_bytes,
    follow_links."""
    if not (started := start(_prepared)):
        return
    orders, answers, read = started
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders, waiting), daemon=True).start()
    while True:
        name, kind, limit_s = json.loads(waiting.get())
        set_alarm(limit_s + GRACE_S)
        answer, pixels = read(path(name), kind)
        set_alarm(0)  # before sending, which blocks while the parent is busy
        send_answer(answers, answer, pixels)


def start(prepare: Callable[[dict[str, Any]], Work]) -> tuple[IO[bytes], IO[bytes], Work] | None:
    """Take the pipes of orders and answers for this process alone, `prepare` by the settings, the first line, and tell
    the parent that orders may come. None if that failed, of which the parent was told."""
    orders, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    settings = json.loads(orders.readline())
    try:
        work = prepare(settings)
        limit_process(settings["memory_bytes"])
    except Exception:
        send_answer(answers, {"broken": traceback.format_exc()})
        return None
    send_answer(answers, {"ready": True})
    os.dup2(nowhere, 2)
    return orders, answers, work


def path(sent: str) -> str:
    """The inverse of `sendable`, for paths of any bytes."""
    return os.fsdecode(sent.encode("latin-1"))


def sendable(path: str) -> str:
    """A path encoded for JSON in any locale: one character per byte."""
    return os.fsencode(path).decode("latin-1")


def _prepared(settings: dict[str, Any]) -> Any:
    from diptych.media.preprocessing import Preprocess

    return _reader(path(settings["root"]), Preprocess(**settings["spec"]), settings["follow_links"])


def _reader(root: str, spec: Any, follow_links: bool) -> Any:
    """The function (path, kind) -> (answer, pixels)."""
    from PIL import AvifImagePlugin

    from diptych.media.reading.file import UnreadableFileError, read_file

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there is one process per core

    def read(name: str, kind: Any) -> tuple[dict[str, Any], Sequence[np.ndarray]]:
        try:
            digest, details, parts, partial, kind = read_file(root, name, kind, spec, follow_links=follow_links)
        except UnreadableFileError as error:
            return {"failure": [error.reason, error.detail], "digest": error.digest.hex()}, ()
        except Exception as error:  # decoders raise many kinds for unexpected bytes
            return {
                "failure": ["damaged", f"It could not be read ({type(error).__name__}: {error})."],
                "digest": "",
            }, ()
        part_records = [[part.pixels is not None, part.text, part.at_s, part.line] for part in parts]
        answer = {
            "digest": digest.hex(),
            "details": asdict(details),
            "parts": part_records,
            "partial": partial,
            "kind": kind,
        }
        return answer, [part.pixels for part in parts if part.pixels is not None]

    return read


def _listen(orders: IO[bytes], waiting: Any) -> None:
    """Queue the orders; end the process at once when the parent is gone."""
    for line in orders:
        waiting.put(line)
    os._exit(0)


def send_answer(answers: IO[bytes], answer: dict[str, Any], content: Sequence[np.ndarray | memoryview] = ()) -> None:
    """Write an answer: its lengths, its JSON, its content."""
    encoded = json.dumps(answer).encode()
    try:
        answers.write(LENGTHS.pack(len(encoded), sum(part.nbytes for part in content)) + encoded)
        for part in content:
            answers.write(part.tobytes())
        answers.flush()
    except OSError:  # the parent is gone
        os._exit(0)


def limit_process(memory_bytes: int | None) -> None:
    """Limit memory, and turn off core dumps and Ctrl-C, which the parent handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no limits, macOS not all of them
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if memory_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def set_alarm(seconds: float) -> None:
    """Have the kernel end this process after so many seconds; 0 cancels that."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
