"""What an index is made of: files, what is known of them, and the parts of them that have a vector each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from diptych.failures import Failure

FileKind = Literal["picture", "video", "text"]  # of a file
Modality = Literal["picture", "text"]  # of an item: which tower made its vector


class File(NamedTuple):
    """A file as a scan finds it. `path` is relative to the index's root, with forward slashes; bytes of a name that
    are no UTF-8 are kept as surrogates. `mtime_ns` is the time of its last change in nanoseconds."""

    path: str
    kind: FileKind
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Details:
    """What a file says of itself; None where it is silent.

    `width` and `height` are pixels as shown, after the EXIF orientation. `taken_at` is the camera's local time in ISO
    form, "2024-05-01T12:30:00", or as much of it as is said, "2024-05". `latitude` and `longitude` are degrees, north
    and east positive. `camera` is maker and model. `caption` is what the file, or a file beside it, says in words.
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
    """One thing to embed: `pixels`, (size, size, 3) uint8 as the image tower sees it before normalising, or `text`.
    `at_s` is the time of a video's frame in seconds; `line` that of a paragraph's first line, from 1."""

    pixels: np.ndarray | None = None
    text: str | None = None
    at_s: float | None = None
    line: int | None = None


@dataclass(frozen=True)
class FileContents:
    """A file that was read: `digest` is the blake2b of all of its bytes (16 bytes long), but not of a caption's beside
    it; it is empty where not all could be read. `partial` says what is missing of a picture that was read in part."""

    file: File
    digest: bytes
    details: Details = field(default_factory=Details)
    parts: tuple[Part, ...] = ()
    failure: Failure | None = None
    partial: str = ""


class CatalogEntry(NamedTuple):
    """A file that was read with the vectors of its parts, (parts, dim), float16, of unit length. `settled` is False
    where its time of change tells too little, so that the next update looks at its bytes again."""

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
