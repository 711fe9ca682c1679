"""Errors of SQLite and of the disk, translated into errors of the index."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from diptych.errors import IndexBusyError, IndexDamagedError, IndexNotWritableError, SearchIndexError, Setting

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def translated_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Translate errors of SQLite and the disk for the index at `path`; Ctrl-C in SQLite becomes KeyboardInterrupt."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if _is_interrupted(error):
            raise KeyboardInterrupt from None
        if translated := _of_sqlite(error, os.fspath(path)):
            raise translated from error
        raise
    except UnicodeDecodeError as error:  # in SQLite's message about a damaged schema
        raise IndexDamagedError(f"{os.fspath(path)} is damaged ({error.reason}).") from error
    except OSError as error:
        if translated := _of_disk(error, os.fspath(path)):
            raise translated from error
        raise


def _of_sqlite(error: sqlite3.DatabaseError, path: str) -> SearchIndexError | None:
    """The error for a result code (sqlite.org/rescode.html); its low byte is the kind."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 255 in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return _full(path, f"{error}, {getattr(error, 'sqlite_errorname', '')}")
    if code & 255 in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return _closed(path, error)
    if code & 255 in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return IndexBusyError(f"{path}: another process holds the index ({error}); try again when it is done.")
    if code & 255 in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return IndexDamagedError(f"{path} is damaged ({error}).")
    is_bug = code == sqlite3.SQLITE_ERROR  # an invalid query: with tables of this package, the package is at fault
    return None if is_bug else IndexDamagedError(f"{path} contains data that diptych does not write ({error}).")


def _is_interrupted(error: sqlite3.DatabaseError) -> bool:
    """Whether SQLite replaced a signal handler's exception by this error: in its progress handler, or in one of this
    package's SQL functions, which raise no errors themselves."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT or "user-defined function" in str(error)


def _of_disk(error: OSError, path: str) -> SearchIndexError | None:
    cause = error.strerror or error  # strerror does not repeat the path
    if error.errno in _FULL:
        return _full(path, cause)
    return _closed(path, cause) if error.errno in _CLOSED else None


def _full(path: str, error: object) -> IndexNotWritableError:
    return IndexNotWritableError(
        f"{path} cannot grow ({error}): the disk is full or failing. Committed changes are safe.",
        remedy=["Make room and run it again, or keep the index on another disk with ", Setting("index", "DIR"), "."],
    )


def _closed(path: str, error: object) -> IndexNotWritableError:
    return IndexNotWritableError(
        f"{path} cannot be written ({error}).",
        remedy=["Keep the index elsewhere with ", Setting("index", "DIR"), ", or change the permissions."],
    )
