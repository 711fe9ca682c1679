"""A pool of child processes that decode single pictures for many threads: uploads and thumbnails. A picture that hangs
or crashes a process fails alone."""

from __future__ import annotations

import os
import queue
import threading
from concurrent.futures import Future
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.errors import ImageError, ReaderProcessError
from diptych.media import memory
from diptych.media.reading.child_process import ChildProcess
from diptych.media.reading.reader_process import sendable

if TYPE_CHECKING:
    from diptych.media.preprocessing import Preprocess

_PROGRAM = "diptych.media.reading.decoder_process"


class DecodedPicture(NamedTuple):
    """The displayed size (width, height) of a picture; its input of the tower, (size, size, 3) uint8, and the whole as
    a JPEG, as far as they were asked for."""

    size: tuple[int, int]
    square: np.ndarray | None = None
    jpeg: bytes | None = None


class _Job(NamedTuple):
    order: dict[str, Any]
    content: bytes
    name: str
    done: Future[DecodedPicture]


class DecoderPool:
    """`processes` processes (by default one per core), started when they are first needed. Use from any thread, and
    `close` it.

    Files are read below `root`; links that lead out of it only with `follow_links`. A picture that takes longer than
    `timeout_s` or more than `memory_bytes` fails. The futures raise ImageError.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None,
        spec: Preprocess,
        *,
        processes: int | None = None,
        timeout_s: float = 20.0,
        memory_bytes: int | None = 2 * 2**30,
        follow_links: bool = False,
    ):
        if memory_bytes is not None:
            memory_bytes += max(0, memory.memory_limit() - memory.USUAL)
        folder = None if root is None else sendable(os.path.abspath(os.fsdecode(root)))
        self._settings = {"root": folder, "spec": asdict(spec), "memory_bytes": memory_bytes}
        self._settings["follow_links"] = follow_links
        self._spec, self._timeout_s = spec, timeout_s
        self._count = processes or _cores()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._workers: list[_Worker] = []
        self._watcher: threading.Thread | None = None

    @property
    def has_root(self) -> bool:
        """Whether files can be read."""
        return self._settings["root"] is not None

    @property
    def waiting(self) -> int:
        """How many pictures wait for a process."""
        return self._jobs.qsize()

    def square(self, content: bytes, name: str = "the picture") -> Future[DecodedPicture]:
        """The input of the tower, for the bytes of a picture file."""
        return self._submit({"task": "square"}, content, name)

    def upload(self, content: bytes, size_px: int, name: str = "the picture") -> Future[DecodedPicture]:
        """Both the input of the tower and a JPEG that fits into a square of `size_px`."""
        return self._submit(_whole(size_px, square=True), content, name)

    def whole(self, content: bytes, size_px: int, name: str = "the picture") -> Future[DecodedPicture]:
        """A JPEG of the whole picture that fits into a square of `size_px`."""
        return self._submit(_whole(size_px), content, name)

    def file(self, path: str, size_px: int, *, at_s: float | None = None) -> Future[DecodedPicture]:
        """The same for a file, by its path relative to the root; for a video, the frame at `at_s` seconds."""
        return self._submit(_whole(size_px, path=sendable(path), at_s=at_s), b"", path)

    def close(self) -> None:
        """End the processes. What waits fails."""
        self._over.set()
        with self._lock:
            for worker in self._workers:
                self._jobs.put(None)
                worker.stop()

    def _submit(self, order: dict[str, Any], content: bytes, name: str) -> Future[DecodedPicture]:
        done: Future[DecodedPicture] = Future()
        order |= {"name": name.encode("utf-8", "replace").decode(), "bytes": len(content), "limit_s": self._timeout_s}
        self._jobs.put(_Job(order, content, name, done))
        self._start_one()
        return done

    def _start_one(self) -> None:
        """One more worker if all are busy."""
        with self._lock:
            if self._over.is_set():
                raise ReaderProcessError("the decoders were closed.")
            if len(self._workers) < self._count and all(worker.is_busy for worker in self._workers):
                worker = _Worker(self._settings, self._spec.size_px, self._timeout_s, self._jobs)
                self._workers.append(worker)
                threading.Thread(target=worker.serve, daemon=True, name="decoder").start()
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True, name="decoder-watch")
                self._watcher.start()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            for worker in self._workers:
                worker.kill_if_overdue()


def _whole(size_px: int, **more: Any) -> dict[str, Any]:
    return {"task": "whole", "size_px": size_px, "path": None, "at_s": None, **more}


class _Worker:
    """One child process, replaced when it dies, and the thread that serves it."""

    def __init__(self, settings: dict[str, Any], size_px: int, timeout_s: float, jobs: queue.SimpleQueue[_Job | None]):
        self._settings, self._size_px, self._timeout_s, self._jobs = settings, size_px, timeout_s, jobs
        self._process: ChildProcess | None = None
        self._is_stopped = False
        self.is_busy = True  # until it waits for a job

    def serve(self) -> None:
        """Decode until the job is None."""
        while True:
            self.is_busy = False
            job = self._jobs.get()
            self.is_busy = True
            if job is None:
                break
            if job.done.set_running_or_notify_cancel():
                try:
                    job.done.set_result(self._decoded(job))
                except Exception as error:
                    job.done.set_exception(error)
        if self._process is not None:
            self._process.kill()
            self._process.end()

    def stop(self) -> None:
        """End the process, and what it does."""
        self._is_stopped = True
        if process := self._process:
            process.kill()

    def kill_if_overdue(self) -> None:
        """End the process if its picture is overdue."""
        if process := self._process:
            process.kill_if_overdue()

    def _decoded(self, job: _Job) -> DecodedPicture:
        process = self._ready_process()
        try:
            process.send(job.order, job.content)
            answer, payload = process.receive(self._timeout_s)
            if failure := answer.get("failure"):
                raise ImageError(failure[0], job.name, failure[1])
            return _decoded(answer, payload, job.order, self._size_px)
        except ImageError:
            raise
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            self._process, how = None, process.end()
            if process.is_overdue:
                message = f"It was not decoded within {self._timeout_s:.3g} s."
                raise ImageError("timed out", job.name, message) from error
            if self._is_stopped:
                raise ReaderProcessError("the decoders were closed.") from error
            raise ImageError("crashed", job.name, f"It ended the process that decoded it ({how}).") from error

    def _ready_process(self) -> ChildProcess:
        if self._process is None or not self._process.is_running():
            self._process = ChildProcess(self._settings, _PROGRAM)
            try:
                self._process.wait_until_ready()
            except ReaderProcessError:
                self._process = None
                raise
        return self._process


def _decoded(answer: dict[str, Any], payload: bytes, order: dict[str, Any], size_px: int) -> DecodedPicture:
    size, square_bytes = (answer["width"], answer["height"]), size_px * size_px * 3
    if order["task"] == "whole" and "square" not in order:
        return DecodedPicture(size, jpeg=payload)
    square = np.frombuffer(payload[:square_bytes], np.uint8).reshape(size_px, size_px, 3)
    return DecodedPicture(size, square, payload[square_bytes:] or None)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
