"""The records of an index: files, their details, and their parts, each of which gets a vector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from diptych.failures import Failure

FileKind = Literal["picture", "video", "text"]  # of a file
Modality = Literal["picture", "text"]  # the tower that embeds an item


class File(NamedTuple):
    """A file that a scan found. `path` is relative to the index's root, with forward slashes; bytes that are not UTF-8
    are kept as surrogates. `mtime_ns` is the time of its last change in nanoseconds."""

    path: str
    kind: FileKind
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Details:
    """A file's metadata; missing values are None.

    `width` and `height` are displayed pixels, after the EXIF orientation. `taken_at` is the camera's local time in ISO
    form, "2024-05-01T12:30:00", or the known part of it, "2024-05". `latitude` and `longitude` are degrees, north
    and east positive. `camera` is maker and model. `caption` is text from the file or from a sidecar.
    """

    width: int | None = None
    height: int | None = None
    taken_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    camera: str | None = None
    caption: str | None = None
    duration_s: float | None = None


class Part(NamedTuple):
    """One thing to embed: `pixels`, (size, size, 3) uint8 for the image tower, before normalisation, or `text`.
    `at_s` is the time of a video's frame in seconds; `line` that of a paragraph's first line, from 1."""

    pixels: np.ndarray | None = None
    text: str | None = None
    at_s: float | None = None
    line: int | None = None


@dataclass(frozen=True)
class FileContents:
    """A file that was read. `digest` is the blake2b of its bytes (16 bytes long), without its sidecars; it is empty if
    not all could be read. `partial` describes the missing part of a picture read in part."""

    file: File
    digest: bytes
    details: Details = field(default_factory=Details)
    parts: tuple[Part, ...] = ()
    failure: Failure | None = None
    partial: str = ""


class CatalogEntry(NamedTuple):
    """A file that was read, with the unit vectors of its parts, (parts, dim) float16. `settled` is False if it changed
    too recently for its time of change to be trusted, so that the next update compares its bytes again."""

    contents: FileContents
    vectors: np.ndarray
    settled: bool = True


class IndexCounts(NamedTuple):
    """How many files and items an index holds, how many of the files could not be read, and how many in part only."""

    files: int
    pictures: int
    texts: int
    failed: int
    partial: int = 0
