"""Compiled text towers, kept in the user's cache for the next process: compiling takes longer than a search's rest."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from diptych.storage.cache_folder import cache_folder

KEPT = 8  # files; the one that was not used for the longest goes first


def folder(name: str = "compiled") -> Path:
    """Where they lie, as `cache_folder` says."""
    return cache_folder(name)


def key(files: Iterable[Path], *said: str) -> str:
    """A name for what these files, as they are now, are compiled to under these settings."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.blake2b(repr((stats, said)).encode(), digest_size=16).hexdigest()


def read(name: str) -> bytes | None:
    """What was written under this name; None where there is nothing, or a damaged file, which is removed."""
    with contextlib.suppress(OSError, RuntimeError):
        path = folder() / name
        content = path.read_bytes()
        if len(content) > 4 and zlib.crc32(memoryview(content)[:-4]) == int.from_bytes(content[-4:], "little"):
            os.utime(path)
            return content[:-4]
        path.unlink()
    return None


def write(name: str, content: bytes) -> None:
    """Keep it, if the place can be written to; the file appears whole or not at all."""
    with contextlib.suppress(OSError, RuntimeError):
        path = folder() / name
        part = path.with_name(f".{name}.{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(content + zlib.crc32(content).to_bytes(4, "little"))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        files = sorted(path.parent.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)
        for old in files[KEPT:]:
            old.unlink(missing_ok=True)
