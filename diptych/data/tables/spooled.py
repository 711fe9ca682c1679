"""Unpacks pictures inside tables into one file, so that each can be read at its offset."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diptych.data.confinement import AllowedFolders
from diptych.data.samples import Sample, caption_lines, count
from diptych.data.spooling import SpoolFile
from diptych.errors import DataError, FileError
from diptych.untrusted.regular_files import DAMAGED_PATH, MAX_BYTES

LIMIT = 256 << 30  # bytes, if the packed size is unknown
_COPIES = 10  # number of times that rows may repeat a file


class TableRow(NamedTuple):
    """A row of a table: its key, its picture as bytes, a path or {"bytes", "path"}, and its caption cells."""

    key: str
    picture: Any
    captions: list[Any]


class SpooledSamples:
    """Samples whose pictures are concatenated in one file. Broken rows are counted in `skipped`."""

    def __init__(
        self, path: Path, rows: Iterable[TableRow], form: str, folder: Path | None = None,
        allowed: AllowedFolders | None = None, limit: int = LIMIT, *, pairs: bool = True,
    ):  # fmt: skip
        """Writes pictures to `path`, up to `limit` bytes. Paths in rows are relative to `folder` and must be in
        `allowed`. With `pairs` False, rows without captions are samples too."""
        self.path, self.form, self.skipped = path, form, dict[str, int]()
        self._keys: list[str] = []
        self._captions: list[tuple[str, ...]] = []
        ends, named, shared = [0], set[str](), dict[str, str]()
        with SpoolFile(path, limit, form) as file:
            for row in rows:
                try:
                    captions, picture = _captions(row, pairs), picture_bytes(row, folder, allowed)
                except DataError as error:
                    count(self.skipped, error.reason)
                    continue
                if (name := _path_in(row)) and name not in named:
                    named.add(name)
                    file.limit += _COPIES * len(picture)
                self._keys.append(row.key)
                self._captions.append(tuple(shared.setdefault(each, each) for each in captions))
                ends.append(ends[-1] + file.write(picture))
        self._ends = np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        with open(self.path, "rb") as file:
            file.seek(self._ends[index])
            picture = file.read(self._ends[index + 1] - self._ends[index])
        return Sample(picture, self._captions[index], self._keys[index])

    def captions(self, index: int) -> tuple[str, ...]:
        return self._captions[index]

    def key(self, index: int) -> str:
        return self._keys[index]


def _captions(row: TableRow, pairs: bool) -> tuple[str, ...]:
    try:
        return captions_in_cells(row)
    except DataError:
        if pairs:
            raise
        return ()


def captions_in_cells(row: TableRow) -> tuple[str, ...]:
    """All captions of a row. Raises DataError if there are none."""
    texts = [text for cell in row.captions for text in (cell if isinstance(cell, list | tuple) else [cell])]
    return caption_lines([text for text in texts if text is not None], row.key)


def the_picture(row: TableRow) -> Any:
    """A row's picture, also from a list of one. Raises DataError for several pictures."""
    if not isinstance(row.picture, list | tuple):
        return row.picture
    if len(row.picture) > 1:
        raise DataError(f"{row.key} has {len(row.picture)} pictures; wanted one.", "several pictures")
    return row.picture[0] if row.picture else None


def picture_bytes(row: TableRow, folder: Path | None, allowed: AllowedFolders | None = None) -> bytes:
    """The bytes of a row's picture. A path is relative to `folder` and must be in `allowed`, by default that folder.
    Raises DataError if there is no picture."""
    if (name := _path_in(row)) is not None:
        return _read(row, name, folder, allowed)
    picture = the_picture(row)
    picture = picture.get("bytes") if isinstance(picture, dict) else picture
    if not isinstance(picture, bytes) or not picture:
        raise DataError(f"{row.key} has no picture.", "no picture")
    if len(picture) > MAX_BYTES:
        raise DataError(f"{row.key} has a picture of {len(picture):,} bytes; wanted fewer.", "too large")
    return picture


def _path_in(row: TableRow) -> str | None:
    """The path of a row's picture, or None if it is not given by a path."""
    picture = the_picture(row)
    if isinstance(picture, dict):
        picture = picture.get("bytes") or picture.get("path")
    return picture if isinstance(picture, str) else None


def _read(row: TableRow, name: str, folder: Path | None, allowed: AllowedFolders | None) -> bytes:
    here = folder or Path()
    try:
        return (allowed or AllowedFolders([here] if folder else [])).read(here / name)
    except FileError as error:
        if error.reason != DAMAGED_PATH:
            raise DataError(f"{row.key}: {error}", error.reason) from error
        raise DataError(
            f"{row.key} names a picture by {name!r:.60}, which is not a valid file name.", error.reason
        ) from error
    except OSError as error:
        raise DataError(f"{row.key}: {error}", "missing") from error
