"""The files of an index: the one module that opens, lists, renames and removes entries of an index's directory.

A directory of pictures is unpacked, downloaded and passed on with its index inside, so an entry may be hostile: a
link that leads out, a FIFO that blocks, a journal that SQLite would act on. Every operation is therefore relative to a
handle of the directory. No link is followed, and a file that is not regular is refused.

A handle lives for one operation; the next one opens the directory that then has the path. Windows cannot open
directories and has no O_NOFOLLOW: there, each name is checked before it is opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Literal, NamedTuple

from diptych.errors import IndexDamagedError, IndexDirectoryError, IndexUnsafeError, SearchIndexError, Setting
from diptych.storage.entry_errors import error_for, plain_name, unsafe_directory, unsafe_entry
from diptych.storage.error_translation import translated_errors
from diptych.storage.journals import JOURNAL_SUFFIXES, check_journal
from diptych.storage.query_budget import BudgetedConnection
from diptych.untrusted.regular_files import describe_entry, is_link

NAME = ".diptych"
_HAS_HANDLES = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY") and hasattr(os, "O_NOFOLLOW")
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# O_NONBLOCK, because a FIFO may replace a regular file between the check and the opening
_FILE = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"))
_MODES = {"rb": os.O_RDONLY, "r+b": os.O_RDWR, "xb": os.O_RDWR | os.O_CREAT | os.O_EXCL}
_WAIT_S = 60.0  # how long a reader and a writer of a catalog wait for each other's transaction
# Prefixes of an index's files. A directory that the user named may also contain files of other programs.
_OWN = (".gitignore", "identity.json", "lock", "catalog", "nearest-", "background-")

Mode = Literal["rb", "r+b", "xb"]


class Foreign(NamedTuple):
    """An entry with the name of an index's file that is neither a regular file nor a directory: its directory, its
    name, and its kind in words."""

    directory: IndexDirectory
    name: str
    kind: str

    @property
    def path(self) -> Path:
        """The path of the entry."""
        return self.directory.path / self.name


class IndexDirectory:
    """The directory of an index, or one inside it. It is opened for each operation, and no handle stays open.

    A `path` that is a link is followed, once, because the user named it. A link called .diptych is not followed,
    because it may come with the pictures.

    The methods take names of the directory's own entries, and raise ValueError for other paths. They raise
    IndexUnsafeError if the directory is reached through a link, or the file is a link, a FIFO, a socket or a device;
    IndexDamagedError if a directory has the name of a file; OSError, with the whole path, as the system does.
    """

    def __init__(self, path: str | os.PathLike[str], *, _above: IndexDirectory | None = None):
        self.path = Path(os.path.abspath(os.fsdecode(path)))
        self._above = _above
        if _above is None and self.path.name != NAME and self.path.is_symlink():
            self.path = Path(os.path.realpath(self.path))

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> IndexDirectory:
        """The directory at a path; an IndexDirectory is returned as it is."""
        return path if isinstance(path, IndexDirectory) else cls(path)

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return os.fspath(self.path)

    def __repr__(self) -> str:
        return f"IndexDirectory({os.fspath(self.path)!r})"

    def directory(self, name: str) -> IndexDirectory:
        """A directory inside this one, which need not exist."""
        return IndexDirectory(self.path / plain_name(name), _above=self)

    # --- entries

    @property
    def exists(self) -> bool:
        """Whether the directory exists."""
        try:
            with self._opened():
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False

    @property
    def owner(self) -> int | None:
        """The id of the user who owns the directory, or the link at its path; None if there is neither."""
        try:
            return os.lstat(self.path).st_uid
        except OSError:
            return None

    def names(self) -> list[str]:
        """The names of all entries, sorted; none if the directory does not exist."""
        try:
            with self._opened() as handle:
                return sorted(os.listdir(self.path if handle is None else handle))
        except FileNotFoundError:
            return []

    def status(self, name: str) -> os.stat_result | None:
        """The status of an entry, of a link itself; None if there is no entry."""
        try:
            with self._opened() as handle:
                return os.stat(self._at(name, handle), dir_fd=handle, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def plain(self, name: str) -> os.stat_result | None:
        """The status of a regular file; None if there is no entry. Raises for any other kind of entry."""
        status = self.status(name)
        if status is not None:
            self._check(name, status)
        return status

    def size(self, name: str) -> int | None:
        """The size of a regular file in bytes; None if there is no entry, or a directory."""
        status = self.status(name)
        if status is None or stat.S_ISDIR(status.st_mode):
            return None
        self._check(name, status)
        return status.st_size

    def has_directory(self, name: str) -> bool:
        """Whether there is a directory of this name, not a link."""
        status = self.status(name)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def foreign(self) -> Iterator[Foreign]:
        """Entries under names of an index, here or in its directories, that are neither files nor directories."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._opened() as handle:
            with os.scandir(self.path if handle is None else handle) as entries:
                found = [
                    (entry.name, entry.is_dir(follow_symlinks=False))
                    for entry in entries
                    if (self._above or entry.name.startswith(_OWN)) and not entry.is_file(follow_symlinks=False)
                ]
            for name, is_directory in sorted(found):
                status = None if is_directory else self.status(name)
                if status is not None:
                    yield Foreign(self, name, describe_entry(status, self._target(name, handle)))
                elif is_directory and self._above is None and name.startswith("nearest-"):
                    yield from self.directory(name).foreign()

    def check(self) -> None:
        """Raise IndexUnsafeError for the first entry of `foreign`."""
        for found in self.foreign():
            raise unsafe_entry(found.path, found.kind)

    def is_writable(self, name: str | None = None) -> bool:
        """Whether this user may write to the directory, or to one of its files."""
        as_us = os.access in os.supports_effective_ids
        if name is None:
            return os.access(self.path, os.W_OK, effective_ids=as_us)
        with self._opened() as handle:
            return os.access(self._at(name, handle), os.W_OK, dir_fd=handle, effective_ids=as_us)

    def free_bytes(self) -> int:
        """The free bytes of its disk."""
        return shutil.disk_usage(self.path).free

    # --- files

    def open(self, name: str, mode: Mode, *, create: bool = False) -> IO[bytes]:
        """Open a regular file to read ("rb"), to change without truncation ("r+b"; `create` creates a missing file), or
        to create ("xb", FileExistsError if the name is taken).

        A file to change must have no second hard link: that name would change too.
        """
        flags = _MODES[mode] | _FILE | (os.O_CREAT if create else 0)
        with self._opened() as handle, self._with_path(name):
            if mode != "xb":
                with contextlib.suppress(FileNotFoundError):
                    found = os.stat(self._at(name, handle), dir_fd=handle, follow_symlinks=False)
                    self._check(name, found, handle, is_changed=mode == "r+b")
            file = os.open(self._at(name, handle), flags, 0o666, dir_fd=handle)
            try:
                self._check(name, os.fstat(file), handle, is_changed=mode == "r+b")
                return os.fdopen(file, "r+b" if mode == "xb" else mode)
            except BaseException:
                os.close(file)
                raise

    def read(self, name: str, limit: int) -> bytes:
        """All bytes of a file. Raises IndexDamagedError if there are more than `limit`."""
        with self.open(name, "rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise IndexDamagedError(f"{self.path / name} has more than {limit:,} bytes, the limit.")
        return content

    def write(self, name: str, content: bytes, *, durable: bool = True) -> None:
        """Write a file atomically (`diptych.storage.atomic`), but do not wait until the new name is on the disk."""
        with self._replacement(name, durable=durable) as file:
            file.write(content)

    @contextmanager
    def _replacement(self, name: str, *, durable: bool) -> Iterator[IO[bytes]]:
        """Yield a new file, which replaces the entry of this name when the block ends."""
        part = f"{name}.{secrets.token_hex(4)}.part"
        try:
            with self.open(part, "xb") as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            self.rename(part, name)
        finally:
            self.remove(part)

    def add(self, name: str, content: bytes) -> None:
        """Create a file with this content unless there is an entry of this name, such as a dangling link."""
        with contextlib.suppress(FileExistsError), self.open(name, "xb") as file:
            file.write(content)

    def rename(self, name: str, to: str) -> None:
        """Rename a file or directory, replacing the entry of the new name. A link itself is renamed."""
        with self._opened() as handle, self._with_path(name):
            os.replace(self._at(name, handle), self._at(to, handle), src_dir_fd=handle, dst_dir_fd=handle)

    def remove(self, name: str) -> None:
        """Remove a file if it exists; a link itself is removed."""
        with contextlib.suppress(FileNotFoundError), self._opened() as handle, self._with_path(name):
            os.unlink(self._at(name, handle), dir_fd=handle)

    def remove_all(self, name: str) -> None:
        """Remove a file, or as much of a directory as can be removed. No link is followed."""
        if self.has_directory(name):
            with self._opened() as handle:
                shutil.rmtree(self._at(name, handle), ignore_errors=True, dir_fd=handle)
        else:
            self.remove(name)

    def create(self) -> None:
        """Make the directory and its missing parents. Raises IndexDirectoryError if the path is something else,
        IndexUnsafeError if it is a link, even a dangling one."""
        with contextlib.suppress(FileExistsError):
            if self._above is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                os.mkdir(self.path)
            else:
                with self._above._opened() as above:
                    os.mkdir(self._above._at(self.path.name, above), dir_fd=above)
        try:
            with self._opened():
                pass
        except NotADirectoryError:
            raise IndexDirectoryError(
                f"{self.path} is not a folder.", remedy=["Name one with ", Setting("index", "DIR"), "."]
            ) from None

    def own(self, name: str) -> None:
        """Replace a regular file that has a second hard link with a copy. The other name keeps the file."""
        status = self.plain(name)
        if status is None or status.st_nlink < 2:
            return
        with self.open(name, "rb") as file, self._replacement(name, durable=True) as copy:
            shutil.copyfileobj(file, copy)

    # --- catalogs

    def connect(self, name: str, mode: Literal["ro", "rw", "rwc", "immutable"], *, recover: bool) -> BudgetedConnection:
        """An SQLite connection to an existing file ("ro", "rw"), to one that is created if missing ("rwc"), or to an
        existing file whose journal is ignored ("immutable").

        SQLite acts on files beside a database, and opens them by name. They are therefore checked first: a journal may
        be replayed only with `recover`, and only if it names no other file. Raises IndexUnsafeError for other files,
        IndexDirectoryError if the file is missing.
        """
        if mode != "immutable":
            for _, error in self.journal_errors(name, recover=recover or mode == "ro"):
                raise error
        if mode == "rwc":
            self.open(name, "r+b", create=True).close()
        before = self.plain(name)
        if before is None:
            raise IndexDirectoryError(f"{self.path / name} does not exist.")
        self._check(name, before, is_changed=mode in ("rw", "rwc"))
        uri_mode = {"rwc": "rw", "immutable": "ro&immutable=1"}.get(mode, mode)
        address = f"{(self.path / name).as_uri()}?mode={uri_mode}"  # as_uri quotes ?, # and % in a name
        with translated_errors(self.path / name):
            db = sqlite3.connect(
                address,
                uri=True,
                timeout=_WAIT_S,
                isolation_level=None,
                check_same_thread=False,
                factory=BudgetedConnection,
            )
            db.bound(partial(self.size, name))
        after = self.status(name)
        if after is None or (after.st_dev, after.st_ino) != (before.st_dev, before.st_ino):
            db.close()
            raise IndexUnsafeError(f"{self.path / name} was replaced while it was opened.", remedy="Try again.")
        return db

    def journal_errors(self, name: str, *, recover: bool) -> Iterator[tuple[str, SearchIndexError]]:
        """The names and errors of files beside a catalog that SQLite must not act on. A journal that would be replayed
        is one of them unless `recover`."""
        for ending in JOURNAL_SUFFIXES:
            beside = name + ending
            try:
                if (status := self.status(beside)) is not None:
                    self._check(beside, status, is_changed=True)
                    with contextlib.suppress(FileNotFoundError), self.open(beside, "rb") as file:  # a commit has ended
                        check_journal(self.path / beside, file, catalog_bytes=self.size(name) or 0, recover=recover)
            except SearchIndexError as error:
                yield beside, error

    # --- handles

    @contextmanager
    def _opened(self) -> Iterator[int | None]:
        """Yield a handle of the directory; None on systems without them, such as Windows."""
        if not _HAS_HANDLES:
            self._check_directory()
            yield None
            return
        with self._with_path():
            if self._above is None:
                handle = os.open(self.path, _DIRECTORY)
            else:
                with self._above._opened() as above:
                    handle = os.open(self.path.name, _DIRECTORY, dir_fd=above)
        try:
            yield handle
        finally:
            os.close(handle)

    def _check_directory(self) -> None:
        """Raise the errors that opening the directory would raise."""
        if self._above is not None:
            self._above._check_directory()
        status = os.lstat(self.path)
        if is_link(status):
            raise self._unsafe()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(self.path))

    def _unsafe(self) -> IndexUnsafeError:
        with contextlib.suppress(OSError):
            return unsafe_directory(self.path, os.readlink(self.path))
        return unsafe_directory(self.path, None)

    @contextmanager
    def _with_path(self, name: str | None = None) -> Iterator[None]:
        """Raise errors of the system with the whole path, and IndexUnsafeError for those that a link causes."""
        try:
            yield
        except OSError as error:
            path = self.path if name is None else self.path / name
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and name is None and os.path.islink(path):
                raise self._unsafe() from None
            if error.errno == errno.ELOOP:
                raise unsafe_entry(path, "a link") from None
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from error

    def _at(self, name: str, handle: int | None) -> str:
        """A name relative to the handle; the whole path without one."""
        return plain_name(name) if handle is not None else os.path.join(self.path, plain_name(name))

    def _check(self, name: str, status: os.stat_result, handle: int | None = None, *, is_changed: bool = False) -> None:
        """Raise unless the entry is a regular file. A file that `is_changed` must have no second hard link."""
        target = None if stat.S_ISREG(status.st_mode) else self._target(name, handle)
        if error := error_for(self.path / name, status, target, is_changed=is_changed):
            raise error

    def _target(self, name: str, handle: int | None = None) -> str | None:
        """The target of a link; None for any other entry."""
        try:
            if handle is None and _HAS_HANDLES:
                with self._opened() as handle:
                    return os.readlink(self._at(name, handle), dir_fd=handle)
            return os.readlink(self._at(name, handle), dir_fd=handle)
        except OSError:
            return None
