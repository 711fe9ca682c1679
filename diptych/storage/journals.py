"""What SQLite finds beside a database and acts on, told by its bytes before SQLite sees it.

A process that was killed in the middle of a commit leaves a rollback journal, which the next one must replay. The name
of another file may stand at a journal's end (a super-journal, of a transaction over several databases, which no catalog
is ever part of), and SQLite removes that file when it has replayed the journal. sqlite.org/fileformat2.html, section 3;
sqlite.org/atomiccommit.html, section 5.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from diptych.errors import IndexUnsafeError, Setting

JOURNAL_SUFFIXES = ("-journal", "-wal", "-shm")
MAGIC = bytes.fromhex("d9d505f920a163d7")  # begins each header, and ends the name of a super-journal
_SPARE = 1 << 20  # bytes: headers


def check_journal(path: Path, file: IO[bytes], *, catalog_bytes: int, recover: bool) -> None:
    """Raises IndexUnsafeError unless SQLite may see this journal of a catalog.

    An empty journal, and one whose header is zeroed, is of a transaction that had changed nothing yet. One that counts
    is let through to be replayed, with `recover`. None holds a page twice, so none is much longer than its catalog.
    What names another file is refused whatever it begins with: a later transaction may write a header over that.
    """
    if not path.name.endswith(JOURNAL_SUFFIXES[0]):
        raise IndexUnsafeError(f"{path} is of a write-ahead log of SQLite's, and diptych keeps none.")
    size = os.fstat(file.fileno()).st_size
    head = file.read(len(MAGIC))
    file.seek(max(0, size - len(MAGIC)))
    tail = file.read(len(MAGIC))
    if size > len(MAGIC) and tail == MAGIC:
        raise IndexUnsafeError(f"{path} is a journal of SQLite's that names another file, which diptych never makes.")
    if not any(head):
        return
    if head != MAGIC:
        raise IndexUnsafeError(f"{path} is no journal of SQLite's, which would act on it all the same.")
    if size > 2 * catalog_bytes + _SPARE:
        raise IndexUnsafeError(f"{path} has {size:,} bytes, more than a journal of its catalog can have.")
    if not recover:
        raise IndexUnsafeError(
            f"{path} says that an update of this index was interrupted, or goes on now. What it would undo is not "
            "trusted, for this index was not made here.",
            remedy=[
                "Wait for the update; ", Setting("trust", True), " takes the index as it is, and undoes that; or ",
                Setting("repair", True, "diptych.examine"), " moves it aside, and ",
                Setting("reindex", True, "index.update"), " makes all anew.",
            ],
        )  # fmt: skip
