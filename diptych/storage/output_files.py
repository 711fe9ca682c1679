"""Files written into a folder that the user named, and nowhere else. Such a folder may have come from anybody, with
links inside: those are neither followed nor filled. The folder itself may be called by a link, for that is the user's
own word."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from diptych.errors import OutputError

_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY  # O_EXCL follows no link, on any system
# What is a file when it is looked at may be a FIFO when it is opened; Windows knows neither, and no FIFO in a folder.
_APPEND = os.O_CREAT | os.O_APPEND | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def subfolder(folder: Path) -> Path:
    """A folder, made where it is missing, with those above it. OutputError where it is a link, or no folder."""
    refuse_link(folder)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(parents=True)
    if not folder.is_dir():
        raise OutputError(f"{folder} is no folder; move it away, or write to another.")
    return folder


def refuse_link(path: Path) -> None:
    """OutputError where a link stands at `path`, wherever it leads."""
    if path.is_symlink() or getattr(path, "is_junction", bool)():  # the latter on Windows, from Python 3.12 on
        raise OutputError(f"{path} is a link, and links in a folder that is written to are not followed; remove it.")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new, empty file beside `path`, to be filled in the block, which then takes its place: the file is there whole
    or not at all, and a link there is replaced and not followed."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # what a killed process left, or a link
    os.close(os.open(part, _NEW, 0o666))
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def replace_text(path: Path, text: str) -> None:
    """A file of text in UTF-8, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def appending(path: Path) -> TextIO:
    """A file of text, made where it is missing, open for further lines. OutputError where anything but a plain file
    stands there."""
    refuse_link(path)
    handle = os.open(path, _APPEND, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OutputError(f"{path} is no plain file. Move it away, or write to another folder.")
    return open(handle, "a", encoding="utf-8")
