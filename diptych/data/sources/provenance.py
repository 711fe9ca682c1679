"""Which files of data there are, and marks by which copies of them are known again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from diptych.data.sources.opening import matching_files
from diptych.data.sources.shards import SHARDS
from diptych.errors import DataError
from diptych.untrusted.links import walk
from diptych.untrusted.regular_files import open_file

_PIECE = 1 << 16  # bytes that are read at the start, in the middle and at the end of a file
_THREADS = 8
_ENDINGS = (*SHARDS, ".parquet")


class MarkedFile(NamedTuple):
    """A file by its absolute path, and its mark (see `mark_of`)."""

    path: Path
    mark: str


def mark_of(path: str | os.PathLike[str]) -> str:
    """A hash of a file's size and of some of its bytes: it is the same for a copy under another name, and differs when
    samples were removed. It costs three reads, whatever the size. Raises OSError."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        hashed = hashlib.blake2b(b"%d" % size, digest_size=16)
        for offset in (0, size // 2, max(0, size - _PIECE)):
            file.seek(offset)
            hashed.update(file.read(_PIECE))
    return hashed.hexdigest()


def marked_files(spec: str) -> list[MarkedFile]:
    """The shards and Parquet files that `spec`, a source as `open_source` takes it, names on this machine, with their
    marks; none for an address. Files that cannot be read are left out."""
    paths = sorted({Path(os.path.abspath(path)) for path in _paths(spec)})
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="diptych-marks") as pool:
        marks = pool.map(_mark_or_none, paths)
        return [MarkedFile(path, mark) for path, mark in zip(paths, marks, strict=True) if mark]


def _paths(spec: str) -> Iterator[Path]:
    if "://" in spec:
        return
    found: Iterator[Path] = iter(())
    if os.path.isdir(spec):
        found = (Path(here, name) for here, _, names in walk(Path(spec)) for name in names)
    else:
        with suppress(DataError):
            found = iter([Path(spec)] if os.path.isfile(spec) else matching_files(spec))
    yield from (path for path in found if path.name.lower().endswith(_ENDINGS))


def _mark_or_none(path: Path) -> str | None:
    try:
        return mark_of(path)
    except OSError:
        return None
