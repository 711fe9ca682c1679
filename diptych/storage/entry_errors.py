"""Errors for entries of an index's directory that are not regular files of its own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from diptych.errors import IndexDamagedError, IndexUnsafeError, SearchIndexError, Setting
from diptych.untrusted.regular_files import describe_entry, describe_link, is_link

REPAIR = Setting("repair", True, "diptych.examine")


def plain_name(name: str) -> str:
    """The name, if it is that of an entry of the directory itself; ValueError for any other path."""
    if not name or name in (".", "..") or "\0" in name or os.path.basename(name) != name:
        raise ValueError(f"{name!r} is not the name of a file; expected one without folders.")
    return name


def error_for(path: Path, status: os.stat_result, target: str | None, *, is_changed: bool) -> SearchIndexError | None:
    """The error for an entry that cannot be a file of an index; None for a regular file. A file that `is_changed` must
    not be hard-linked elsewhere. `target` is that of a link."""
    if stat.S_ISDIR(status.st_mode) and not is_link(status):
        return IndexDamagedError(f"{path} is a folder; expected a file.")
    if not stat.S_ISREG(status.st_mode) or is_link(status):
        return unsafe_entry(path, describe_entry(status, target))
    if is_changed and status.st_nlink > 1:
        return IndexUnsafeError(
            f"{path} is a hard link: its bytes are also those of {status.st_nlink - 1} other names.",
            remedy=["Replace it with a copy; ", REPAIR, " does that."],
        )
    return None


def unsafe_entry(path: Path, description: str) -> IndexUnsafeError:
    """The error for an entry that is neither a regular file nor a folder."""
    return IndexUnsafeError(
        f"{path} is {description}. An index contains only regular files and folders, so it was not touched.",
        remedy=["Remove it; ", REPAIR, " does that."],
    )


def unsafe_directory(path: Path, target: str | None) -> IndexUnsafeError:
    """The error for an index directory that is a link."""
    return IndexUnsafeError(
        f"{path} is {describe_link(target)}. An index directory must not be a link, so it was not touched.",
        remedy=["Remove it, or name the folder that it leads to with ", Setting("index", "DIR"), "."],
    )
