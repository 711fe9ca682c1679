"""Files and folders that appear complete or not at all.

- A reader finds the old content or the new, never a part of it.
- The bytes are on the disk before the name changes, and the new name is there when the block has ended. Caches
  with checksums leave both to the system with `durable=False`.
- A replaced file keeps its permission bits. A new file has the bits that the umask allows.
- Every error removes the temporary file or folder and leaves the old one as it was.
- No link is followed: a link at the path is replaced, and the temporary file is created exclusively.

A killed process may leave `.NAME.XXXXXXXX.part`. A later write removes it when it is a day old. Files
inside an index's directory are written by `diptych.storage.directory`, relative to its handle.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY  # O_EXCL follows no link, on any system
_STALE_S = 86_400  # no write takes that long
# Errors of systems that cannot flush a directory, or not one that is unreadable to the user.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM, errno.EBADF}


@contextlib.contextmanager
def atomic_write(path: Path, *, mode: int | None = None, durable: bool = True) -> Iterator[Path]:
    """Yield the path of a new, empty file, which replaces `path` when the block ends. `mode` sets the permission bits
    instead of keeping them."""
    with temporary_file(path, mode=0o666 if mode is None else mode) as part:
        yield part
        if durable:
            sync_file(part)
        if mode is None:
            _keep_mode(path, part)
        os.replace(part, path)
    if durable:
        sync_folder(path.parent)


def atomic_write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, complete or not at all."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def atomic_folder(path: Path, *, aside: Path | None = None) -> Iterator[Path]:
    """Yield the path of a new, empty folder, which is renamed to `path` when the block ends.

    A folder at `path` is renamed to `aside` just before. That makes two renames: a reader may find no folder for a
    moment, and a process that is killed at that moment leaves the old folder at `aside`.
    """
    part = path.with_name(temporary_name(path.name))
    part.mkdir(parents=True)
    try:
        yield part
        _sync_tree(part)
        if aside is not None and path.exists():
            path.rename(aside)
        part.rename(path)
    except BaseException:
        if aside is not None and aside.exists() and not path.exists():
            aside.rename(path)
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def temporary_file(path: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """Yield the path of a new, empty file beside `path`, and remove it when the block ends, if it is still there."""
    _remove_stale(path)
    part = path.with_name(temporary_name(path.name))
    os.close(os.open(part, _NEW, mode))
    try:
        yield part
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def temporary_name(name: str) -> str:
    """A hidden name that no other process uses."""
    return f".{name}.{secrets.token_hex(4)}.part"


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    access = os.O_RDWR if os.name == "nt" else os.O_RDONLY  # Windows flushes only files open for writing
    file = os.open(path, access | getattr(os, "O_NOFOLLOW", 0))
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, if the system supports that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def _sync_tree(folder: Path) -> None:
    for path, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(path, name))
        sync_folder(Path(path))


def _keep_mode(path: Path, part: Path) -> None:
    """Give `part` the permission bits of the regular file at `path`."""
    with contextlib.suppress(FileNotFoundError):
        old = os.lstat(path).st_mode
        if stat.S_ISREG(old) and (old ^ os.lstat(part).st_mode) & 0o777:
            os.chmod(part, old & 0o777)


def _remove_stale(path: Path) -> None:
    """Remove temporary files of `path` that killed processes left."""
    pattern = re.compile(re.escape(f".{path.name}.") + r"[0-9a-f]{8}\.part")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_S:
                        os.unlink(entry.path)
