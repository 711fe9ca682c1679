"""Temporary folders that do not outlive what they are for: not an error, not a full disk, not the program's end."""

import atexit
import contextlib
import errno
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

from diptych.data.samples import DataError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_held: dict[str, int] = {}  # folder -> the process that made it; one that was forked off it removes nothing


@contextlib.contextmanager
def unpacking() -> Iterator[Path]:
    """An empty folder for what is unpacked in the block; it is removed where that fails, and at the program's end.

    DataError that names the folder where the disk is full.
    """
    folder = tempfile.mkdtemp(prefix="diptych-")
    _held[folder] = os.getpid()
    try:
        yield Path(folder)
    except BaseException as error:
        _remove(folder)
        if isinstance(error, OSError) and error.errno in _FULL and str(error.filename or folder).startswith(folder):
            raise DataError(f"no room is left for {folder}; set TMPDIR to a folder with more.", "full disk") from error
        raise


def remove_with(owner: object, folder: Path) -> None:
    """Remove a folder of `unpacking` as soon as nobody holds `owner` any more."""
    weakref.finalize(owner, _remove, str(folder))


def _remove(folder: str) -> None:
    """No lock: this is called by the garbage collector, too, at any moment; a dict's own steps are atomic."""
    if _held.get(folder) == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)
        _held.pop(folder, None)


@atexit.register
def _remove_all() -> None:
    """What a thread in the background is still filling has no owner yet."""
    for folder in list(_held):
        _remove(folder)
