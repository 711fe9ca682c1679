"""What has happened to a folder since it was last indexed: told by size and time of change, and, where these leave it
open, by the files' bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
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

Digests = Callable[[Sequence[int]], Mapping[int, bytes]]


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


def changes(
    root: Path,
    known: Mapping[str, Known],
    found: Mapping[str, File],
    *,
    digests: Digests,
    now_ns: int,
    keep: Callable[[list[Restamped]], None],
    closed: Sequence[str] = (),
    retry: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Changes:
    """Compare what is `known` with what is `found` now, both by path. `digests` gives those of known files by id;
    `now_ns` is when the search for files began; `closed` are folders that could not be looked into; `retry` asks to
    read again what could not be read before.

    A library that was copied, or whose folder has another name, is read from end to end, which takes as long as its
    disk needs. So `progress` is told (done, total) of the files whose bytes are compared, and what came of them is
    given to `keep` some files at a time, also where this ends by an error or Ctrl-C.
    """
    new = [file for path, file in found.items() if path not in known]
    changed = [file for path, file in found.items() if path in known and not _is_same(known[path], file, retry)]
    missing = {path: known[path] for path in known.keys() - found.keys()}
    touched = _kept(_touched(root, changed, known, digests, now_ns, retry, progress), keep)
    renamed = _kept(_renamed(root, new, list(missing.values()), digests, now_ns, progress), keep)
    settled = {one.file.path for one in (*touched, *renamed)}
    kept = {one.id for one in renamed}
    gone, unreachable = _told_apart(root, {path: one for path, one in missing.items() if one.id not in kept}, closed)
    read = [file for file in (*new, *changed) if file.path not in settled]
    return Changes(read, touched, renamed, gone, unreachable, len(found) - len(settled) - len(read))


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


def _kept(restamped: Iterator[Restamped], keep: Callable[[list[Restamped]], None]) -> list[Restamped]:
    """All of them, after they were kept."""
    found: list[Restamped] = []
    kept = 0
    try:
        for one in restamped:
            found.append(one)
            if len(found) - kept == _KEPT_AT_ONCE:
                keep(found[kept:])
                kept = len(found)
    finally:
        if found[kept:]:
            keep(found[kept:])
    return found


def _touched(
    root: Path, changed: Sequence[File], known: Mapping[str, Known], digests: Digests, now_ns: int, retry: bool,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Restamped]:  # fmt: skip
    """The files whose bytes are what they were."""
    doubtful = [file for file in changed if known[file.path].size == file.size]
    doubtful = [file for file in doubtful if not _is_retried(known[file.path], retry)]
    digest_by_id = digests([known[file.path].id for file in doubtful])
    for file, digest in zip(doubtful, _digests(root, doubtful, progress), strict=True):
        id = known[file.path].id
        if digest and digest == digest_by_id[id]:
            yield Restamped(id, file, is_settled(file, now_ns))


def _renamed(
    root: Path, new: Sequence[File], missing: Sequence[Known], digests: Digests, now_ns: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Restamped]:  # fmt: skip
    """The new files that have the bytes of a missing one; each of these serves once. Pictures and videos are what they
    are under any name, texts by theirs alone."""
    sound = {one.id: one for one in missing if not one.failed}
    likely = {(one.size, one.kind == "text") for one in sound.values()}
    doubtful = [file for file in new if {(file.size, False), (file.size, file.kind == "text")} & likely]
    free: dict[tuple[bytes, bool], list[int]] = {}
    for id, digest in digests(list(sound)).items() if doubtful else ():
        free.setdefault((digest, sound[id].kind == "text"), []).append(id)
    for file, digest in zip(doubtful, _digests(root, doubtful, progress), strict=True):
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
