"""What has happened to a folder since it was last indexed: told by size and time of change, and, where these leave it
open, by the files' bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from diptych.index.catalog.catalog import Known
from diptych.media.items import File
from diptych.untrusted.regular_files import open_file

DIGEST_BYTES = 16
# A file can change twice within one tick of its file system's clock (FAT's are two seconds long) and keep its size;
# one that was that young when it was looked at is looked at again, as git does with its "racily clean" files.
_TICK_NS = 2 * 10**9
_CHUNK_BYTES = 2**20
_KEPT_AT_ONCE = 64


class Restamped(NamedTuple):
    """A file whose bytes are known: by its id, as it is called and dated now."""

    id: int
    file: File
    settled: bool


class Changes(NamedTuple):
    """What an update has to do: `read` these, `touched` and `renamed` are known by their bytes, `gone` (ids) are to be
    forgotten, `unreachable` (ids) are kept, for the disk does not say whether they are there. `same` is the number of
    files that need nothing."""

    read: list[File]
    touched: list[Restamped]
    renamed: list[Restamped]
    gone: list[int]
    unreachable: list[int]
    same: int


class Compared(NamedTuple):
    """What size and time of change tell: the `new` and the `changed` files, those that are `missing`, and the number of
    files that are the `same`. Of the new and changed ones, `maybe_renamed` and `maybe_touched` may have known bytes;
    `ids` are the known files whose digests tell."""

    known: Mapping[str, Known]
    new: list[File]
    changed: list[File]
    missing: dict[str, Known]
    same: int
    maybe_touched: list[File]
    maybe_renamed: list[File]

    @property
    def ids(self) -> list[int]:
        """The files whose digests `recognised` needs."""
        renamed = [one.id for one in self.missing.values() if not one.failed] if self.maybe_renamed else []
        return [self.known[file.path].id for file in self.maybe_touched] + renamed


def compared(known: Mapping[str, Known], found: Mapping[str, File], *, retry: bool = False) -> Compared:
    """Compare the files that were found with those that the catalog knows, without opening any. `retry` asks to read
    again what could not be read before."""
    new = [file for path, file in found.items() if path not in known]
    changed = [file for path, file in found.items() if path in known and not _is_same(known[path], file, retry)]
    missing = {path: known[path] for path in known.keys() - found.keys()}
    doubtful = [file for file in changed if known[file.path].size == file.size]
    touched = [file for file in doubtful if not _is_retried(known[file.path], retry)]
    likely = {(one.size, one.kind == "text") for one in missing.values() if not one.failed}
    renamed = [file for file in new if {(file.size, False), (file.size, file.kind == "text")} & likely]
    return Compared(known, new, changed, missing, len(found) - len(new) - len(changed), touched, renamed)


def recognised(
    root: Path,
    seen: Compared,
    digests: Mapping[int, bytes],
    *,
    now_ns: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[list[Restamped]]:
    """The files whose bytes are those of a known one, some at a time: first those that were touched, then those that
    were renamed. `digests` are those of `seen.ids`, `now_ns` is when the search for files began.

    A library that was copied, or whose folder was renamed, is read from end to end, as fast as its disk allows. So
    `progress` is called with (done, total) files whose bytes are compared, and what was recognised is given also where
    this ends by an error or Ctrl-C.
    """
    some: list[Restamped] = []
    try:
        for one in chain(
            _touched(root, seen, digests, now_ns, progress), _renamed(root, seen, digests, now_ns, progress)
        ):
            some.append(one)
            if len(some) == _KEPT_AT_ONCE:
                full, some = some, []
                yield full
    except BaseException:
        if some:
            yield some
        raise
    if some:
        yield some


def changes(root: Path, seen: Compared, known_by_bytes: Sequence[Restamped], closed: Sequence[str] = ()) -> Changes:
    """What has to be done, once it is clear which files are `known_by_bytes`. `closed` are the folders that could not
    be looked into."""
    settled, kept = {one.file.path for one in known_by_bytes}, {one.id for one in known_by_bytes}
    touched = [one for one in known_by_bytes if one.file.path in seen.known]
    renamed = [one for one in known_by_bytes if one.file.path not in seen.known]
    missing = {path: one for path, one in seen.missing.items() if one.id not in kept}
    gone, unreachable = _told_apart(root, missing, closed)
    read = [file for file in (*seen.new, *seen.changed) if file.path not in settled]
    return Changes(read, touched, renamed, gone, unreachable, seen.same)


def is_settled(file: File, now_ns: int) -> bool:
    """Whether the file's time of change is far enough from now to tell a later change from it."""
    return abs(now_ns - file.mtime_ns) > _TICK_NS


def digest_of(path: str | os.PathLike[str]) -> bytes:
    """The blake2b of a file's bytes, 16 bytes long. Raises OSError."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with open_file(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()


def _is_retried(known: Known, retry: bool) -> bool:
    """Whether it could not be read and perhaps can now: by another version than the one that tried."""
    return bool(known.failed and (retry or known.outdated))


def _is_same(known: Known, file: File, retry: bool) -> bool:
    # size and mtime_ns at once: half the time of asking for each. The kind that is known may be that of its bytes.
    return known[2:4] == file[2:4] and not _is_retried(known, retry)


def _touched(
    root: Path, seen: Compared, digests: Mapping[int, bytes], now_ns: int, progress: Callable[[int, int], None] | None
) -> Iterator[Restamped]:
    """The files whose bytes are what they were."""
    files = seen.maybe_touched
    for file, digest in zip(files, _digests(root, files, progress), strict=True):
        id = seen.known[file.path].id
        if digest and digest == digests[id]:
            yield Restamped(id, file, is_settled(file, now_ns))


def _renamed(
    root: Path, seen: Compared, digests: Mapping[int, bytes], now_ns: int, progress: Callable[[int, int], None] | None
) -> Iterator[Restamped]:
    """The new files that have the bytes of a missing one; each of these serves once. Pictures and videos are what they
    are under any name, texts by theirs alone."""
    files = seen.maybe_renamed
    free: dict[tuple[bytes, bool], list[int]] = {}
    for one in seen.missing.values() if files else ():
        if digest := None if one.failed else digests.get(one.id):
            free.setdefault((digest, one.kind == "text"), []).append(one.id)
    for file, digest in zip(files, _digests(root, files, progress), strict=True):
        ids = free.get((digest, False)) or free.get((digest, file.kind == "text"))
        if digest and ids:
            yield Restamped(ids.pop(), file, is_settled(file, now_ns))


def _digests(root: Path, files: Sequence[File], progress: Callable[[int, int], None] | None) -> Iterator[bytes]:
    """The digest of each; nothing for one that cannot be read, or whose size counts words beside it, for these are
    none of its bytes and may have changed."""

    def attempt(file: File) -> bytes:
        try:
            return digest_of(root / file.path) if os.stat(root / file.path).st_size == file.size else b""
        except OSError:
            return b""

    if not files:
        return
    with ThreadPoolExecutor(2, thread_name_prefix="digests") as pool:  # hashing leaves Python to other threads
        for done, digest in enumerate(pool.map(attempt, files), start=1):
            yield digest
            if progress:
                progress(done, len(files))


def _told_apart(root: Path, missing: Mapping[str, Known], closed: Sequence[str]) -> tuple[list[int], list[int]]:
    """Those that are gone, or left out by choice; and those of which the disk does not say whether they are there."""

    @cache
    def is_cut_off(folder: str) -> bool:
        """Whether it lies behind a link to nowhere: to a disk that is not mounted."""
        path = os.path.join(root, folder)
        is_dead = os.path.islink(path) and not os.path.exists(path)
        return is_dead or (folder != "" and is_cut_off(os.path.dirname(folder)))

    gone, unreachable = [], []
    prefixes = tuple("" if folder == "." else f"{folder}/" for folder in closed)
    for path, known in missing.items():
        if path.startswith(prefixes):
            unreachable.append(known.id)
            continue
        try:
            os.lstat(root / path)
        except (FileNotFoundError, NotADirectoryError):
            (unreachable if is_cut_off(os.path.dirname(path)) else gone).append(known.id)
        except OSError:  # a folder that may not be entered, a network that is down
            unreachable.append(known.id)
        else:
            gone.append(known.id)
    return gone, unreachable
