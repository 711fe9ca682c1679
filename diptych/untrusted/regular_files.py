"""Opening and reading of regular files only: a pipe, socket or device never blocks, and no file is read beyond its
stated size."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from diptych.errors import FileError

MAX_BYTES = 512 << 20  # of a file that is read at once, such as a picture
DAMAGED_PATH = "damaged path"  # the reason for a path with a NUL or an unpaired surrogate
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFREG: "a file"}
_MAX_TARGET = 200  # characters of a link's target in a message
_GENERATED = ("/proc", "/sys")  # their files are generated while they are read, and may be endless
# Windows lacks some; there no folder contains a pipe or a device.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading. Raises FileError for a folder, pipe, socket, device or entry of /proc or /sys,
    OSError if it cannot be opened."""
    try:
        _refuse(path, os.stat(path))  # before opening, because some devices react to that
        handle = os.open(path, _FLAGS)
    except ValueError as error:
        raise FileError(f"{os.fspath(path)!r:.200} cannot be the path of a file ({error}).", DAMAGED_PATH) from error
    try:
        _refuse(path, os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: str | os.PathLike[str], limit: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file. Raises FileError as `open_file` does, and if there are more than `limit`."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1) if size <= limit else b""
    if max(size, len(data)) > limit:
        raise FileError(
            f"{os.fspath(path)} has {max(size, len(data)):,} bytes; at most {limit:,} are read.", "too large"
        )
    return data


def is_link(status: os.stat_result) -> bool:
    """Whether an entry is a symbolic link, or a junction on Windows."""
    is_junction = getattr(status, "st_reparse_tag", 0) == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
    return stat.S_ISLNK(status.st_mode) or is_junction


def describe_entry(status: os.stat_result, target: str | None = None) -> str:
    """The kind of an entry in words; `target` is that of a link."""
    return describe_link(target) if is_link(status) else _KINDS.get(stat.S_IFMT(status.st_mode), "a device")


def describe_link(target: str | None) -> str:
    """A link in words, with its target escaped and shortened."""
    if target is None:
        return "a link"
    return f"a link to {target if len(target) <= _MAX_TARGET else f'{target[:_MAX_TARGET]}...'!a}"


def _refuse(path: str | os.PathLike[str], status: os.stat_result) -> None:
    kind = None if stat.S_ISREG(status.st_mode) else describe_entry(status)
    if kind is None and not getattr(status, "st_blocks", 1) and status.st_dev in map(_device, _GENERATED):
        kind = "an entry of /proc or /sys"
    if kind is not None:
        raise FileError(f"{os.fspath(path)} is {kind}; expected a file.", "not a regular file")


def _device(folder: str) -> int | None:
    try:
        return os.stat(folder).st_dev if os.name == "posix" else None
    except OSError:
        return None
