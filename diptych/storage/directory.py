"""The files of an index: the one module that opens, lists, renames and removes what lies in an index's directory.

A directory of pictures is unpacked, downloaded and passed on with its index inside, so whatever lies there may be
somebody else's work: a link that leads out, a FIFO that never answers, a journal that SQLite would act on. Everything
is therefore done relative to a handle of the directory, which is opened without following a link, and each file is
opened without following one. What is no plain file is refused by what it is.

A handle lives for one operation, so that a directory that was replaced meanwhile is the one that counts. Windows opens
no directories and knows no O_NOFOLLOW: there, each name is looked at before it is opened.
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
# O_NONBLOCK, because what was a plain file when it was looked at may be a FIFO when it is opened
_FILE = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"))
_MODES = {"rb": os.O_RDONLY, "r+b": os.O_RDWR, "xb": os.O_RDWR | os.O_CREAT | os.O_EXCL}
_WAIT_S = 60.0  # how long a reader and a writer of a catalog wait for each other's transaction
# What names of ours begin with. In a directory that was named by the user, other programs' files may lie beside.
_OWN = (".gitignore", "identity.json", "lock", "catalog", "nearest-", "background-")

Mode = Literal["rb", "r+b", "xb"]


class Foreign(NamedTuple):
    """Something under a name of ours that is neither a plain file nor a directory: in which directory, its name, and
    what it is in words."""

    directory: IndexDirectory
    name: str
    what: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.directory.path / self.name


class IndexDirectory:
    """The directory of an index, or one inside it. Nothing is opened before it is needed, and nothing stays open.

    A `path` that is a link is followed, once, since whoever named it means what it leads to; but not one that is called
    .diptych, which came with the pictures.

    Its methods take names of files that lie directly in it, and raise ValueError for anything else. They raise
    IndexUnsafeError where the directory is reached through a link, or the file is a link, a FIFO, a socket or a device;
    IndexDamagedError where a directory lies in a file's place; OSError, with the whole path, as the system does.
    """

    def __init__(self, path: str | os.PathLike[str], *, _above: IndexDirectory | None = None):
        self.path = Path(os.path.abspath(os.fsdecode(path)))
        self._above = _above
        if _above is None and self.path.name != NAME and self.path.is_symlink():
            self.path = Path(os.path.realpath(self.path))

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> IndexDirectory:
        """The directory at a path; one that is one already as it is."""
        return path if isinstance(path, IndexDirectory) else cls(path)

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return os.fspath(self.path)

    def __repr__(self) -> str:
        return f"IndexDirectory({os.fspath(self.path)!r})"

    def directory(self, name: str) -> IndexDirectory:
        """A directory inside this one, there or not."""
        return IndexDirectory(self.path / plain_name(name), _above=self)

    # --- what is there

    @property
    def exists(self) -> bool:
        """Whether it is there."""
        try:
            with self._opened():
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False

    @property
    def owner(self) -> int | None:
        """The number of the user whose it is, of a link that of the link; None where there is nothing."""
        try:
            return os.lstat(self.path).st_uid
        except OSError:
            return None

    def names(self) -> list[str]:
        """The names of all that lies in it, sorted; none where it is not there."""
        try:
            with self._opened() as handle:
                return sorted(os.listdir(self.path if handle is None else handle))
        except FileNotFoundError:
            return []

    def status(self, name: str) -> os.stat_result | None:
        """What the system knows of a name, of a link itself; None where there is nothing."""
        try:
            with self._opened() as handle:
                return os.stat(self._at(name, handle), dir_fd=handle, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def plain(self, name: str) -> os.stat_result | None:
        """The status of a plain file; None where there is nothing. Raises for all that is no plain file."""
        status = self.status(name)
        if status is not None:
            self._check(name, status)
        return status

    def size(self, name: str) -> int | None:
        """Of a plain file, in bytes; None where there is nothing, or a directory."""
        status = self.status(name)
        if status is None or stat.S_ISDIR(status.st_mode):
            return None
        self._check(name, status)
        return status.st_size

    def has_directory(self, name: str) -> bool:
        """Whether a directory of that name is in it, which is no link."""
        status = self.status(name)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def foreign(self) -> Iterator[Foreign]:
        """What goes by a name of ours, here or in a directory of ours, and is neither a plain file nor a directory."""
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
        """Raises IndexUnsafeError for the first of `foreign`."""
        for found in self.foreign():
            raise unsafe_entry(found.path, found.what)

    def is_writable(self, name: str | None = None) -> bool:
        """Whether the system would let us write to it, or to one of its files."""
        as_us = os.access in os.supports_effective_ids
        if name is None:
            return os.access(self.path, os.W_OK, effective_ids=as_us)
        with self._opened() as handle:
            return os.access(self._at(name, handle), os.W_OK, dir_fd=handle, effective_ids=as_us)

    def free_bytes(self) -> int:
        """What room its disk has left."""
        return shutil.disk_usage(self.path).free

    # --- files

    def open(self, name: str, mode: Mode, *, create: bool = False) -> IO[bytes]:
        """A plain file, opened to be read ("rb"), to be changed in place ("r+b", never cut off; with `create`, made
        where there is none), or newly made ("xb", FileExistsError where there is something).

        A file to be changed must have no second name: its bytes would be another file's as well.
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
        """All bytes of a file. Raises IndexDamagedError where there are more than `limit`."""
        with self.open(name, "rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise IndexDamagedError(f"{self.path / name} has more than {limit:,} bytes; wanted at most that.")
        return content

    def write(self, name: str, content: bytes, *, durable: bool = True) -> None:
        """Write a file atomically (`diptych.storage.atomic`), without waiting until the new name is on the disk."""
        with self._replacement(name, durable=durable) as file:
            file.write(content)

    @contextmanager
    def _replacement(self, name: str, *, durable: bool) -> Iterator[IO[bytes]]:
        """A new file, which replaces the entry of that name when the block ends."""
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
        """Make a file with this content where nothing has the name; what is there stays, a link that leads nowhere
        too."""
        with contextlib.suppress(FileExistsError), self.open(name, "xb") as file:
            file.write(content)

    def rename(self, name: str, to: str) -> None:
        """Give a file or directory another name, in the place of what has it. A link is renamed itself."""
        with self._opened() as handle, self._with_path(name):
            os.replace(self._at(name, handle), self._at(to, handle), src_dir_fd=handle, dst_dir_fd=handle)

    def remove(self, name: str) -> None:
        """Remove a file if it is there; of a link, the link."""
        with contextlib.suppress(FileNotFoundError), self._opened() as handle, self._with_path(name):
            os.unlink(self._at(name, handle), dir_fd=handle)

    def remove_all(self, name: str) -> None:
        """Remove what has the name, a directory with all that is in it; no link is followed. What cannot be removed
        stays."""
        if self.has_directory(name):
            with self._opened() as handle:
                shutil.rmtree(self._at(name, handle), ignore_errors=True, dir_fd=handle)
        else:
            self.remove(name)

    def create(self) -> None:
        """Make the directory and its missing parents. Raises IndexDirectoryError if the path is something else,
        IndexUnsafeError if it is a link, a dangling one too."""
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
                f"{self.path} is no folder.", remedy=["Name one with ", Setting("index", "DIR"), "."]
            ) from None

    def own(self, name: str) -> None:
        """Put a copy of a plain file in its place where it has a second name, whose file is left as it is."""
        status = self.plain(name)
        if status is None or status.st_nlink < 2:
            return
        with self.open(name, "rb") as file, self._replacement(name, durable=True) as copy:
            shutil.copyfileobj(file, copy)

    # --- catalogs

    def connect(self, name: str, mode: Literal["ro", "rw", "rwc", "immutable"], *, recover: bool) -> BudgetedConnection:
        """SQLite's connection to a file that is there ("ro", "rw"), that is made ("rwc"), or that is read as it lies
        there without a look at its journal ("immutable").

        SQLite acts on what lies beside a database, and opens it by its name. So all of that is looked at before: a
        journal is let through to be replayed only with `recover`, and only where it names no other file. Raises
        IndexUnsafeError for anything else, IndexDirectoryError where there is no such file.
        """
        if mode != "immutable":
            for _, fault in self.journal_errors(name, recover=recover or mode == "ro"):
                raise fault
        if mode == "rwc":
            self.open(name, "r+b", create=True).close()
        before = self.plain(name)
        if before is None:
            raise IndexDirectoryError(f"{self.path / name} is not there.")
        self._check(name, before, is_changed=mode in ("rw", "rwc"))
        how = {"rwc": "rw", "immutable": "ro&immutable=1"}.get(mode, mode)
        address = f"{(self.path / name).as_uri()}?mode={how}"  # as_uri quotes what a name may hold: ?, # and %
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
        """What SQLite would act on that lies beside a catalog and is not the catalog's own journal, by name; a journal
        that would be replayed is one such thing, but with `recover`."""
        for ending in JOURNAL_SUFFIXES:
            beside = name + ending
            try:
                if (status := self.status(beside)) is not None:
                    self._check(beside, status, is_changed=True)
                    with contextlib.suppress(FileNotFoundError), self.open(beside, "rb") as file:  # a commit has ended
                        check_journal(self.path / beside, file, catalog_bytes=self.size(name) or 0, recover=recover)
            except SearchIndexError as fault:
                yield beside, fault

    # --- how

    @contextmanager
    def _opened(self) -> Iterator[int | None]:
        """A handle of the directory; None where there are none, as on Windows."""
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
        """Raises as the opening of the directory does."""
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
        """Errors of the system with the whole path, and what a link makes of them in words."""
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
        """A name, relative to the handle where there is one."""
        return plain_name(name) if handle is not None else os.path.join(self.path, plain_name(name))

    def _check(self, name: str, status: os.stat_result, handle: int | None = None, *, is_changed: bool = False) -> None:
        """Raises where it is no plain file, or has a second name and `is_changed`."""
        target = None if stat.S_ISREG(status.st_mode) else self._target(name, handle)
        if error := error_for(self.path / name, status, target, is_changed=is_changed):
            raise error

    def _target(self, name: str, handle: int | None = None) -> str | None:
        """Where a link leads; None for what is none."""
        try:
            if handle is None and _HAS_HANDLES:
                with self._opened() as handle:
                    return os.readlink(self._at(name, handle), dir_fd=handle)
            return os.readlink(self._at(name, handle), dir_fd=handle)
        except OSError:
            return None
