"""Validates the rows of a catalog. A folder may come from anyone, with a catalog in which any column contains anything:
an invalid row is left out, and no path leads out of the folder."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from diptych.index.catalog.facts import KNOWN_KEYS, MAX_TEXT_LENGTH
from diptych.media.items import CatalogEntry, Details, FileContents, IndexCounts, Modality
from diptych.media.scanning.path_patterns import LONGEST_PATH
from diptych.media.scanning.suffixes import KIND_OF_SUFFIX
from diptych.versions import READING, TOKENIZING

MAX_PARAGRAPH_LENGTH = 20_000  # characters of a paragraph or caption: more than sixty words of two hundred letters
UNIT_TOLERANCE = 0.01  # float16 rounding changes a length by less than a tenth of this
MAX_NOTE_LENGTH = 2000  # characters of a failure message
_MAX_SIDE_PX = 2**31  # pixels of a side

# A relative path below a folder: no empty part, no . or .., no drive, no NUL, and on Windows no backslash
_DRIVE = re.compile(r"[A-Za-z]:")
_PATH = re.compile(r"(?!.*\0)(?:(?!\.\.?(?:/|\Z))[^/]++/)*(?!\.\.?\Z)[^/]+", re.S)
_TEXT = frozenset(suffix for suffix, kind in KIND_OF_SUFFIX.items() if kind == "text")
_MEDIA = frozenset(KIND_OF_SUFFIX) - _TEXT

DETAILS = tuple(field.name for field in fields(Details))
FILE_COLUMNS = (
    "path", "kind", "size", "mtime_ns", "digest", *DETAILS, "reason", "message", "partial", "reading", "tokenizing",
)  # fmt: skip
# SQL: a row of `files` has columns of the right types. SQLite accepts any value in any column
VALID_FILE = (
    f"typeof(files.path) = 'text' AND length(files.path) <= {LONGEST_PATH} AND "
    "files.kind IN ('picture', 'video', 'text') AND typeof(files.size) = 'integer' AND "
    "typeof(files.mtime_ns) IN ('integer', 'null') AND typeof(files.digest) IN ('blob', 'null')"
)


class Item(NamedTuple):
    """An item of the index: a picture, a frame of a video (`at_s`), or a `text` (starting at `line`), with its file.
    `path` is relative to the index's root."""

    id: int
    path: str
    kind: str
    modality: Modality
    at_s: float | None
    line: int | None
    text: str | None
    size: int
    digest: bytes | None
    details: Details


class KnownFile(NamedTuple):
    """What the catalog records of a file, to detect changes. `mtime_ns` is None if the file must be checked again;
    `failed` means that it could not be read, `outdated` that an earlier version read it, whose pixels or token ids may
    differ."""

    id: int
    kind: str
    size: int
    mtime_ns: int | None
    failed: int
    outdated: int = 0


class State(NamedTuple):
    """The `facts` of a catalog and its `files`, by path: the start of an update."""

    facts: dict[str, Any]
    files: dict[str, KnownFile]


class Summary(NamedTuple):
    """The state of a catalog after an update: its `facts`, the `counts` of the whole index, the files that could not be
    read (path -> (reason, message)), and those read in part (path -> what is missing)."""

    facts: dict[str, Any]
    counts: IndexCounts
    failures: dict[str, tuple[str, str]]
    partial: dict[str, str]


def stamp_of(facts: Mapping[str, Any], modality: Modality) -> str:
    """`Catalog.stamp` from given facts."""
    return f"{facts['fingerprint']}:{facts[f'change.{modality}']}"


def is_valid_path(path: object, kind: object) -> bool:
    """Whether this can be the path of a file of this kind in an index: relative, below the folder, with an ending that
    is indexed. A picture or video may have another's ending, or a text's, because its bytes determine its kind."""
    if not isinstance(path, str) or len(path) > LONGEST_PATH or not _PATH.fullmatch(path):
        return False
    if os.name == "nt" and ("\\" in path or _DRIVE.match(path)):
        return False
    ending = path[max(path.rfind("/") + 1, path.rfind(".")) :].lower()  # ".jpg" is a hidden file without an ending
    return ending in _TEXT or (ending in _MEDIA and kind in ("picture", "video"))


def bounded_column(column: str, longest: int = MAX_PARAGRAPH_LENGTH) -> str:
    """SQL for a column's value; an empty blob, which is never valid, if it is longer than any of ours."""
    return f"CASE WHEN {column} IS NULL OR length({column}) <= {longest} THEN {column} ELSE x'' END"


def text_column(column: str, longest: int) -> str:
    """SQL for a text column, truncated to a length; "?" if it does not contain text."""
    return f"CASE WHEN typeof({column}) = 'text' THEN substr({column}, 1, {longest}) ELSE '?' END"


_ITEM_COLUMNS = ", ".join(
    (
        "items.id", bounded_column("files.path", LONGEST_PATH), "kind", "modality", "at_s", "line",
        bounded_column("items.text"), "size", "digest",
        "CASE WHEN typeof(items.vector) = 'blob' THEN length(items.vector) END",
        *(bounded_column(f"files.{name}") for name in DETAILS),
    )
)  # fmt: skip


# Statements that read a catalog; UNREAD and PARTIAL continue with a condition, ITEMS has {} for its ids
_KNOWN = ", ".join(f"'{key}'" for key in KNOWN_KEYS)
_NOTE = f"{text_column('reason', MAX_NOTE_LENGTH)}, {text_column('message', MAX_NOTE_LENGTH)}"
LAST_ID = "SELECT typeof(seq) != 'integer' OR seq NOT BETWEEN 0 AND 1 << 53 FROM sqlite_sequence WHERE name = 'items'"
FACTS = f"SELECT key, {bounded_column('value', MAX_TEXT_LENGTH)} FROM facts WHERE key IN ({_KNOWN})"
FACT = "VALUES (?1, CASE typeof(?2) WHEN 'blob' THEN CAST(?2 AS TEXT) ELSE ?2 END)"  # for a row of `fact_rows`
UNREAD = f"SELECT path, kind, {_NOTE} FROM files WHERE reason IS NOT NULL AND {VALID_FILE} AND "
PARTIAL = (
    f"SELECT path, kind, {text_column('partial', MAX_NOTE_LENGTH)} FROM files WHERE partial != '' AND {VALID_FILE} AND "
)
PATHS = f"SELECT id, {bounded_column('path', LONGEST_PATH)}, {bounded_column('kind', 20)}, {VALID_FILE} FROM files"
ITEMS = f"SELECT {_ITEM_COLUMNS} FROM items JOIN files ON files.id = items.file WHERE items.id IN ({{}})"


def item_of(row: Sequence[Any], vector_bytes: int) -> Item | None:
    """The item in a row of ITEMS; None if the row is not valid."""
    id, path, kind, modality, at_s, line, text, size, digest, length, *details = row
    is_valid = (
        is_valid_path(path, kind)
        and modality in ("picture", "text")
        and length == vector_bytes
        and _is_number(at_s)
        and (line is None or isinstance(line, int))
        and (isinstance(text, str) or (text is None and modality == "picture"))
        and isinstance(size, int)
        and (digest is None or isinstance(digest, bytes))
        and all(_KINDS[name](value) for name, value in zip(DETAILS, details, strict=True))
    )
    return Item(id, path, kind, modality, at_s, line, text, size, digest, Details(*details)) if is_valid else None


def valid_vector(dim: int) -> str:
    """SQL: a row of `items` has a vector of `dim` numbers."""
    return f"typeof(items.vector) = 'blob' AND length(items.vector) = {2 * dim}"


def are_unit(vectors: np.ndarray) -> np.ndarray:
    """For each of these vectors, (n, dim) float16, whether it is finite and of unit length: (n,) bool."""
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    return np.abs(lengths - 1) < UNIT_TOLERANCE  # False for NaN


def display_path(path: object, id: int) -> str:
    """The name of an invalid row for messages: its path, if it is text."""
    return path if isinstance(path, str) and path else f"entry {id}"


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def _is_size(value: object) -> bool:
    return value is None or (isinstance(value, int) and 0 <= value <= _MAX_SIDE_PX)


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


_KINDS = dict.fromkeys(DETAILS, _is_text) | dict.fromkeys(("width", "height"), _is_size)
_KINDS |= dict.fromkeys(("latitude", "longitude", "duration_s"), _is_number)


def storable(value: Any) -> Any:
    """A value that can be stored: lone surrogates become question marks, numbers that are not finite None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def fact_rows(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Facts as FACT takes them: names of folders and models may be bytes that are not UTF-8."""
    return [(key, os.fsencode(value) if isinstance(value, str) else value) for key, value in facts.items()]


def file_row(contents: FileContents, *, settled: bool) -> tuple[Any, ...]:
    """The row of FILE_COLUMNS for a file that was read."""
    file, failure, details = contents.file, contents.failure, contents.details
    return (
        os.fsencode(file.path), file.kind, file.size, file.mtime_ns if settled else None, contents.digest,
        *(storable(getattr(details, name)) for name in DETAILS),
        *(storable(text) for text in ((failure.reason, failure.message) if failure else (None, None))),
        storable(contents.partial), READING, TOKENIZING,
    )  # fmt: skip


def item_rows(file: int, entry: CatalogEntry, dim: int) -> Iterator[tuple[Any, ...]]:
    """The rows of `items` for a file that was read. Raises ValueError for vectors of another shape."""
    parts, vectors = entry.contents.parts, np.ascontiguousarray(entry.vectors, "<f2")
    if vectors.shape != (len(parts), dim):
        raise ValueError(f"{vectors.shape} vectors for {len(parts)} parts of a file; wanted ({len(parts)}, {dim}).")
    for part, vector in zip(parts, vectors, strict=True):
        modality = "text" if part.text is not None else "picture"
        yield file, modality, part.at_s, part.line, storable(part.text), vector.tobytes()
