"""Checks of the journals beside a database, before SQLite opens it and acts on them.

A process that is killed during a commit leaves a rollback journal, which the next process must replay. The journal may
end with the name of another file (the super-journal of a transaction over several databases; no catalog is part of
one), and SQLite removes that file after the replay. sqlite.org/fileformat2.html, section 3;
sqlite.org/atomiccommit.html, section 5.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from diptych.errors import IndexUnsafeError, Setting

JOURNAL_SUFFIXES = ("-journal", "-wal", "-shm")
MAGIC = bytes.fromhex("d9d505f920a163d7")  # at the start of each header, and after the name of a super-journal
_SPARE = 1 << 20  # bytes for headers


def check_journal(path: Path, file: IO[bytes], *, catalog_bytes: int, recover: bool) -> None:
    """Raise IndexUnsafeError unless SQLite may act on this journal of a catalog.

    An empty journal, or one with a zeroed header, belongs to a transaction that has changed nothing. Any other may be
    replayed only with `recover`. A journal contains each page once, so it is not much longer than its catalog. A
    journal that names another file is refused whatever its start, because a later transaction may write a header there.
    """
    if not path.name.endswith(JOURNAL_SUFFIXES[0]):
        raise IndexUnsafeError(f"{path} belongs to an SQLite write-ahead log, which diptych never makes.")
    size = os.fstat(file.fileno()).st_size
    head = file.read(len(MAGIC))
    file.seek(max(0, size - len(MAGIC)))
    tail = file.read(len(MAGIC))
    if size > len(MAGIC) and tail == MAGIC:
        raise IndexUnsafeError(f"{path} is an SQLite journal that names another file, which diptych never makes.")
    if not any(head):
        return
    if head != MAGIC:
        raise IndexUnsafeError(f"{path} is not an SQLite journal, but SQLite would act on it.")
    if size > 2 * catalog_bytes + _SPARE:
        raise IndexUnsafeError(f"{path} has {size:,} bytes, more than its catalog's journal can have.")
    if not recover:
        raise IndexUnsafeError(
            f"{path} shows that an update of this index was interrupted, or is running. It is not replayed, because "
            "this index was not made here and is not trusted.",
            remedy=[
                "Wait for the update; or ", Setting("trust", True), " accepts the index and replays the journal; or ",
                Setting("repair", True, "diptych.examine"), " moves it aside, and ",
                Setting("reindex", True, "index.update"), " rebuilds the index.",
            ],
        )  # fmt: skip
