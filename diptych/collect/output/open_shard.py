"""The shard that is being filled: a tar under a hidden name, which survives the process that fills it.

A pair is three members: its picture, its best caption, and last its facts. A process that is killed may leave half of a
pair, or members without the blocks of zeros that end a tar; whoever opens the file next cuts it after the last whole
pair and goes on.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from diptych.collect.output.facts import Facts, json_of, parsed_facts
from diptych.data.samples import MAX_SIDECAR_BYTES
from diptych.data.sources.shards import DAMAGE, members, read_member
from diptych.errors import DataError
from diptych.storage.atomic import sync_folder
from diptych.untrusted.regular_files import MAX_BYTES, open_file

END = bytes(2 * tarfile.BLOCKSIZE)
_PARTS = 3  # members of a pair
_MAX_TIME = 8**11 - 1  # of a tar's header, in seconds since 1970


class StoredPair(NamedTuple):
    """A pair in a tar: its facts, and the offsets of its members' content with their sizes, in bytes: the picture's
    and that of the facts."""

    facts: Facts
    picture: tuple[int, int]
    json: tuple[int, int]

    @property
    def end(self) -> int:
        """The byte after its last member."""
        offset, size = self.json
        return offset + size + -size % tarfile.BLOCKSIZE


def stored_pairs(path: Path) -> Iterator[StoredPair]:
    """The pairs of a tar in order, up to the first that is not whole or not of this program."""
    with contextlib.suppress(DataError, *DAMAGE):
        yield from all_pairs(path)


def all_pairs(path: Path) -> Iterator[StoredPair]:
    """The pairs of a tar in order. Raises DataError or one of `shards.DAMAGE` where something else is in it."""
    with open_file(path) as file:
        group: list[tuple[str, int, int]] = []
        for member in members(path):
            group.append(member)
            if len(group) == _PARTS:
                yield _stored(group, file)
                group = []
    if group:
        raise DataError(f"{path} ends within a pair.", "damaged shard")


def _stored(group: list[tuple[str, int, int]], file: BinaryIO) -> StoredPair:
    (picture, *at), (text, *_), (name, *span) = group
    key, _, kind = name.rpartition(".")
    if kind != "json" or text != f"{key}.txt" or picture.rpartition(".")[0] != key:
        raise DataError(f"{picture} and {name} are not of one pair.", "foreign members")
    facts = parsed_facts(read_member(file, span, MAX_SIDECAR_BYTES, key), key)
    return StoredPair(facts, (at[0], at[1]), (span[0], span[1]))


def content_of(stored: StoredPair, path: Path) -> bytes:
    """The bytes of a stored pair's picture."""
    with open_file(path) as file:
        return read_member(file, stored.picture, MAX_BYTES, str(stored.facts["key"]))


class OpenShard:
    """Appends pairs to a tar. `pairs` counts the whole ones in it, those of earlier processes too; `rows` are their
    facts, for the table beside it."""

    def __init__(self, path: Path, *, has_table: bool = True):
        """Open the file at `path`, or make it. Without a table `rows` stays empty."""
        self.path, self.pairs, self._end = path, 0, 0
        self.rows: list[Facts] = []
        self._has_table = has_table
        if path.exists():
            for stored in stored_pairs(path):
                self.pairs, self._end = self.pairs + 1, stored.end
                if has_table:
                    self.rows.append(stored.facts)
        is_new = not path.exists()
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)  # a buffer would outlive an error
        self._cut()
        if is_new:
            sync_folder(path.parent)

    def add(self, facts: Facts, content: bytes, time_s: float) -> None:
        """Append a pair. Where that fails, as on a full disk, nothing of it stays."""
        key, caption = str(facts["key"]), facts["captions"][0]  # type: ignore[index]
        text = json_of(facts)
        parts = (
            (str(facts["suffix"]), content),
            (".txt", caption.encode("utf-8", "replace")),
            (".json", text),
        )
        data = b"".join(_member(key + suffix, part, time_s) for suffix, part in parts)
        self._append(data)
        self.pairs, self._end = self.pairs + 1, self._end + len(data)
        if self._has_table:  # a question mark may stand for what is no Unicode, which a table cannot have either
            self.rows.append(parsed_facts(text, key) if b"?" in text else facts)

    def sync(self) -> None:
        """Wait until all pairs are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Leave the file as it is, for a later process."""
        self._file.close()

    def finish(self) -> None:
        """Write the end of the tar, wait until it is on the disk, and close the file."""
        self._append(END)
        self.sync()
        self._file.close()

    def _append(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._cut()
            raise

    def _cut(self) -> None:
        """Remove what follows the last whole pair."""
        self._file.truncate(self._end)
        self._file.seek(self._end)


def _member(name: str, content: bytes, time_s: float) -> bytes:
    """A tar member, with its header (POSIX.1-1988 ustar) and the zeros that fill its last block."""
    header = tarfile.TarInfo(name)
    header.size, header.mtime = len(content), min(max(0, int(time_s)), _MAX_TIME)
    return header.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
