"""What a name in an index's directory is that is no plain file, in words, and the errors that say so."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from diptych.errors import IndexDamagedError, IndexUnsafeError, SearchIndexError, Setting

REPAIR = Setting("repair", True, "diptych.examine")
_SHOWN = 200  # characters of where a link leads
_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder", stat.S_IFREG: "a file"}


def plain_name(name: str) -> str:
    """The name, where it is one of a file in the directory itself; ValueError for all others."""
    if not name or name in (".", "..") or "\0" in name or os.path.basename(name) != name:
        raise ValueError(f"{name!r} is no name of a file; wanted one without folders.")
    return name


def is_link(status: os.stat_result) -> bool:
    """Also a junction of Windows."""
    is_junction = getattr(status, "st_reparse_tag", 0) == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
    return stat.S_ISLNK(status.st_mode) or is_junction


def called(status: os.stat_result, target: str | None = None) -> str:
    """What something is; `target` is where a link leads."""
    if not is_link(status):
        return _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
    return "a link" if target is None else f"a link to {_shown(target)}"


def fault_of(path: Path, status: os.stat_result, target: str | None, *, is_changed: bool) -> SearchIndexError | None:
    """What is wrong with something as a file of an index; None where it is a plain file, and, where it `is_changed`,
    has no second name."""
    if stat.S_ISDIR(status.st_mode) and not is_link(status):
        return IndexDamagedError(f"{path} is a folder, in the place of a file.")
    if not stat.S_ISREG(status.st_mode) or is_link(status):
        return unsafe(path, called(status, target))
    if is_changed and status.st_nlink > 1:
        return IndexUnsafeError(
            f"{path} is a hard link: its bytes are those of {status.st_nlink - 1} other names as well.",
            remedy=["Replace it by a copy; ", REPAIR, " does that."],
        )
    return None


def unsafe(path: Path, what: str) -> IndexUnsafeError:
    """For a thing of any kind."""
    return IndexUnsafeError(
        f"{path} is {what}, and an index has plain files and folders alone; nothing was done with it.",
        remedy=["Remove it; ", REPAIR, " does that."],
    )


def unsafe_directory(path: Path, target: str | None) -> IndexUnsafeError:
    """For a link in the place of an index's own directory."""
    leads = "" if target is None else f" to {_shown(target)}"
    return IndexUnsafeError(
        f"{path} is a link{leads}, and the folder of an index is none; nothing was done with it.",
        remedy=["Remove it, or name the folder that it leads to with ", Setting("index", "DIR"), "."],
    )


def _shown(target: str) -> str:
    return ascii(target if len(target) <= _SHOWN else f"{target[:_SHOWN]}...")
