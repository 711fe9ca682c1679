"""One writer at a time: an advisory lock that goes with its process, however that ends."""

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
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # what file systems without them say
_SAID_BYTES, _SHOWN = 4096, 64
_HERE = "this process"
# Where this process holds a lock: a system's lock is between processes, and opening its file again would, on closing,
# let it go (fcntl(2), "Advisory record locking"). The file is told by its device and inode.
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
    """Hold the lock at `path` for the block. Where another has it: wait up to `wait_s` seconds (None: for ever), after
    telling `on_wait` who that is; then IndexBusyError. A lock whose process is gone counts as free.

    The file of the lock is opened, and never written to: whose lock it is stands in another beside it, NAME.json.
    Raises IndexUnsafeError where it is no plain file.
    """
    directory, name = IndexDirectory(path.parent), path.name
    deadline, told = time.monotonic() + (wait_s or 0.0), False
    while isinstance(taken := _attempt(directory, name), str):
        if wait_s is not None and time.monotonic() >= deadline:
            raise IndexBusyError(f"{taken} {does}. {remedy}")
        if on_wait and not told:
            on_wait(f"{taken} {does}; waiting for it")
            told = True
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
    """The locked file and what tells it from others, or who holds it."""
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
        return _who(directory, name)


def holder(path: Path) -> str | None:
    """Who holds the lock, in words; None where nobody does."""
    directory, name = IndexDirectory(path.parent), path.name
    with _guard:
        if _is_held(directory, name):
            return _HERE
        try:
            with directory.open(name, "r+b") as file:
                return None if _system_lock(file.fileno()) else _who(directory, name)
        except (OSError, SearchIndexError):
            return None


def is_held_elsewhere(path: Path) -> bool:
    """Whether another process holds the lock."""
    return holder(path) not in (None, _HERE)


def left_behind(path: Path) -> bool:
    """Whether a process ended without letting go: nobody holds the lock, and somebody's name is still there."""
    with contextlib.suppress(OSError, SearchIndexError):
        return IndexDirectory(path.parent).size(signature(path.name)) is not None and holder(path) is None
    return False


def _key(status: os.stat_result) -> _Key:
    return os.getpid(), status.st_dev, status.st_ino


def _is_held(directory: IndexDirectory, name: str) -> bool:
    status = directory.status(name)
    return status is not None and _key(status) in _held


def _system_lock(file: int) -> bool:
    """Take the lock if it is free. Record locks are not inherited: no child that outlives us keeps it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, 2**20, os.SEEK_SET)  # far behind the name, which stays readable
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _NO_LOCKS  # then SQLite's own, for the time of a transaction, must do
    return True


def signature(name: str) -> str:
    """Beside a lock of that name, the file that says whose it is."""
    return f"{name}.json"


def _sign(directory: IndexDirectory, name: str) -> None:
    """Who we are and since when, for those who wait."""
    said = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError, SearchIndexError):  # a full disk hinders no lock
        directory.write(signature(name), json.dumps(said).encode(), durable=False)


def _who(directory: IndexDirectory, name: str) -> str:
    try:
        said = parse_json(directory.read(signature(name), _SAID_BYTES))
        pid, host, since = int(said["pid"]), ascii(str(said["host"]))[1:-1], ascii(str(said["since"]))[1:-1]
        return f"process {pid} on {host[:_SHOWN]} (since {since[:_SHOWN]})"
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "another process"
