"""The user's own configuration folder: small files that nobody else can read, each there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diptych.storage.cache_folder import home_folder

LIMIT = 65_536  # bytes; what is kept here has a few hundred


def folder() -> Path:
    """Where they lie: $XDG_CONFIG_HOME or the system's usual place for settings, then diptych. Raises RuntimeError for
    a user without a home."""
    said = os.environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(said):  # a relative one is passed over, as for the cache
        return Path(said) / "diptych"
    home = home_folder()
    usual = {"darwin": home / "Library" / "Application Support", "win32": Path(os.environ.get("APPDATA", home))}
    return usual.get(sys.platform, home / ".config") / "diptych"


def read(name: str) -> bytes | None:
    """A file's content, at most LIMIT bytes; None where there is none. Raises OSError where it cannot be read, or is
    not the user's own."""
    try:
        with open(folder() / name, "rb") as file:
            if hasattr(os, "geteuid") and os.fstat(file.fileno()).st_uid not in (0, os.geteuid()):
                raise PermissionError(errno.EPERM, "it belongs to another user", os.fspath(folder() / name))
            return file.read(LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(name: str, content: bytes) -> None:
    """Put a file in its place. Raises OSError where that cannot be written."""
    path = folder() / name
    with _aside(path, content) as part:
        os.replace(part, path)


def create(name: str, content: bytes) -> bytes:
    """Put a file in its place where there is none, and say what is there now: of two processes that do so at once, one
    is first, and both are told what that one wrote. Raises OSError where it cannot be written."""
    path = folder() / name
    with _aside(path, content) as part:
        try:
            os.link(part, path)
        except FileExistsError:
            return path.read_bytes()
        except OSError:  # file systems without hard links
            if path.exists():
                return path.read_bytes()
            os.replace(part, path)
    return content


def remove(name: str) -> None:
    """Take a file away, if it is there. Raises OSError where that cannot be done."""
    (folder() / name).unlink(missing_ok=True)


def names(below: str) -> list[str]:
    """What the files of a folder here are called, by name; of those that are written just now none."""
    try:
        return sorted(f"{below}/{name}" for name in os.listdir(folder() / below) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextmanager
def _aside(path: Path, content: bytes) -> Iterator[Path]:
    """The content in a file of its own beside `path`, on the disk, for as long as the block runs."""
    _make(path.parent)
    part = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with open(file, "wb") as writer:
            writer.write(content)
            writer.flush()
            os.fsync(writer.fileno())
        yield part
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def _make(path: Path) -> None:
    """Make a folder and those above, open to nobody else."""
    if not path.is_dir():
        if path.parent != path:
            _make(path.parent)
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path)) from None
