"""Append-only files of vectors, and a small header file that records how much of them is valid.

A folder contains `rows.json` and, named after a generation, append-only files. An
append becomes valid when `rows.json` is replaced atomically; bytes beyond the recorded length, from a process that
died, are truncated by the next change. Building again starts a new generation.
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

from diptych.errors import SearchIndexError, VectorFilesError
from diptych.storage.directory import IndexDirectory
from diptych.storage.entry_errors import plain_name
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from jaxtyping import Float16, Int64, UInt64

FORMAT = 1
HEADER_FILE = "rows.json"
ROW = np.dtype([("id", "<i8"), ("check", "<u8")])
BLOCK = 1 << 24  # bytes per read or write
_MAX_NUMBER = 1 << 48  # bytes or rows
_MAX_HEADER_BYTES = 1 << 20  # larger than any header
_ENDINGS = ("vectors", "rows", "gone", "codes", "quantiser")


@dataclass(frozen=True)
class VectorFilesHeader:
    """The contents of `rows.json`: the valid generation, its shape, and the length and CRC of each file.

    `sums` maps a file's ending to [bytes, CRC-32]. "vectors" has no CRC (0), to avoid reading gigabytes at each
    opening; its rows have checksums of their own. `facts` belongs to the caller.
    """

    stamp: str
    generation: str
    dim: int
    rows: int = 0
    sums: dict[str, list[int]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> bytes:
        """JSON with its own CRC."""
        text = json.dumps(asdict(self), sort_keys=True)
        return json.dumps({"head": text, "crc": zlib.crc32(text.encode())}).encode()

    @classmethod
    def read(cls, directory: IndexDirectory) -> VectorFilesHeader:
        """Raises VectorFilesError if the header is missing, damaged or of another format."""
        folder = directory.path
        try:
            outer = parse_json(directory.read(HEADER_FILE, _MAX_HEADER_BYTES))
            text = outer["head"]
            if zlib.crc32(text.encode()) != outer["crc"]:
                raise VectorFilesError(f"{folder / HEADER_FILE} is damaged; build the cache again.")
            header = parse_json(text)
            if header["format"] != FORMAT:
                raise VectorFilesError(
                    f"{folder}: the cache has format {header['format']}; this version reads {FORMAT}."
                )
            return cls(**header)._checked()
        except FileNotFoundError as error:
            raise VectorFilesError(f"{folder} contains no cache of vectors; build one.") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, VectorFilesError):
                raise
            raise VectorFilesError(
                f"{folder / HEADER_FILE} cannot be read ({error}); build the cache again."
            ) from error

    def _checked(self) -> VectorFilesHeader:
        """The header itself. Raises ValueError if a field is invalid: an untrusted file may contain anything, with a
        correct CRC."""
        pairs = [*self.sums.values()] if isinstance(self.sums, dict) and self.sums.keys() <= {*_ENDINGS} else [()]
        are_pairs = all(isinstance(entry, list) and len(entry) == 2 for entry in pairs)
        numbers = [self.dim, self.rows, *(number for entry in pairs for number in entry)] if are_pairs else [None]
        are_numbers = all(type(number) is int and 0 <= number < _MAX_NUMBER for number in numbers)
        texts, has_facts = (self.stamp, self.generation), isinstance(self.facts, dict)
        if not (are_numbers and has_facts and self.dim > 0 and all(isinstance(text, str) for text in texts)):
            raise ValueError("a field has an invalid value")
        plain_name(self.generation)
        return self


def row_checksums(vectors: Float16[np.ndarray, "n d"]) -> UInt64[np.ndarray, " n"]:
    """A checksum per row: the sum of its 64-bit words, weighted by position, modulo 2^64; it is not 0 for zeros."""
    width = vectors.shape[1] * 2
    word = next(size for size in (8, 4, 2) if width % size == 0)
    words = np.ascontiguousarray(vectors).view(f"<u{word}").astype(np.uint64)
    word_weights = np.arange(1, words.shape[1] + 1, dtype=np.uint64) * np.uint64(
        2 * 0x9E3779B97F4A7C15 % (1 << 64)
    ) | np.uint64(1)
    words *= word_weights
    return words.sum(axis=1, dtype=np.uint64) + np.uint64(0x5851F42D4C957F2D)


def checked_vectors(ids: np.ndarray, vectors: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids as int64 and vectors as float16, (n, dim). Raises ValueError for duplicate ids, another shape, and vectors
    that are not finite."""
    ids, vectors = np.asarray(ids, np.int64), np.asarray(vectors, np.float16)
    if vectors.shape != (len(ids), dim):
        raise ValueError(f"vectors of shape {vectors.shape} for {len(ids)} ids; wanted ({len(ids)}, {dim}).")
    if not np.isfinite(vectors).all():
        raise ValueError(f"the vector of id {ids[~np.isfinite(vectors).all(axis=1)][0]} is not finite; leave it out.")
    if len(np.unique(ids)) < len(ids):
        raise ValueError("an id is repeated; each vector needs its own.")
    return ids, vectors


class VectorFiles:
    """The vectors, their ids, and further files of one generation, opened for reading and appending.

    One process writes at a time (the caller ensures that); any number may read meanwhile.
    """

    def __init__(self, directory: IndexDirectory, header: VectorFilesHeader):
        self.directory, self.header = directory, header
        self._map()

    @classmethod
    def create(cls, directory: IndexDirectory, dim: int) -> VectorFiles:
        """An empty generation; the current one stays valid until `commit`."""
        directory.create()
        if directory.has_directory(HEADER_FILE):  # a file cannot replace a directory
            directory.remove_all(HEADER_FILE)
        return cls(directory, VectorFilesHeader(stamp="", generation=secrets.token_hex(6), dim=dim))

    @classmethod
    def open(cls, directory: IndexDirectory) -> VectorFiles:
        """Raises VectorFilesError if a file is missing, truncated or damaged, as far as it is read here."""
        try:
            return cls._opened(directory, VectorFilesHeader.read(directory))
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):  # another process built a new generation in between
                return cls._opened(directory, VectorFilesHeader.read(directory))
            raise VectorFilesError(f"{directory.path}: a file of the cache is missing; build it again.") from None

    @classmethod
    def _opened(cls, directory: IndexDirectory, header: VectorFilesHeader) -> VectorFiles:
        try:
            rows = cls(directory, header)
            rows._check_sample()
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, VectorFilesError | FileNotFoundError):
                raise
            raise VectorFilesError(f"{directory.path} cannot be read ({error}); build the cache again.") from error
        return rows

    def path(self, ending: str) -> Path:
        """The path of the file with that ending, for messages."""
        return self.directory.path / self._name(ending)

    def _name(self, ending: str) -> str:
        return f"{self.header.generation}.{ending}"

    def _map(self) -> None:
        """Memory-map the valid bytes."""
        header = self.header
        wanted = {"vectors": header.rows * header.dim * 2, "rows": header.rows * ROW.itemsize} if header.sums else {}
        for ending, size in wanted.items():
            if header.sums[ending][0] != size:
                raise VectorFilesError(
                    f"{self.path(ending)}: {header.sums[ending][0]} bytes are recorded, {size} were wanted."
                )
        shape = (header.rows, header.dim)
        self.vectors: np.ndarray = self._mapped("vectors").view(np.float16).reshape(shape)
        self._table = self._mapped("rows").view(ROW)
        self.ids: np.ndarray = self._table["id"]

    def _mapped(self, ending: str) -> np.ndarray:
        size, _ = self.header.sums.get(ending, (0, 0))
        if not size:
            return np.empty(0, np.uint8)
        with self.directory.open(self._name(ending), "rb") as file:
            there = os.fstat(file.fileno()).st_size
            if there < size:
                raise VectorFilesError(
                    f"{self.path(ending)} is truncated: {there} of {size} bytes; build the cache again."
                )
            return np.asarray(np.memmap(file, np.uint8, "r", shape=(size,)))

    def content(self, ending: str) -> np.ndarray:
        """All bytes of a file. Raises VectorFilesError if their CRC differs."""
        content, crc = self._mapped(ending), 0
        for start in range(0, len(content), BLOCK):  # Ctrl-C works between blocks
            crc = zlib.crc32(content[start : start + BLOCK].data, crc)
        if crc != self.header.sums.get(ending, (0, 0))[1]:
            raise VectorFilesError(f"{self.path(ending)} is damaged; build the cache again.")
        return content

    def _check_sample(self) -> None:
        """Check the row table completely, and 64 rows of the vectors from end to end: damaged regions show in some of
        them."""
        self.content("rows")
        some = np.linspace(0, max(0, self.header.rows - 1), 64).astype(int)
        self.check(some if self.header.rows else some[:0])

    def check(self, rows: Int64[np.ndarray, " n"]) -> None:
        """Raises VectorFilesError if one of these rows does not match its checksum."""
        bad = rows[row_checksums(self.vectors[rows]) != self._table["check"][rows]]
        if len(bad):
            where = self.path("vectors")
            raise VectorFilesError(
                f"{where}: {len(bad)} rows are damaged, the first is {bad[0]}; build the cache again."
            )

    def verify(self) -> None:
        """Read every byte. Raises VectorFilesError at the first damage."""
        for ending in self.header.sums:
            if ending != "vectors":
                self.content(ending)
        step = max(1, BLOCK // (2 * self.header.dim))
        for start in range(0, self.header.rows, step):
            self.check(np.arange(start, min(self.header.rows, start + step)))

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """If the block fails, everything stays as it was."""
        before = self.header
        try:
            yield
        except BaseException:
            self.header = before
            self._map()
            raise

    def append_vectors(self, ids: Int64[np.ndarray, " n"], vectors: Float16[np.ndarray, "n d"]) -> None:
        """Append rows; they are valid after `commit`."""
        table = np.empty(len(ids), ROW)
        table["id"], table["check"] = ids, row_checksums(vectors)
        self.append("vectors", np.ascontiguousarray(vectors))
        self.append("rows", table)
        self.header = replace(self.header, rows=self.header.rows + len(ids))

    def append(self, ending: str, content: np.ndarray) -> None:
        """Append bytes to a file, after truncating the rest of an interrupted change. Raises VectorFilesError if the
        file is hard-linked elsewhere."""
        size, crc = self.header.sums.get(ending, (0, 0))
        data = content.reshape(-1).view(np.uint8)
        with self._changed(ending) as file:
            file.truncate(size)
            file.seek(size)
            file.write(data.data)
            file.flush()
            os.fsync(file.fileno())
        crc = 0 if ending == "vectors" else zlib.crc32(data.data, crc)
        self.header = replace(self.header, sums={**self.header.sums, ending: [size + data.nbytes, crc]})

    def _changed(self, ending: str) -> IO[bytes]:
        try:
            return self.directory.open(self._name(ending), "r+b", create=True)
        except SearchIndexError as error:
            raise VectorFilesError(f"{error.problem} Build the cache again.") from error

    def commit(self, stamp: str, **facts: Any) -> None:
        """Make all appended bytes valid, under this stamp, and delete the files of other generations."""
        self.header = replace(self.header, stamp=stamp, facts={**self.header.facts, **facts})
        self.directory.write(HEADER_FILE, self.header.to_json())
        self._map()
        self._sweep()

    def remap(self) -> None:
        """Map appended bytes before they are valid."""
        self._map()

    def discard(self) -> None:
        """Delete the files of a generation that was not committed."""
        for ending in _ENDINGS:
            self.directory.remove(self._name(ending))

    def _sweep(self) -> None:
        """Delete other generations' files and unfinished headers. On Windows, files that someone reads stay."""
        for name in self.directory.names():
            is_header = name.startswith(f"{HEADER_FILE}.") and name.endswith(".part")
            is_rows = name.rpartition(".")[2] in _ENDINGS and not name.startswith(f"{self.header.generation}.")
            if is_header or is_rows:
                with contextlib.suppress(OSError):
                    self.directory.remove(name)
