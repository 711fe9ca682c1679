"""What can be wrong with an index as a whole: errors that say what came, what was wanted and what to do."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from diptych.errors import DiptychError, Setting

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


class IndexFault(DiptychError, ValueError):
    """An index that cannot be used, or not so. The message names the remedy."""


class IndexModelError(IndexFault):
    """The index holds the vectors of another model than the one at hand; vectors of two models never mix."""


class IndexUntrustedError(IndexFault):
    """The index was neither made nor accepted by this user, and asks for what only such a one is given: that the model
    which it names is opened, or that pictures are looked for where it says."""


class IndexBusyError(IndexFault):
    """Another process is writing to the index."""


class IndexPlaceError(IndexFault):
    """There is no index here, none can be written here, the disk is full, or the pictures' disk is not mounted."""


class IndexWritingError(IndexPlaceError):
    """There is an index or a place for one, and it cannot be written to. What is in it may still be searched."""


class IndexDamagedError(IndexFault):
    """The catalog's file is damaged, or is none."""

    remedy = (
        "`diptych doctor FOLDER --mend` saves what can be read and moves the rest aside; ",
        Setting("reindex", True, "index.update"),
        " makes all anew.",
    )


class IndexUnsafeError(IndexDamagedError):
    """Something in the folder of the index that diptych did not put there and will not touch: a link, a device, a
    FIFO, a journal that is none of its own, tables or triggers that are not its own."""


class IndexNewerError(IndexDamagedError):
    """The catalog is of a format that came after this version."""

    remedy = (
        "Update diptych, or keep the index in another place with ",
        Setting("index", "DIR"),
        "; ",
        Setting("reindex", True, "index.update"),
        " replaces it by one of this version.",
    )


@contextmanager
def explained(path: str | os.PathLike[str]) -> Iterator[None]:
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


def _of_sqlite(error: sqlite3.DatabaseError, path: str) -> IndexFault | None:
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


def _of_disk(error: OSError, path: str) -> IndexFault | None:
    said = error.strerror or error  # the path is said once
    if error.errno in _FULL:
        return _full(path, said)
    return _closed(path, said) if error.errno in _CLOSED else None


def _full(path: str, error: object) -> IndexWritingError:
    return IndexWritingError(
        f"{path} cannot grow ({error}): the disk is full or failing. What was committed is safe.",
        remedy=["Make room and run it again, or keep the index on another disk with ", Setting("index", "DIR"), "."],
    )


def _closed(path: str, error: object) -> IndexWritingError:
    return IndexWritingError(
        f"{path} cannot be written ({error}).",
        remedy=["Keep the index elsewhere with ", Setting("index", "DIR"), ", or change the permissions."],
    )
