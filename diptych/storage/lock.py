"""One writer at a time: an advisory lock that the system releases when its process ends."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from diptych.errors import IndexBusyError, SearchIndexError
from diptych.storage.directory import IndexDirectory
from diptych.storage.error_translation import translated_errors
from diptych.untrusted.json import parse_json

_POLL_S = 0.1
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # the errors of file systems without locks
_MAX_SIGNATURE_BYTES, _SHOWN = 4096, 64
_HERE = "this process"
# The locks of this process, by device and inode. The system's locks are between processes, and closing a second handle
# of the file would release the lock (fcntl(2), "Advisory record locking").
_Key = tuple[int, int, int]
_held: set[_Key] = set()
_guard = threading.Lock()


@contextmanager
def locked(
    path: Path,
    *,
    wait_s: float | None = 0.0,
    on_wait: Callable[[str], None] | None = None,
    does: str = "is updating this index",
    remedy: str = "Try again later; `diptych index FOLDER --wait 600` waits for it.",
) -> Iterator[None]:
    """Hold the lock at `path` for the block. If it is taken, pass the holder to `on_wait` once and wait up to `wait_s`
    seconds (None: without limit), then raise IndexBusyError. The lock of a process that has ended is free.

    The lock file is never written to; the file NAME.json beside it names the holder. Raises IndexUnsafeError if the
    lock file is not a regular file.
    """
    directory, name = IndexDirectory(path.parent), path.name
    deadline, is_announced = time.monotonic() + (wait_s or 0.0), False
    while isinstance(taken := _attempt(directory, name), str):
        if wait_s is not None and time.monotonic() >= deadline:
            raise IndexBusyError(f"{taken} {does}. {remedy}")
        if on_wait and not is_announced:
            on_wait(f"{taken} {does}; waiting for it")
            is_announced = True
        time.sleep(_POLL_S)
    file, key = taken
    try:
        _sign(directory, name)
        yield
    finally:
        with contextlib.suppress(OSError, SearchIndexError):
            directory.remove(signature(name))
        with _guard:
            _held.discard(key)
            file.close()


def _attempt(directory: IndexDirectory, name: str) -> tuple[IO[bytes], _Key] | str:
    """The locked file and its key, or the holder in words."""
    with _guard, translated_errors(directory.path / name):
        if _is_held(directory, name):
            return "another thread of this process"
        file = directory.open(name, "r+b", create=True)
        try:
            if _system_lock(file.fileno()):
                key = _key(os.fstat(file.fileno()))
                _held.add(key)
                return file, key
        except BaseException:
            file.close()
            raise
        file.close()
        return _holder_in(directory, name)


def holder(path: Path) -> str | None:
    """The holder of the lock in words; None if it is free."""
    directory, name = IndexDirectory(path.parent), path.name
    with _guard:
        if _is_held(directory, name):
            return _HERE
        try:
            with directory.open(name, "r+b") as file:
                return None if _system_lock(file.fileno()) else _holder_in(directory, name)
        except (OSError, SearchIndexError):
            return None


def is_held_elsewhere(path: Path) -> bool:
    """Whether another process holds the lock."""
    return holder(path) not in (None, _HERE)


def left_behind(path: Path) -> bool:
    """Whether a process ended without releasing the lock: it is free, and the file that names its holder remains."""
    with contextlib.suppress(OSError, SearchIndexError):
        return IndexDirectory(path.parent).size(signature(path.name)) is not None and holder(path) is None
    return False


def _key(status: os.stat_result) -> _Key:
    return os.getpid(), status.st_dev, status.st_ino


def _is_held(directory: IndexDirectory, name: str) -> bool:
    status = directory.status(name)
    return status is not None and _key(status) in _held


def _system_lock(file: int) -> bool:
    """Take the lock if it is free. Child processes do not inherit record locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, 2**20, os.SEEK_SET)  # far beyond the content, which stays readable
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _NO_LOCKS  # then only SQLite's locks protect, during transactions
    return True


def signature(name: str) -> str:
    """The name of the file that names the holder of this lock."""
    return f"{name}.json"


def _sign(directory: IndexDirectory, name: str) -> None:
    """Write the process, host and time for those who wait."""
    content = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError, SearchIndexError):  # a full disk must not prevent the lock
        directory.write(signature(name), json.dumps(content).encode(), durable=False)


def _holder_in(directory: IndexDirectory, name: str) -> str:
    try:
        content = parse_json(directory.read(signature(name), _MAX_SIGNATURE_BYTES))
        pid, host, since = int(content["pid"]), ascii(str(content["host"]))[1:-1], ascii(str(content["since"]))[1:-1]
        return f"process {pid} on {host[:_SHOWN]} (since {since[:_SHOWN]})"
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "another process"
