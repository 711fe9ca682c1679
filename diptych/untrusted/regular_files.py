"""Files opened as what they are: plain ones alone, so that no pipe, socket or device is waited for, and no more read
than a file says that it holds."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from diptych.errors import FileError

MAX_BYTES = 512 << 20  # of a picture's file, or of another that is read whole
DAMAGED_PATH = "damaged path"  # the reason of a path with a NUL, or of half a character
_KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)  # fmt: skip
_MADE_UP = ("/proc", "/sys")  # what lies there is made as it is read, and may have no end
# Windows has neither; there no name of a pipe or device passes for a file in a folder.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """A plain file, opened to be read. FileError where it is a folder, pipe, socket, device or an entry of /proc or
    /sys; OSError where it cannot be opened."""
    try:
        _refuse(path, os.stat(path))  # before it is opened: some devices act on that
        handle = os.open(path, _FLAGS)
    except ValueError as error:
        raise FileError(f"{os.fspath(path)!r:.200} can be no file's path ({error}).", DAMAGED_PATH) from error
    try:
        _refuse(path, os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: str | os.PathLike[str], limit: int = MAX_BYTES) -> bytes:
    """A plain file's bytes. FileError as in `open_file`, and where it holds more than `limit` of them."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1) if size <= limit else b""
    if max(size, len(data)) > limit:
        raise FileError(
            f"{os.fspath(path)} has {max(size, len(data)):,} bytes; at most {limit:,} are read.", "too large"
        )
    return data


def _refuse(path: str | os.PathLike[str], status: os.stat_result) -> None:
    kind = next((name for test, name in _KINDS if test(status.st_mode)), None)
    if kind is None and not getattr(status, "st_blocks", 1) and status.st_dev in map(_device, _MADE_UP):
        kind = "an entry of /proc or /sys"
    if kind is not None:
        raise FileError(f"{os.fspath(path)} is {kind}; wanted a file.", "not a regular file")


def _device(folder: str) -> int | None:
    try:
        return os.stat(folder).st_dev if os.name == "posix" else None
    except OSError:
        return None
