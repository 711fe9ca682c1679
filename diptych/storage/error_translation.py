"""What can be wrong with an index as a whole: errors that say what came, what was wanted and what to do."""

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
    """Errors of SQLite and of the disk, as what they mean for the index at `path`; Ctrl-C while SQLite ran as that."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if _is_interrupted(error):
            raise KeyboardInterrupt from None
        if said := _of_sqlite(error, os.fspath(path)):
            raise said from error
        raise
    except UnicodeDecodeError as error:  # of SQLite's own words about a schema that is none
        raise IndexDamagedError(f"{os.fspath(path)} is damaged ({error.reason}).") from error
    except OSError as error:
        if said := _of_disk(error, os.fspath(path)):
            raise said from error
        raise


def _of_sqlite(error: sqlite3.DatabaseError, path: str) -> SearchIndexError | None:
    """SQLite's result codes (sqlite.org/rescode.html), whose low byte tells the kind."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 255 in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return _full(path, f"{error}, {getattr(error, 'sqlite_errorname', '')}")
    if code & 255 in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return _closed(path, error)
    if code & 255 in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return IndexBusyError(f"{path}: another process holds the index ({error}); try again when it is done.")
    if code & 255 in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return IndexDamagedError(f"{path} is damaged ({error}).")
    is_question = code == sqlite3.SQLITE_ERROR  # one that is wrong in itself: of tables that are ours it is our fault
    return None if is_question else IndexDamagedError(f"{path} holds what diptych does not write ({error}).")


def _is_interrupted(error: sqlite3.DatabaseError) -> bool:
    """Whether a signal's handler raised what SQLite, which knows no exceptions, made this error of: in its progress
    handler, or in a function of ours in SQL, of which none raises anything by itself."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT or "user-defined function" in str(error)


def _of_disk(error: OSError, path: str) -> SearchIndexError | None:
    said = error.strerror or error  # the path is said once
    if error.errno in _FULL:
        return _full(path, said)
    return _closed(path, said) if error.errno in _CLOSED else None


def _full(path: str, error: object) -> IndexNotWritableError:
    return IndexNotWritableError(
        f"{path} cannot grow ({error}): the disk is full or failing. What was committed is safe.",
        remedy=["Make room and run it again, or keep the index on another disk with ", Setting("index", "DIR"), "."],
    )


def _closed(path: str, error: object) -> IndexNotWritableError:
    return IndexNotWritableError(
        f"{path} cannot be written ({error}).",
        remedy=["Keep the index elsewhere with ", Setting("index", "DIR"), ", or change the permissions."],
    )
