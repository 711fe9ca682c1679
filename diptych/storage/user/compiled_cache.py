"""Compiled towers in the user's cache: compiling one takes longer than the rest of a search."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.errors import FileError
from diptych.storage.atomic import atomic_write
from diptych.storage.user.cache_folder import cache_folder
from diptych.untrusted.regular_files import open_file

if TYPE_CHECKING:
    from jaxtyping import UInt8

KEPT = 8  # files; the least recently used is deleted first
_PRIVATE = 0o600


def folder(name: str = "compiled") -> Path:
    """The cache folder of this name."""
    return cache_folder(name)


def key(files: Iterable[Path], *settings: str) -> str:
    """A name for the result of compiling these files, in their current state, under these settings."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.blake2b(repr((stats, settings)).encode(), digest_size=16).hexdigest()


def read(name: str) -> UInt8[np.ndarray, " bytes"] | None:
    """The content of this name, mapped into memory; None if there is none that only this user can have written. A
    damaged file is deleted."""
    # ValueError: an empty file cannot be mapped
    with contextlib.suppress(OSError, RuntimeError, ValueError, FileError):
        path = folder() / name
        with open_file(path) as file:
            if not _is_own(file.fileno()):
                return None
            content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
        if len(content) > 4 and zlib.crc32(content[:-4].data) == int.from_bytes(content[-4:].tobytes(), "little"):
            os.utime(path)
            return content[:-4]
        del content  # Windows deletes no file that is mapped
        path.unlink()
    return None


def _is_own(file: int) -> bool:
    """Whether an open file is this user's or the system's and not writable for all: a compiled tower is a program."""
    status = os.fstat(file)
    is_ours = not hasattr(os, "geteuid") or status.st_uid in (0, os.geteuid())
    return is_ours and (os.name == "nt" or not status.st_mode & stat.S_IWOTH)


def let_go(content: np.ndarray) -> None:
    """Free the memory of what `read` returned; what is used again is read from the file again."""
    mapped: Any = content
    while isinstance(mapped, np.ndarray):
        mapped = mapped.base
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.obj.madvise(mmap.MADV_DONTNEED)


def write(name: str, content: bytes | memoryview) -> None:
    """Keep the content, if the folder is writable, and delete the least recently used files beyond KEPT."""
    with contextlib.suppress(OSError, RuntimeError):
        path = folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, mode=_PRIVATE, durable=False) as part, open(part, "wb") as file:
            file.write(content)
            file.write(zlib.crc32(content).to_bytes(4, "little"))
        files = sorted(path.parent.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)
        for old in files[KEPT:]:
            old.unlink(missing_ok=True)
