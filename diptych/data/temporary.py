"""Temporary folders that do not outlive what they are for: not an error, not a full disk, not the program's end. Those
of a program that was killed go when another wants some: a folder is locked as long as its program runs. Folders and the
files in them are this user's alone, are made anew, and take no more than what went in lets expect."""

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
except ImportError:  # Windows, where nothing tells whether a program still runs
    fcntl = None  # type: ignore[assignment]

# Nobody else's: a folder may be shared by machines, between which no lock counts.
PREFIX = f"diptych-unpacked-{socket.gethostname()}-"
FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_DISK = "full disk"  # the reason of what found no room
_TIMES, _ANYHOW = 50, 256 << 20  # of what is packed, and of how little it may be: pictures hardly pack at all
# Folder -> the process that made it, for one that was forked off it removes nothing, and the open file that locks it.
_held: dict[str, tuple[int, int | None]] = {}


@contextlib.contextmanager
def unpacking() -> Iterator[Path]:
    """An empty folder for what is unpacked in the block; it is removed where that fails, and at the program's end.

    DataError that names the folder where the disk is full.
    """
    _sweep()
    folder = _made()
    try:
        yield Path(folder)
    except BaseException as error:
        _remove(folder)
        if isinstance(error, OSError) and error.errno in FULL and str(error.filename or folder).startswith(folder):
            raise DataError(f"no room is left for {folder}; set TMPDIR to a folder with more.", FULL_DISK) from error
        raise


def room_for(packed: int) -> int:
    """How many bytes may come out of so many packed ones."""
    return _TIMES * max(0, packed) + _ANYHOW


class Output:
    """A new file for what is unpacked: this user's alone, and of no more than `limit` bytes."""

    def __init__(self, path: Path, limit: int, what: str):
        """`what` is unpacked, in words."""
        self.limit, self.size, self._what = limit, 0, what
        self._file = open(path, "xb", opener=private)  # noqa: SIM115

    def write(self, data: bytes) -> int:
        """Add some bytes. DataError where they are too many, OSError where the disk is full."""
        self.size += len(data)
        if self.size > self.limit:
            raise DataError(f"{self._what} unpacks to more than {self.limit:,} bytes; it is not read.", "too large")
        return self._file.write(data)

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def private(path: str, flags: int) -> int:
    """An opener of files that are this user's alone, and through no link."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _made() -> str:
    """A new folder, locked before it has the name by which others find it."""
    new, handle = Path(tempfile.mkdtemp(prefix=f".{PREFIX}")), None
    if fcntl:
        handle = os.open(new, os.O_RDONLY)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
    folder = str(new.rename(new.with_name(new.name.removeprefix("."))))
    _held[folder] = os.getpid(), handle
    return folder


def _sweep() -> None:
    """Remove what killed programs left behind."""
    if fcntl is None:
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or one in use
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def remove_with(owner: object, folder: Path) -> None:
    """Remove a folder of `unpacking` as soon as nobody holds `owner` any more."""
    weakref.finalize(owner, _remove, str(folder))


def _remove(folder: str) -> None:
    """No lock: this is called by the garbage collector, too, at any moment; a dict's own steps are atomic."""
    maker, handle = _held.get(folder, (None, None))
    if maker == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)
        if _held.pop(folder, None) and handle is not None:
            os.close(handle)


@atexit.register
def _remove_all() -> None:
    """What a thread in the background is still filling has no owner yet."""
    for folder in list(_held):
        _remove(folder)
