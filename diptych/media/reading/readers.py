"""A pool of child processes that read files: a file that hangs or crashes one is a failure, and the rest goes on."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.errors import ArgumentError, ReaderProcessError
from diptych.media import memory
from diptych.media.items import Details, File, FileContents, Part
from diptych.media.reading.child_process import ChildProcess
from diptych.media.reading.reader_process import sendable

if TYPE_CHECKING:
    from diptych.media.preprocessing import Preprocess

AHEAD = 128  # files under way beyond the one that is handed out
BUFFER_BYTES = 64 * 2**20  # of pixels that wait to be taken; one video may be more
BYTES_A_SECOND = 10_000_000  # of a slow disk: a large file gets its time on top
MOST_PROCESSES = 16
_STARTS = 3  # tries: where memory is short, the system may end a process while it starts

_Orders = queue.SimpleQueue[File | None]


class ReaderPool:
    """`processes` processes (by default one a core) that read files under `root` as a tower of `spec` sees them.

    Use as a context. Each process has one file under way and one that waits. A file that takes longer than `timeout_s`,
    plus a second for each 10 MB of it, is a Failure "timed out"; one that ends its process is a Failure "crashed"; both
    end that process alone, and another replaces it. A process may take up `memory_bytes` of address space, and
    what `pictures.memory` allows one picture beyond the usual, where the system can limit it: what needs more is "too
    large", or "crashed" if the decoder gives up. What a link leads out of `root` to is read with `follow_links` alone.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        spec: Preprocess,
        *,
        processes: int | None = None,
        timeout_s: float = 30.0,
        memory_bytes: int | None = 2 * 2**30,
        follow_links: bool = False,
    ):
        count = min(_cores(), MOST_PROCESSES) if processes is None else processes
        if count < 1 or timeout_s <= 0:
            raise ArgumentError(f"processes={processes}, timeout_s={timeout_s}; wanted 1 or more, and more than 0.")
        root = sendable(os.path.abspath(os.fsdecode(root)))
        if memory_bytes is not None:
            memory_bytes += max(0, memory.memory_limit() - memory.USUAL)
        settings = {"root": root, "spec": asdict(spec), "memory_bytes": memory_bytes}
        settings["follow_links"] = follow_links
        self._workers = [_Worker(settings, spec.size_px, timeout_s) for _ in range(count)]
        self._is_reading = False

    def __enter__(self) -> ReaderPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """The running processes; each starts with its first file."""
        return [pid for worker in self._workers if (pid := worker.pid) is not None]

    def close(self) -> None:
        """End the processes, whatever they are at. A read that goes on raises ReaderProcessError."""
        for worker in self._workers:
            worker.stop()
        if not self._is_reading:
            for worker in self._workers:
                worker.rest()

    def read(self, files: Iterable[File]) -> Iterator[FileContents]:
        """Each file's contents, once, in any order; a bad file's has a `failure`. `files` is iterated in the caller's
        thread, no more than AHEAD beyond what was handed out, so memory does not grow with their number.

        Raises ReaderProcessError where processes do not start, RuntimeError while another read goes on.
        """
        if self._is_reading:
            raise RuntimeError("these readers are reading already; finish that first, or make others.")
        self._is_reading, under_way = True, 0
        orders, done, over = _Orders(), _Buffer(), threading.Event()
        threads = [threading.Thread(target=worker.serve, args=(orders, done), daemon=True) for worker in self._workers]
        threads.append(threading.Thread(target=self._watch, args=(over,), daemon=True))
        for thread in threads:
            thread.start()
        try:
            for file in files:
                orders.put(file)
                under_way += 1
                while under_way >= AHEAD or done.is_ready():
                    yield done.get()
                    under_way -= 1
            while under_way:
                yield done.get()
                under_way -= 1
        finally:
            if under_way:  # abandoned: what is being read ends with its process
                self.close()
            over.set()
            done.close()
            orders.put(None)
            self._settle(threads)

    def _settle(self, threads: list[threading.Thread]) -> None:
        """Leave the workers idle; their processes wait for the next read."""
        for thread in threads:
            thread.join()
        for worker in self._workers:
            worker.rest()
        self._is_reading = False

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(0.05):
            for worker in self._workers:
                worker.kill_if_overdue()


class _Worker:
    """One process after another, and the thread that serves it."""

    def __init__(self, settings: dict[str, Any], size_px: int, timeout_s: float):
        self._settings, self._size_px, self._timeout_s = settings, size_px, timeout_s
        self._process: ChildProcess | None = None
        self._held: deque[File] = deque()  # ordered from the process, the first of them under way
        self._is_stopped = False

    @property
    def pid(self) -> int | None:
        """Of the process, while it runs."""
        process = self._process
        return process.pid if process is not None and process.is_running() else None

    def serve(self, orders: _Orders, done: _Buffer) -> None:
        """Read what is ordered until None comes."""
        try:
            while self._order(orders):
                if contents := self._next(orders):
                    done.put(contents)
            if self._is_stopped:
                raise ReaderProcessError("the readers were closed.")
        except Exception as error:  # raised again where the contents are taken
            done.put(error)

    def stop(self) -> None:
        """End the process, and with it `serve`."""
        self._is_stopped = True
        if process := self._process:
            process.kill()

    def rest(self) -> None:
        """After `serve`: be ready to serve again."""
        if self._is_stopped and self._process is not None:
            self._process.kill()
            self._process.end()
            self._process = None
        self._held.clear()
        self._is_stopped = False

    def kill_if_overdue(self) -> None:
        """End the process if the file that it reads is beyond its time."""
        if process := self._process:
            process.kill_if_overdue()

    def _order(self, orders: _Orders) -> bool:
        """See that the process has one file to read and one to go on with; False when there are no more."""
        while len(self._held) < 2 and not self._is_stopped:
            try:
                file = orders.get(block=not self._held)
            except queue.Empty:
                break
            if file is None:
                orders.put(None)  # for the other workers
                break
            process = self._ready_process()
            self._held.append(file)
            with contextlib.suppress(OSError):  # it has died: there will be no answer
                process.send([sendable(file.path), file.kind, self._limit_s(file)])
        return bool(self._held) and not self._is_stopped

    def _ready_process(self) -> ChildProcess:
        """The process that runs, or another if the last has died while it had nothing to read."""
        if self._process is not None and (self._held or self._process.is_running()):
            return self._process
        for attempt in range(1, _STARTS + 1):
            if self._process is not None:
                self._process.end()
            self._process = process = ChildProcess(self._settings)
            try:
                process.wait_until_ready()
                break
            except ReaderProcessError:
                if attempt == _STARTS or self._is_stopped:
                    raise
        return process

    def _next(self, orders: _Orders) -> FileContents | None:
        """What comes of the first file held. If the process dies of it, the file behind it goes to any other."""
        assert self._process is not None  # it was ordered from
        file = self._held.popleft()
        try:
            return _contents(file, *self._process.receive(self._limit_s(file)), self._size_px)
        except (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError):
            process, self._process = self._process, None
            how = process.end()
            for other in self._held:
                orders.put(other)
            self._held.clear()
        if process.is_overdue:
            return _failure(file, "timed out", f"It was not read within {self._limit_s(file):.3g} s.")
        return None if self._is_stopped else _failure(file, "crashed", f"It ended the process that read it ({how}).")

    def _limit_s(self, file: File) -> float:
        return self._timeout_s + file.size / BYTES_A_SECOND


class _Buffer:
    """Contents that were read and not yet taken. `put` waits while it is full."""

    def __init__(self) -> None:
        self._items: deque[tuple[FileContents | Exception, int]] = deque()
        self._bytes, self._is_closed = 0, False
        self._changed = threading.Condition()

    def put(self, item: FileContents | Exception) -> None:
        """Add, once there is room, or at once if nothing is there."""
        parts = item.parts if isinstance(item, FileContents) else ()
        size = sum(part.pixels.nbytes for part in parts if part.pixels is not None)
        with self._changed:
            self._changed.wait_for(lambda: not self._bytes or self._bytes + size <= BUFFER_BYTES or self._is_closed)
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()

    def get(self) -> FileContents:
        """The oldest; waits for one. Raises what a worker raised."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._items, 1.0):
                pass  # Windows handles Ctrl-C only in between
            item, size = self._items.popleft()
            self._bytes -= size
            self._changed.notify_all()
        if isinstance(item, Exception):
            raise item
        return item

    def is_ready(self) -> bool:
        """Whether `get` would not wait."""
        return bool(self._items)

    def close(self) -> None:
        """Stop waiting for room: nothing is taken any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


def _contents(file: File, said: dict[str, Any], pixels: bytes, size_px: int) -> FileContents:
    """The contents that an answer describes. Raises one of several errors if it is malformed."""
    digest = bytes.fromhex(said["digest"])
    if "failure" in said:
        return _failure(file, *said["failure"], digest=digest)
    squares = iter(np.frombuffer(pixels, np.uint8).reshape(-1, size_px, size_px, 3))
    parts = tuple(Part(next(squares) if drawn else None, text, at_s, line) for drawn, text, at_s, line in said["parts"])
    file = file._replace(kind=said["kind"])
    return FileContents(file, digest, Details(**said["details"]), parts, partial=said["partial"])


def _failure(file: File, reason: str, detail: str, *, digest: bytes = b"") -> FileContents:
    from diptych.failures import Failure

    return FileContents(file, digest, failure=Failure(reason, f"{file.path}: {reason}. {detail}"))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
