"""Finds what has changed in a folder since the last update: by size and time of change, and by the files' bytes where
these do not decide."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from diptych.index.catalog.catalog import KnownFile
from diptych.media.items import File
from diptych.untrusted.regular_files import open_file

DIGEST_BYTES = 16
# A file can change twice within one tick of its file system's clock (two seconds on FAT) and keep its size. A file that
# changed that recently is compared again at the next update, as git does with its "racily clean" files.
_TICK_NS = 2 * 10**9
_CHUNK_BYTES = 2**20
_BATCH = 64


class Restamped(NamedTuple):
    """A known file, by its id, with its current name and time of change; `settled` says whether that time can be relied
    on at the next update."""

    id: int
    file: File
    settled: bool


class Changes(NamedTuple):
    """The work of an update: `read` the new and changed files. The `restamped` (touched) and `renamed` files have
    known bytes. `removed` entries (ids) are dropped; `unreachable` ones (ids) are kept, because the disk does not tell
    whether their files exist. `unchanged_count` files need nothing."""

    read: list[File]
    restamped: list[Restamped]
    renamed: list[Restamped]
    removed: list[int]
    unreachable: list[int]
    unchanged_count: int


class Comparison(NamedTuple):
    """The `new`, `changed` and `missing` files by size and time of change, and the number of unchanged ones. Changed
    files that are `maybe_touched`, and new ones that are `maybe_renamed`, may have the bytes of a known file."""

    known: Mapping[str, KnownFile]
    new: list[File]
    changed: list[File]
    missing: dict[str, KnownFile]
    unchanged_count: int
    maybe_touched: list[File]
    maybe_renamed: list[File]

    @property
    def ids(self) -> list[int]:
        """The known files whose digests `recognise` needs."""
        renamed = [known.id for known in self.missing.values() if not known.failed] if self.maybe_renamed else []
        return [self.known[file.path].id for file in self.maybe_touched] + renamed


def compare(known: Mapping[str, KnownFile], found: Mapping[str, File], *, retry: bool = False) -> Comparison:
    """Compare the files of a folder with those in the catalog, without opening any. `retry` includes files that failed
    before."""
    new = [file for path, file in found.items() if path not in known]
    changed = [file for path, file in found.items() if path in known and not _is_same(known[path], file, retry)]
    missing = {path: known[path] for path in known.keys() - found.keys()}
    same_size = [file for file in changed if known[file.path].size == file.size]
    touched = [file for file in same_size if not _is_retried(known[file.path], retry)]
    missing_sizes = {(one.size, one.kind == "text") for one in missing.values() if not one.failed}
    renamed = [file for file in new if {(file.size, False), (file.size, file.kind == "text")} & missing_sizes]
    return Comparison(known, new, changed, missing, len(found) - len(new) - len(changed), touched, renamed)


def recognise(
    root: Path,
    comparison: Comparison,
    digests: Mapping[int, bytes],
    *,
    scanned_ns: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[list[Restamped]]:
    """Batches of the files that have the bytes of a known file: first the touched ones, then the renamed ones.
    `digests` are those of `comparison.ids`; the scan of the folder began at `scanned_ns`.

    A library that was copied, or whose folder was renamed, is read completely, as fast as its disk allows. So
    `progress` is called with (done, total) compared files, and an error or Ctrl-C comes after the last batch.
    """
    batch: list[Restamped] = []
    try:
        for one in chain(
            _touched(root, comparison, digests, scanned_ns, progress),
            _renamed(root, comparison, digests, scanned_ns, progress),
        ):
            batch.append(one)
            if len(batch) == _BATCH:
                full, batch = batch, []
                yield full
    except BaseException:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def changes_of(
    root: Path, comparison: Comparison, recognised: Sequence[Restamped], unreadable_folders: Sequence[str] = ()
) -> Changes:
    """The changes, once the files with known bytes are `recognised`."""
    paths, ids = {one.file.path for one in recognised}, {one.id for one in recognised}
    restamped = [one for one in recognised if one.file.path in comparison.known]
    renamed = [one for one in recognised if one.file.path not in comparison.known]
    missing = {path: one for path, one in comparison.missing.items() if one.id not in ids}
    removed, unreachable = _split_unreachable(root, missing, unreadable_folders)
    read = [file for file in (*comparison.new, *comparison.changed) if file.path not in paths]
    return Changes(read, restamped, renamed, removed, unreachable, comparison.unchanged_count)


def is_settled(file: File, now_ns: int) -> bool:
    """Whether a later change of the file would have another time of change."""
    return abs(now_ns - file.mtime_ns) > _TICK_NS


def digest_of(path: str | os.PathLike[str]) -> bytes:
    """The blake2b of a file's bytes, 16 bytes long. Raises OSError."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with open_file(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()


def _is_retried(known: KnownFile, retry: bool) -> bool:
    """Whether a file that failed is tried again."""
    return bool(known.failed and (retry or known.outdated))


def _is_same(known: KnownFile, file: File, retry: bool) -> bool:
    # compares size and mtime_ns as one slice, which is twice as fast; the known kind may be that of the file's bytes
    return known[2:4] == file[2:4] and not _is_retried(known, retry)


def _touched(
    root: Path,
    comparison: Comparison,
    digests: Mapping[int, bytes],
    scanned_ns: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Restamped]:
    """The changed files whose bytes are the same."""
    files = comparison.maybe_touched
    for file, digest in zip(files, _digests(root, files, progress), strict=True):
        id = comparison.known[file.path].id
        if digest and digest == digests[id]:
            yield Restamped(id, file, is_settled(file, scanned_ns))


def _renamed(
    root: Path,
    comparison: Comparison,
    digests: Mapping[int, bytes],
    scanned_ns: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Restamped]:
    """The new files that have the bytes of a missing one, each of which is used once. A picture or video may get any
    name; a text must keep the name of a text."""
    files = comparison.maybe_renamed
    free: dict[tuple[bytes, bool], list[int]] = {}
    for one in comparison.missing.values() if files else ():
        if digest := None if one.failed else digests.get(one.id):
            free.setdefault((digest, one.kind == "text"), []).append(one.id)
    for file, digest in zip(files, _digests(root, files, progress), strict=True):
        ids = free.get((digest, False)) or free.get((digest, file.kind == "text"))
        if digest and ids:
            yield Restamped(ids.pop(), file, is_settled(file, scanned_ns))


def _digests(root: Path, files: Sequence[File], progress: Callable[[int, int], None] | None) -> Iterator[bytes]:
    """The digest of each file. Empty for a file that cannot be read, or whose size includes a sidecar: the sidecar's
    bytes are not part of it and may have changed."""

    def attempt(file: File) -> bytes:
        try:
            return digest_of(root / file.path) if os.stat(root / file.path).st_size == file.size else b""
        except OSError:
            return b""

    if not files:
        return
    with ThreadPoolExecutor(2, thread_name_prefix="digests") as pool:  # hashing releases the GIL
        for done, digest in enumerate(pool.map(attempt, files), start=1):
            yield digest
            if progress:
                progress(done, len(files))


def _split_unreachable(
    root: Path, missing: Mapping[str, KnownFile], unreadable_folders: Sequence[str]
) -> tuple[list[int], list[int]]:
    """The ids of files that are deleted or left out by the rules, and of those whose disk does not tell."""

    @cache
    def is_cut_off(folder: str) -> bool:
        """Whether the folder is behind a dead link: to a disk that is not mounted."""
        path = os.path.join(root, folder)
        is_dead = os.path.islink(path) and not os.path.exists(path)
        return is_dead or (folder != "" and is_cut_off(os.path.dirname(folder)))

    removed, unreachable = [], []
    prefixes = tuple("" if folder == "." else f"{folder}/" for folder in unreadable_folders)
    for path, known in missing.items():
        if path.startswith(prefixes):
            unreachable.append(known.id)
            continue
        try:
            os.lstat(root / path)
        except (FileNotFoundError, NotADirectoryError):
            (unreachable if is_cut_off(os.path.dirname(path)) else removed).append(known.id)
        except OSError:  # a folder that may not be entered, a network that is down
            unreachable.append(known.id)
        else:
            removed.append(known.id)
    return removed, unreachable
