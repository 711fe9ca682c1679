"""Pictures that lie inside tables: unpacked into one flat file, so that any of them is one seek away."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diptych.data.confinement import Confined
from diptych.data.samples import Sample, caption_lines, count
from diptych.data.temporary import Output
from diptych.errors import DataError, FileError
from diptych.untrusted.regular_files import DAMAGED_PATH, MAX_BYTES

LIMIT = 256 << 30  # bytes, of what does not say how much went in
_COPIES = 10  # of a file that rows name by its path


class Row(NamedTuple):
    """A row of a table: its name, its picture as bytes, a path or {"bytes", "path"}, and its caption cells."""

    key: str
    picture: Any
    captions: list[Any]


class Unpacked:
    """Samples whose pictures lie one after the other in a file. Broken rows are counted in `skipped`."""

    def __init__(
        self, path: Path, rows: Iterable[Row], form: str, folder: Path | None = None,
        confined: Confined | None = None, limit: int = LIMIT,
    ):  # fmt: skip
        """Writes `path`, up to `limit` bytes of what lies inside. A picture given by its path counts from `folder`, and
        lies where `confined` allows."""
        self.path, self.form, self.skipped = path, form, dict[str, int]()
        self._keys: list[str] = []
        self._captions: list[tuple[str, ...]] = []
        ends, named, shared = [0], set[str](), dict[str, str]()
        with Output(path, limit, form) as file:
            for row in rows:
                try:
                    captions, picture = captions_in_cells(row), picture_bytes(row, folder, confined)
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


def captions_in_cells(row: Row) -> tuple[str, ...]:
    """All captions of a row. DataError where there is none."""
    texts = [text for cell in row.captions for text in (cell if isinstance(cell, list | tuple) else [cell])]
    return caption_lines([text for text in texts if text is not None], row.key)


def the_picture(row: Row) -> Any:
    """A row's picture; of a list of one, that one. DataError where there are several: nobody says which is meant."""
    if not isinstance(row.picture, list | tuple):
        return row.picture
    if len(row.picture) > 1:
        raise DataError(f"{row.key} has {len(row.picture)} pictures; wanted one.", "several pictures")
    return row.picture[0] if row.picture else None


def picture_bytes(row: Row, folder: Path | None, confined: Confined | None = None) -> bytes:
    """The file of a row's picture: of one given by its path, which counts from `folder`, where `confined`, by default
    that folder, holds it. DataError where there is none."""
    if (name := _path_in(row)) is not None:
        return _read(row, name, folder, confined)
    picture = the_picture(row)
    picture = picture.get("bytes") if isinstance(picture, dict) else picture
    if not isinstance(picture, bytes) or not picture:
        raise DataError(f"{row.key} has no picture.", "no picture")
    if len(picture) > MAX_BYTES:
        raise DataError(f"{row.key} has a picture of {len(picture):,} bytes; wanted fewer.", "too large")
    return picture


def _path_in(row: Row) -> str | None:
    """The path in a row's picture, where it is given by one."""
    picture = the_picture(row)
    if isinstance(picture, dict):
        picture = picture.get("bytes") or picture.get("path")
    return picture if isinstance(picture, str) else None


def _read(row: Row, name: str, folder: Path | None, confined: Confined | None) -> bytes:
    here = folder or Path()
    try:
        return (confined or Confined([here] if folder else [])).read(here / name)
    except FileError as error:
        if error.reason != DAMAGED_PATH:
            raise DataError(f"{row.key}: {error}", error.reason) from error
        raise DataError(
            f"{row.key} names a picture by {name!r:.60}, which no file can be called.", error.reason
        ) from error
    except OSError as error:
        raise DataError(f"{row.key}: {error}", "missing") from error
