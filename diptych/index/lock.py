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

from diptych.index.faults import IndexBusyError, explained

_POLL_S = 0.1
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # what file systems without them say
# Where this process holds a lock: a system's lock is between processes, and opening its file again to read who holds
# it would, on closing, let it go (fcntl(2), "Advisory record locking").
_held: set[tuple[int, str]] = set()
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
    """
    key = os.getpid(), os.path.realpath(path)
    deadline, told = time.monotonic() + (wait_s or 0.0), False
    while isinstance(file := _attempt(path, key), str):
        if wait_s is not None and time.monotonic() >= deadline:
            raise IndexBusyError(f"{file} {does}. {remedy}")
        if on_wait and not told:
            on_wait(f"{file} {does}; waiting for it")
            told = True
        time.sleep(_POLL_S)
    try:
        _sign(file)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(file, 0)
        with _guard:
            _held.discard(key)
            os.close(file)


def _attempt(path: Path, key: tuple[int, str]) -> int | str:
    """The locked file, or who holds it."""
    with _guard:
        if key in _held:
            return "another thread of this process"
        with explained(path):
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if _system_lock(file):
            _held.add(key)
            return file
        try:
            return _who(file)
        finally:
            os.close(file)


def holder(path: Path) -> str | None:
    """Who holds the lock, in words; None where nobody does."""
    with _guard:
        if (os.getpid(), os.path.realpath(path)) in _held:
            return "this process"
        try:
            file = os.open(path, os.O_RDWR)
        except OSError:
            return None
        try:
            return None if _system_lock(file) else _who(file)
        finally:
            os.close(file)


def left_behind(path: Path) -> bool:
    """Whether a process ended without letting go: nobody holds the lock, and a name is still in it."""
    try:
        return path.stat().st_size > 0 and holder(path) is None
    except OSError:
        return False


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


def _sign(file: int) -> None:
    """Who we are and since when, for those who wait."""
    said = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError):  # a full disk hinders no lock
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        os.write(file, json.dumps(said).encode())


def _who(file: int) -> str:
    try:
        os.lseek(file, 0, os.SEEK_SET)
        said = json.loads(os.read(file, 4096))
        return f"process {said['pid']} on {said['host']} (since {said['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
