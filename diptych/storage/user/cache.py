"""What Diptych keeps in the user's cache, so that it need not be made again: how much it is, and how it goes."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from diptych.storage.user import compiled_cache

KINDS = {
    "compiled": "text towers as OpenVINO compiled them; a first search makes them again",
    "tokenizers": "names of tokenizers that were tried; opening them takes a moment longer once more",
    "vectors": "vectors of evaluated pictures; probe and evaluate make them again",
}


class Kept(NamedTuple):
    """One kind of what is kept: its folder, what it is for, and how many files and bytes there are."""

    folder: Path
    purpose: str
    files: int
    size: int


def kept() -> list[Kept]:
    """All kinds, also those of which there is nothing. RuntimeError for a user without a home."""
    found = []
    for name, purpose in KINDS.items():
        folder = compiled_cache.folder(name)
        sizes = [size for path in _files(folder) if (size := _size(path)) is not None]
        found.append(Kept(folder, purpose, len(sizes), sum(sizes)))
    return found


def empty() -> tuple[int, list[str]]:
    """Remove all of it, and nothing else; the bytes that went, and what could not be removed, in words."""
    before, trouble = kept(), list[str]()
    for each in before:
        with contextlib.suppress(FileNotFoundError):
            for entry in list(os.scandir(each.folder)):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)
                if os.path.lexists(entry.path):
                    trouble.append(entry.path)
    return sum(each.size for each in before) - sum(each.size for each in kept()), trouble


def _files(folder: Path) -> list[Path]:
    return [Path(here, name) for here, _, names in os.walk(folder) for name in names]


def _size(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return None
