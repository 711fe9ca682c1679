"""The contents of the user's cache: their size, and their removal."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from diptych.storage.user import compiled_cache

KINDS = {
    "greys": "small grey versions of pictures that were compared for duplicates; they are read again",
    "compiled": "text towers compiled by OpenVINO; the next search compiles them again",
    "tokenizers": "names of tested tokenizers; the next opening takes a moment longer",
    "thumbnails": "small pictures that `diptych serve` showed; it makes them again",
    "uploads": "pictures that were searched by on the page of `diptych serve`; its saved URLs lose them",
    "vectors": "vectors of evaluated pictures; probe and evaluate compute them again",
}


class Kept(NamedTuple):
    """One kind of cache: its folder, its purpose, and its numbers of files and bytes."""

    folder: Path
    purpose: str
    files: int
    size: int


def kept() -> list[Kept]:
    """All kinds, also the empty ones. Raises RuntimeError for a user without a home."""
    found = []
    for name, purpose in KINDS.items():
        folder = compiled_cache.folder(name)
        sizes = [size for path in _files(folder) if (size := _size(path)) is not None]
        found.append(Kept(folder, purpose, len(sizes), sum(sizes)))
    return found


def empty() -> tuple[int, list[str]]:
    """Remove the contents of all kinds. Returns the bytes freed, and the paths that could not be removed."""
    before, remaining = kept(), list[str]()
    for each in before:
        with contextlib.suppress(FileNotFoundError):
            for entry in list(os.scandir(each.folder)):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)
                if os.path.lexists(entry.path):
                    remaining.append(entry.path)
    return sum(each.size for each in before) - sum(each.size for each in kept()), remaining


def _files(folder: Path) -> list[Path]:
    return [Path(here, name) for here, _, names in os.walk(folder) for name in names]


def _size(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return None
