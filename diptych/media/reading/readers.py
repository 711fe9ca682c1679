"""A pool of child processes that read files. A file that hangs or crashes a process fails alone; the rest go on."""

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

AHEAD = 128  # files in flight beyond the one returned
BUFFER_BYTES = 64 * 2**20  # of pixels not yet taken; a single video may exceed it
BYTES_A_SECOND = 10_000_000  # of a slow disk: extends the time limit of large files
MOST_PROCESSES = 16
_STARTS = 3  # attempts: if memory is short, the system may end a process while it starts

_Orders = queue.SimpleQueue[File | None]


class ReaderPool:
    """`processes` processes (by default one per core) that read files under `root` and preprocess them by `spec`.

    Use as a context manager. Each process reads one file while another waits. A file that takes longer than
    `timeout_s`, plus a second for each 10 MB, is a Failure "timed out"; one that ends its process is a Failure
    "crashed". Either ends that process alone, and a new one replaces it. Where the system supports limits, a process
    has `memory_bytes` of address space, raised if `media.memory` allows a picture more than usual; a file that needs
    more is "too large", or "crashed" if the decoder gives up. Links out of `root` are read only with `follow_links`.
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
        """The ids of the running processes; each starts with its first file."""
        return [pid for worker in self._workers if (pid := worker.pid) is not None]

    def close(self) -> None:
        """End the processes at once. A read in progress raises ReaderProcessError."""
        for worker in self._workers:
            worker.stop()
        if not self._is_reading:
            for worker in self._workers:
                worker.rest()

    def read(self, files: Iterable[File]) -> Iterator[FileContents]:
        """Each file's contents, once, in any order; a bad file's have a `failure`. `files` is iterated in the caller's
        thread, at most AHEAD beyond the last one returned, so memory does not grow with their number.

        Raises ReaderProcessError if processes do not start, and RuntimeError while another read is in progress.
        """
        if self._is_reading:
            raise RuntimeError("this pool is already reading; finish that read first, or make another pool.")
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
            if under_way:  # abandoned: end the processes with the files that they read
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
    """One child process, replaced when it dies, and the thread that serves it."""

    def __init__(self, settings: dict[str, Any], size_px: int, timeout_s: float):
        self._settings, self._size_px, self._timeout_s = settings, size_px, timeout_s
        self._process: ChildProcess | None = None
        self._held: deque[File] = deque()  # sent to the process, which reads the first of them
        self._is_stopped = False

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        process = self._process
        return process.pid if process is not None and process.is_running() else None

    def serve(self, orders: _Orders, done: _Buffer) -> None:
        """Read the ordered files until the order is None."""
        try:
            while self._order(orders):
                if contents := self._next(orders):
                    done.put(contents)
            if self._is_stopped:
                raise ReaderProcessError("the readers were closed.")
        except Exception as error:  # raised again in the thread that takes the contents
            done.put(error)

    def stop(self) -> None:
        """End the process, and with it `serve`."""
        self._is_stopped = True
        if process := self._process:
            process.kill()

    def rest(self) -> None:
        """Prepare for another `serve`, after one has ended."""
        if self._is_stopped and self._process is not None:
            self._process.kill()
            self._process.end()
            self._process = None
        self._held.clear()
        self._is_stopped = False

    def kill_if_overdue(self) -> None:
        """End the process if its current file is overdue."""
        if process := self._process:
            process.kill_if_overdue()

    def _order(self, orders: _Orders) -> bool:
        """Give the process a file to read and a next one; False when there are no more."""
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
            with contextlib.suppress(OSError):  # it has died; `receive` will fail
                process.send([sendable(file.path), file.kind, self._limit_s(file)])
        return bool(self._held) and not self._is_stopped

    def _ready_process(self) -> ChildProcess:
        """The running process, or a new one if it died while idle."""
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
        """The contents of the first file held. If it ends the process, the next file goes to any worker."""
        assert self._process is not None  # `_order` started it
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
    """Contents read but not yet taken. `put` waits while it is full."""

    def __init__(self) -> None:
        self._items: deque[tuple[FileContents | Exception, int]] = deque()
        self._bytes, self._is_closed = 0, False
        self._changed = threading.Condition()

    def put(self, item: FileContents | Exception) -> None:
        """Add an item once there is room; at once if the buffer is empty."""
        parts = item.parts if isinstance(item, FileContents) else ()
        size = sum(part.pixels.nbytes for part in parts if part.pixels is not None)
        with self._changed:
            self._changed.wait_for(lambda: not self._bytes or self._bytes + size <= BUFFER_BYTES or self._is_closed)
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()

    def get(self) -> FileContents:
        """The oldest item; waits for one. Raises a worker's exception again."""
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
        """Let `put` no longer wait: nothing will be taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


def _contents(file: File, answer: dict[str, Any], pixels: bytes, size_px: int) -> FileContents:
    """The contents in an answer. Raises one of several errors if it is malformed."""
    digest = bytes.fromhex(answer["digest"])
    if "failure" in answer:
        return _failure(file, *answer["failure"], digest=digest)
    squares = iter(np.frombuffer(pixels, np.uint8).reshape(-1, size_px, size_px, 3))
    records = answer["parts"]
    parts = tuple(Part(next(squares) if drawn else None, text, at_s, line) for drawn, text, at_s, line in records)
    file = file._replace(kind=answer["kind"])
    return FileContents(file, digest, Details(**answer["details"]), parts, partial=answer["partial"])


def _failure(file: File, reason: str, detail: str, *, digest: bytes = b"") -> FileContents:
    from diptych.failures import Failure

    return FileContents(file, digest, failure=Failure(reason, f"{file.path}: {reason}. {detail}"))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
