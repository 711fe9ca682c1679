"""What a catalog's rows may hold. A folder may come from anyone, and its catalog with it, in which any column can hold
anything: a row that is none of ours costs itself alone, and no path leads out of the folder."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from diptych.index.catalog.facts import KNOWN_KEYS, MAX_TEXT_LENGTH
from diptych.media.images import ENDINGS
from diptych.media.items import Contents, Counts, Details, Entry, Modality
from diptych.media.path_patterns import LONGEST_PATH
from diptych.media.scan import RAW_ENDINGS, TEXT_ENDINGS, VIDEO_ENDINGS
from diptych.versions import READING, TOKENIZING

LONGEST_TEXT = 20_000  # characters of a paragraph or caption: sixty words of two hundred letters are fewer
FAR_FROM_UNIT = 0.01  # float16 changes a length by less than a tenth of this
LONGEST_NOTE = 2000  # characters of why a file could not be read
_LARGEST = 2**31  # pixels of a side

# A whole path below a folder: no empty part, no dots alone, no drive, no NUL, and on Windows no backslash either
_DRIVE = re.compile(r"[A-Za-z]:")
_PATH = re.compile(r"(?!.*\0)(?:(?!\.\.?(?:/|\Z))[^/]++/)*(?!\.\.?\Z)[^/]+", re.S)
_TEXT = frozenset(f".{ending}" for ending in TEXT_ENDINGS.split("|"))
_SEEN = frozenset(f".{ending}" for ending in f"{ENDINGS}|{RAW_ENDINGS}|{VIDEO_ENDINGS}".split("|"))

DETAILS = tuple(field.name for field in fields(Details))
FILE_COLUMNS = (
    "path", "kind", "size", "mtime_ns", "digest", *DETAILS, "reason", "message", "partial", "reading", "tokenizing",
)  # fmt: skip
# SQL that holds for a row of `files` whose columns are of their kinds; SQLite takes any value in any column
SOUND_FILE = (
    f"typeof(files.path) = 'text' AND length(files.path) <= {LONGEST_PATH} AND "
    "files.kind IN ('picture', 'video', 'text') AND typeof(files.size) = 'integer' AND "
    "typeof(files.mtime_ns) IN ('integer', 'null') AND typeof(files.digest) IN ('blob', 'null')"
)


class Item(NamedTuple):
    """One thing that can be found: a picture, a frame of a video (`at_s`), or a `text` (from `line` on), with its file.
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


class Known(NamedTuple):
    """What the catalog remembers of a file, to tell whether it has changed. `mtime_ns` is None where the file must be
    looked at again; `failed` says that it could not be read, `outdated` that it was read by an earlier version, whose
    pixels or ids may have been others."""

    id: int
    kind: str
    size: int
    mtime_ns: int | None
    failed: int
    outdated: int = 0


class State(NamedTuple):
    """The `facts` of a catalog and the `files` that it knows, by path: what an update begins with."""

    facts: dict[str, Any]
    files: dict[str, Known]


class Summary(NamedTuple):
    """What a catalog holds after an update: its `facts`, the `counts` of the whole index, and the files that could not
    be read (path -> (reason, message)) or in part only (path -> what is missing)."""

    facts: dict[str, Any]
    counts: Counts
    failures: dict[str, tuple[str, str]]
    partial: dict[str, str]


def stamp_of(facts: Mapping[str, Any], modality: Modality) -> str:
    """`Catalog.stamp` from the facts at hand."""
    return f"{facts['fingerprint']}:{facts[f'change.{modality}']}"


def is_sound_path(path: object, kind: object) -> bool:
    """Whether this can be the path of a file of this kind in an index: relative, below the folder, and called as what
    is indexed. A picture's or a film's name may be another's, or a text's: their bytes tell what they are."""
    if not isinstance(path, str) or len(path) > LONGEST_PATH or not _PATH.fullmatch(path):
        return False
    if os.name == "nt" and ("\\" in path or _DRIVE.match(path)):
        return False
    ending = path[max(path.rfind("/") + 1, path.rfind(".")) :].lower()  # .jpg is the whole name of a hidden file
    return ending in _TEXT or (ending in _SEEN and kind in ("picture", "video"))


def bounded(column: str, longest: int = LONGEST_TEXT) -> str:
    """SQL for a column's value, without what is longer than any of ours: as an empty blob, which no column may hold."""
    return f"CASE WHEN {column} IS NULL OR length({column}) <= {longest} THEN {column} ELSE x'' END"


def said(column: str, longest: int) -> str:
    """SQL for a column of words, cut where they are longer than any of ours; a question mark where it holds none."""
    return f"CASE WHEN typeof({column}) = 'text' THEN substr({column}, 1, {longest}) ELSE '?' END"


_ITEM_COLUMNS = ", ".join(
    (
        "items.id", bounded("files.path", LONGEST_PATH), "kind", "modality", "at_s", "line", bounded("items.text"),
        "size", "digest", "CASE WHEN typeof(items.vector) = 'blob' THEN length(items.vector) END",
        *(bounded(f"files.{name}") for name in DETAILS),
    )
)  # fmt: skip


# What of a catalog is read, in statements; UNREAD and PARTIAL go on with a condition, ITEMS has {} for its ids
_KNOWN = ", ".join(f"'{key}'" for key in KNOWN_KEYS)
_NOTE = f"{said('reason', LONGEST_NOTE)}, {said('message', LONGEST_NOTE)}"
LAST_ID = "SELECT typeof(seq) != 'integer' OR seq NOT BETWEEN 0 AND 1 << 53 FROM sqlite_sequence WHERE name = 'items'"
FACTS = f"SELECT key, {bounded('value', MAX_TEXT_LENGTH)} FROM facts WHERE key IN ({_KNOWN})"
FACT = "VALUES (?1, CASE typeof(?2) WHEN 'blob' THEN CAST(?2 AS TEXT) ELSE ?2 END)"  # of a row of `fact_rows`
UNREAD = f"SELECT path, kind, {_NOTE} FROM files WHERE reason IS NOT NULL AND {SOUND_FILE} AND "
PARTIAL = f"SELECT path, kind, {said('partial', LONGEST_NOTE)} FROM files WHERE partial != '' AND {SOUND_FILE} AND "
PATHS = f"SELECT id, {bounded('path', LONGEST_PATH)}, {bounded('kind', 20)}, {SOUND_FILE} FROM files"
ITEMS = f"SELECT {_ITEM_COLUMNS} FROM items JOIN files ON files.id = items.file WHERE items.id IN ({{}})"


def item_of(row: Sequence[Any], vector_bytes: int) -> Item | None:
    """A row of ITEMS; None where it is none of ours."""
    id, path, kind, modality, at_s, line, text, size, digest, length, *details = row
    is_sound = (
        is_sound_path(path, kind)
        and modality in ("picture", "text")
        and length == vector_bytes
        and _is_number(at_s)
        and (line is None or isinstance(line, int))
        and (isinstance(text, str) or (text is None and modality == "picture"))
        and isinstance(size, int)
        and (digest is None or isinstance(digest, bytes))
        and all(_KINDS[name](value) for name, value in zip(DETAILS, details, strict=True))
    )
    return Item(id, path, kind, modality, at_s, line, text, size, digest, Details(*details)) if is_sound else None


def sound_vector(dim: int) -> str:
    """SQL that holds for a row of `items` whose vector has `dim` numbers."""
    return f"typeof(items.vector) = 'blob' AND length(items.vector) = {2 * dim}"


def are_unit(vectors: np.ndarray) -> np.ndarray:
    """For each of these vectors, (n, dim) float16, whether it is of finite numbers and of unit length: (n,) bool."""
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    return np.abs(lengths - 1) < FAR_FROM_UNIT  # False for not-a-number


def named(path: object, id: int) -> str:
    """What a row that is none of ours is called: by its path, if that is one."""
    return path if isinstance(path, str) and path else f"entry {id}"


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def _is_size(value: object) -> bool:
    return value is None or (isinstance(value, int) and 0 <= value <= _LARGEST)


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


_KINDS = dict.fromkeys(DETAILS, _is_text) | dict.fromkeys(("width", "height"), _is_size)
_KINDS |= dict.fromkeys(("latitude", "longitude", "duration_s"), _is_number)


def plain(value: Any) -> Any:
    """What can be stored: half characters, which Unicode does not know, as question marks; no number that is none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def fact_rows(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Facts as FACT takes them: a folder or a model may be called by bytes that are no text."""
    return [(key, os.fsencode(value) if isinstance(value, str) else value) for key, value in facts.items()]


def file_row(contents: Contents, *, settled: bool) -> tuple[Any, ...]:
    """The row of FILE_COLUMNS for a file that was read."""
    file, failure, details = contents.file, contents.failure, contents.details
    return (
        os.fsencode(file.path), file.kind, file.size, file.mtime_ns if settled else None, contents.digest,
        *(plain(getattr(details, name)) for name in DETAILS),
        *(plain(said) for said in ((failure.reason, failure.message) if failure else (None, None))),
        plain(contents.partial), READING, TOKENIZING,
    )  # fmt: skip


def item_rows(file: int, entry: Entry, dim: int) -> Iterator[tuple[Any, ...]]:
    """The rows of `items` for a file that was read. Raises ValueError for vectors of another shape."""
    parts, vectors = entry.contents.parts, np.ascontiguousarray(entry.vectors, "<f2")
    if vectors.shape != (len(parts), dim):
        raise ValueError(
            f"{vectors.shape} vectors came for {len(parts)} parts of a file; wanted ({len(parts)}, {dim})."
        )
    for part, vector in zip(parts, vectors, strict=True):
        modality = "text" if part.text is not None else "picture"
        yield file, modality, part.at_s, part.line, plain(part.text), vector.tobytes()
