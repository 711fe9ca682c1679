"""Temporary folders for unpacked data. They are removed after errors, on a full disk and at the program's end. The next
program removes those of a killed one, because a folder is locked only as long as its program runs. Folders and files
are private to this user, newly created, and limited in size."""

import atexit
import contextlib
import errno
import os
import shutil
import socket
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

from diptych.errors import DataError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

# With the host name: machines may share the folder, and locks may not work between them.
PREFIX = f"diptych-unpacked-{socket.gethostname()}-"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_DISK = "full disk"  # the failure reason
_MAX_RATIO, _MIN_ROOM = 50, 256 << 20  # largest ratio of unpacked to packed bytes; bytes that are always allowed
# Folder -> the process that created it (a forked process must not remove it), and the open file that locks it.
_held: dict[str, tuple[int, int | None]] = {}


@contextlib.contextmanager
def unpacking() -> Iterator[Path]:
    """A new folder for files that the block unpacks; it is removed if the block fails, and at the program's end. Raises
    DataError if the disk is full."""
    _sweep()
    folder = _made()
    try:
        yield Path(folder)
    except BaseException as error:
        _remove(folder)
        if isinstance(error, OSError) and error.errno in DISK_FULL and str(error.filename or folder).startswith(folder):
            raise DataError(f"no room for {folder}; set TMPDIR to a folder with more.", FULL_DISK) from error
        raise


def room_for(packed: int) -> int:
    """The number of bytes that `packed` bytes may unpack to."""
    return _MAX_RATIO * max(0, packed) + _MIN_ROOM


class SpoolFile:
    """A new private file for unpacked data, of at most `limit` bytes."""

    def __init__(self, path: Path, limit: int, content: str):
        """`content` describes the data in errors."""
        self.limit, self.size, self._content = limit, 0, content
        self._file = open(path, "xb", opener=private)  # noqa: SIM115

    def write(self, data: bytes) -> int:
        """Appends bytes. Raises DataError above the limit, OSError if the disk is full."""
        self.size += len(data)
        if self.size > self.limit:
            raise DataError(f"{self._content} unpacks to more than {self.limit:,} bytes; it is not read.", "too large")
        return self._file.write(data)

    def __enter__(self) -> "SpoolFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def private(path: str, flags: int) -> int:
    """An opener for `open`: files that only this user can read, never through a link."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _made() -> str:
    """A new folder, locked before it gets the name by which other programs find it."""
    new, handle = Path(tempfile.mkdtemp(prefix=f".{PREFIX}")), None
    if fcntl:
        handle = os.open(new, os.O_RDONLY)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
    folder = str(new.rename(new.with_name(new.name.removeprefix("."))))
    _held[folder] = os.getpid(), handle
    return folder


def _sweep() -> None:
    """Removes the folders of killed programs."""
    if fcntl is None:
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's folder, or one in use
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def remove_with(owner: object, folder: Path) -> None:
    """Removes a folder of `unpacking` when `owner` is garbage-collected."""
    weakref.finalize(owner, _remove, str(folder))


def _remove(folder: str) -> None:
    """Takes no lock, because the garbage collector may call this at any moment; operations of a dict are atomic."""
    maker, handle = _held.get(folder, (None, None))
    if maker == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)
        if _held.pop(folder, None) and handle is not None:
            os.close(handle)


@atexit.register
def _remove_all() -> None:
    """Also removes folders that a background thread is still filling, which have no owner yet."""
    for folder in list(_held):
        _remove(folder)
