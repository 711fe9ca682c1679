"""The user's configuration folder: small private files, written atomically."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from diptych.storage.atomic import atomic_write, sync_file, sync_folder, temporary_file
from diptych.storage.user.cache_folder import home_folder

LIMIT = 65_536  # bytes; the files here have a few hundred
_PRIVATE = 0o600


def folder() -> Path:
    """The folder: $XDG_CONFIG_HOME or the system's default for settings, then diptych. Raises RuntimeError for a user
    without a home."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(configured):  # a relative path is ignored, as for the cache
        return Path(configured) / "diptych"
    home = home_folder()
    usual = {"darwin": home / "Library" / "Application Support", "win32": Path(os.environ.get("APPDATA", home))}
    return usual.get(sys.platform, home / ".config") / "diptych"


def read(name: str) -> bytes | None:
    """A file's content, at most LIMIT bytes; None if there is no file. Raises OSError if it cannot be read or belongs
    to another user."""
    try:
        with open(folder() / name, "rb") as file:
            if hasattr(os, "geteuid") and os.fstat(file.fileno()).st_uid not in (0, os.geteuid()):
                raise PermissionError(errno.EPERM, "it belongs to another user", os.fspath(folder() / name))
            return file.read(LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(name: str, content: bytes) -> None:
    """Write a file, replacing an existing one. Raises OSError."""
    path = folder() / name
    _make_private(path.parent)
    with atomic_write(path, mode=_PRIVATE) as part:
        part.write_bytes(content)


def create(name: str, content: bytes) -> bytes:
    """Write a file if there is none, and return the content of the file that now exists: if two processes
    create it at once, both get the first one's content. Raises OSError."""
    path = folder() / name
    _make_private(path.parent)
    with temporary_file(path, mode=_PRIVATE) as part:
        part.write_bytes(content)
        sync_file(part)
        try:
            os.link(part, path)
        except FileExistsError:
            return path.read_bytes()
        except OSError:  # file systems without hard links
            if path.exists():
                return path.read_bytes()
            os.replace(part, path)
    sync_folder(path.parent)
    return content


def remove(name: str) -> None:
    """Remove a file, if it exists. Raises OSError."""
    (folder() / name).unlink(missing_ok=True)


def names(below: str) -> list[str]:
    """The names of the files in a subfolder, sorted, without files that are being written."""
    try:
        return sorted(f"{below}/{name}" for name in os.listdir(folder() / below) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _make_private(path: Path) -> None:
    """Create a folder and its missing parents, closed to other users."""
    if not path.is_dir():
        if path.parent != path:
            _make_private(path.parent)
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path)) from None
