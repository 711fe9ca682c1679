"""Files of vectors that only grow, and the one small file that says how much of them counts.

A folder holds `rows.json` and, under the name of a generation, files that are appended to and never changed within.
What a change appends counts once `rows.json` has been replaced, which happens in one step; what was being written when
a process died is beyond the counted length and is cut off by the next change. A rewrite makes a new generation.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from diptych.errors import DiptychError
from diptych.storage.directory import IndexDirectory
from diptych.storage.faults import IndexFault
from diptych.storage.file_kinds import plain_name
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from jaxtyping import Float16, Int64, UInt64

FORMAT = 1
HEAD = "rows.json"
ROW = np.dtype([("id", "<i8"), ("check", "<u8")])
BLOCK = 1 << 24  # bytes read or written at once
_MOST = 1 << 48  # bytes or rows
_HEAD_BYTES = 1 << 20  # more than any head has
_ENDINGS = ("vectors", "rows", "gone", "codes", "quantiser")


class CacheError(DiptychError, ValueError):
    """A cache that is not there, is stale or is damaged: build it anew from what it was made of."""


@dataclass(frozen=True)
class Head:
    """What `rows.json` says: which generation counts, its shape, and how long each of its files is with which CRC.

    `sums` has [bytes, CRC-32 of them] by the file's ending; the CRC of "vectors" is not kept (0): a gigabyte is not
    read at each opening, its rows have their own checks. `facts` is the owner's.
    """

    stamp: str
    generation: str
    dim: int
    rows: int = 0
    sums: dict[str, list[int]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def written(self) -> bytes:
        """As JSON with a CRC of itself."""
        said = json.dumps(asdict(self), sort_keys=True)
        return json.dumps({"head": said, "crc": zlib.crc32(said.encode())}).encode()

    @classmethod
    def read(cls, directory: IndexDirectory) -> Head:
        """Raises CacheError where it is missing, damaged or of another format."""
        folder = directory.path
        try:
            outer = parse_json(directory.read(HEAD, _HEAD_BYTES))
            said = outer["head"]
            if zlib.crc32(said.encode()) != outer["crc"]:
                raise CacheError(f"{folder / HEAD} is damaged; build the cache anew.")
            head = parse_json(said)
            if head["format"] != FORMAT:
                raise CacheError(f"{folder}: a cache of format {head['format']}; this version reads {FORMAT}.")
            return cls(**head)._checked()
        except FileNotFoundError as error:
            raise CacheError(f"{folder} holds no cache of vectors; build one.") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, CacheError):
                raise
            raise CacheError(f"{folder / HEAD} cannot be read ({error}); build the cache anew.") from error

    def _checked(self) -> Head:
        """Itself. Raises ValueError where a field is no such thing as `written` has: whoever made the file can have put
        in anything, with the right CRC."""
        pairs = [*self.sums.values()] if isinstance(self.sums, dict) and self.sums.keys() <= {*_ENDINGS} else [()]
        are_pairs = all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
        numbers = [self.dim, self.rows, *(number for pair in pairs for number in pair)] if are_pairs else [None]
        are_numbers = all(type(number) is int and 0 <= number < _MOST for number in numbers)
        texts, is_told = (self.stamp, self.generation), isinstance(self.facts, dict)
        if not (are_numbers and is_told and self.dim > 0 and all(isinstance(text, str) for text in texts)):
            raise ValueError("a field is not what it should be")
        plain_name(self.generation)
        return self


def checks(vectors: Float16[np.ndarray, "n d"]) -> UInt64[np.ndarray, " n"]:
    """A number per row that changes with its bytes: their words weighted by place, modulo 2^64; not 0 for zeros."""
    width = vectors.shape[1] * 2
    word = next(size for size in (8, 4, 2) if width % size == 0)
    words = np.ascontiguousarray(vectors).view(f"<u{word}").astype(np.uint64)
    places = np.arange(1, words.shape[1] + 1, dtype=np.uint64) * np.uint64(
        2 * 0x9E3779B97F4A7C15 % (1 << 64)
    ) | np.uint64(1)
    words *= places
    return words.sum(axis=1, dtype=np.uint64) + np.uint64(0x5851F42D4C957F2D)


class Rows:
    """The vectors, their ids, and further files of one generation, opened for reading and growing.

    One process writes at a time (the caller sees to that); any number read meanwhile.
    """

    def __init__(self, directory: IndexDirectory, head: Head):
        self.directory, self.head = directory, head
        self._map()

    @classmethod
    def create(cls, directory: IndexDirectory, dim: int) -> Rows:
        """An empty generation beside whatever is there, which goes on counting until `commit`."""
        directory.create()
        if directory.has_directory(HEAD):  # which no file could be put in the place of
            directory.remove_all(HEAD)
        return cls(directory, Head(stamp="", generation=secrets.token_hex(6), dim=dim))

    @classmethod
    def open(cls, directory: IndexDirectory) -> Rows:
        """Raises CacheError on anything missing, cut short or damaged, as far as it is read at all."""
        try:
            return cls._opened(directory, Head.read(directory))
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):  # a rewrite took the files away after the head was read
                return cls._opened(directory, Head.read(directory))
            raise CacheError(f"{directory.path}: a file of the cache is missing; build it anew.") from None

    @classmethod
    def _opened(cls, directory: IndexDirectory, head: Head) -> Rows:
        try:
            rows = cls(directory, head)
            rows._look_at_some()
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, CacheError | FileNotFoundError):
                raise
            raise CacheError(f"{directory.path} cannot be read ({error}); build the cache anew.") from error
        return rows

    def path(self, ending: str) -> Path:
        """The file of this generation with that ending, as messages name it."""
        return self.directory.path / self._name(ending)

    def _name(self, ending: str) -> str:
        return f"{self.head.generation}.{ending}"

    def _map(self) -> None:
        """Memory maps of what counts."""
        head = self.head
        wanted = {"vectors": head.rows * head.dim * 2, "rows": head.rows * ROW.itemsize} if head.sums else {}
        for ending, size in wanted.items():
            if head.sums[ending][0] != size:
                raise CacheError(f"{self.path(ending)}: {head.sums[ending][0]} bytes are named, {size} were wanted.")
        shape = (head.rows, head.dim)
        self.vectors: np.ndarray = self._mapped("vectors").view(np.float16).reshape(shape)
        self._table = self._mapped("rows").view(ROW)
        self.ids: np.ndarray = self._table["id"]

    def _mapped(self, ending: str) -> np.ndarray:
        size, _ = self.head.sums.get(ending, (0, 0))
        if not size:
            return np.empty(0, np.uint8)
        with self.directory.open(self._name(ending), "rb") as file:
            there = os.fstat(file.fileno()).st_size
            if there < size:
                raise CacheError(f"{self.path(ending)} is cut short: {there} of {size} bytes; build the cache anew.")
            return np.asarray(np.memmap(file, np.uint8, "r", shape=(size,)))

    def content(self, ending: str) -> np.ndarray:
        """All bytes of a file, their CRC compared. Raises CacheError."""
        content, crc = self._mapped(ending), 0
        for start in range(0, len(content), BLOCK):  # between blocks, Ctrl-C is heard
            crc = zlib.crc32(content[start : start + BLOCK].data, crc)
        if crc != self.head.sums.get(ending, (0, 0))[1]:
            raise CacheError(f"{self.path(ending)} is damaged; build the cache anew.")
        return content

    def _look_at_some(self) -> None:
        """The small files wholly, of the vectors a few rows from end to end: noise and zeros show in any of them."""
        self.content("rows")
        some = np.linspace(0, max(0, self.head.rows - 1), 64).astype(int)
        self.check(some if self.head.rows else some[:0])

    def check(self, rows: Int64[np.ndarray, " n"]) -> None:
        """Raises CacheError where one of these rows is not what was written."""
        bad = rows[checks(self.vectors[rows]) != self._table["check"][rows]]
        if len(bad):
            where = self.path("vectors")
            raise CacheError(f"{where}: {len(bad)} rows are damaged, the first {bad[0]}; build the cache anew.")

    def verify(self) -> None:
        """Everything, which reads every byte. Raises CacheError."""
        for ending in self.head.sums:
            if ending != "vectors":
                self.content(ending)
        step = max(1, BLOCK // (2 * self.head.dim))
        for start in range(0, self.head.rows, step):
            self.check(np.arange(start, min(self.head.rows, start + step)))

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """What fails within leaves everything as it was."""
        before = self.head
        try:
            yield
        except BaseException:
            self.head = before
            self._map()
            raise

    def append_vectors(self, ids: Int64[np.ndarray, " n"], vectors: Float16[np.ndarray, "n d"]) -> None:
        """Rows at the end; they count after `commit`."""
        table = np.empty(len(ids), ROW)
        table["id"], table["check"] = ids, checks(vectors)
        self.append("vectors", np.ascontiguousarray(vectors))
        self.append("rows", table)
        self.head = replace(self.head, rows=self.head.rows + len(ids))

    def append(self, ending: str, content: np.ndarray) -> None:
        """Bytes at the end of a file; what an interrupted change left there is cut off first. Raises CacheError where
        the file is not this cache's alone."""
        size, crc = self.head.sums.get(ending, (0, 0))
        data = content.reshape(-1).view(np.uint8)
        with self._changed(ending) as file:
            file.truncate(size)
            file.seek(size)
            file.write(data.data)
            file.flush()
            os.fsync(file.fileno())
        crc = 0 if ending == "vectors" else zlib.crc32(data.data, crc)
        self.head = replace(self.head, sums={**self.head.sums, ending: [size + data.nbytes, crc]})

    def _changed(self, ending: str) -> IO[bytes]:
        try:
            return self.directory.open(self._name(ending), "r+b", create=True)
        except IndexFault as error:
            raise CacheError(f"{error.problem} Build the cache anew.") from error

    def commit(self, stamp: str, **facts: Any) -> None:
        """From here on what was appended counts, under this stamp; files of other generations go."""
        self.head = replace(self.head, stamp=stamp, facts={**self.head.facts, **facts})
        self.directory.write(HEAD, self.head.written())
        self._map()
        self._sweep()

    def remap(self) -> None:
        """Show what was appended, before it counts."""
        self._map()

    def discard(self) -> None:
        """Take away the files of a generation that never came to count."""
        for ending in _ENDINGS:
            self.directory.remove(self._name(ending))

    def _sweep(self) -> None:
        """Other generations' files, and heads that were never put in place. Windows keeps those that someone reads."""
        for name in self.directory.names():
            is_head = name.startswith(f"{HEAD}.") and name.endswith(".part")
            is_rows = name.rpartition(".")[2] in _ENDINGS and not name.startswith(f"{self.head.generation}.")
            if is_head or is_rows:
                with contextlib.suppress(OSError):
                    self.directory.remove(name)
