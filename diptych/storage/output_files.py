"""Subfolders and logs inside an output folder. The folder may be untrusted, so no link inside it is followed. The
path that the user names may itself be a link."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TextIO

from diptych.errors import OutputError

# O_NONBLOCK, because a pipe may replace the file before it is opened. Windows has neither flag and no pipes.
_APPEND = os.O_CREAT | os.O_APPEND | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def subfolder(folder: Path) -> Path:
    """Create a folder and its missing parents. Raises OutputError if the path is a link or not a folder."""
    refuse_link(folder)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(parents=True)
    if not folder.is_dir():
        raise OutputError(f"{folder} is not a folder; move it away, or write to another.")
    return folder


def refuse_link(path: Path) -> None:
    """Raise OutputError if `path` is a link, whatever its target."""
    if path.is_symlink() or getattr(path, "is_junction", bool)():  # is_junction: Windows, from Python 3.12 on
        raise OutputError(f"{path} is a link, and links in an output folder are not followed; remove it.")


def open_for_append(path: Path) -> TextIO:
    """Open a text file for appending; create it if it is missing. Raises OutputError if it is not a regular file."""
    refuse_link(path)
    handle = os.open(path, _APPEND, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OutputError(f"{path} is not a regular file. Move it away, or write to another folder.")
    return open(handle, "a", encoding="utf-8")
