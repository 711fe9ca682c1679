"""Pictures that lie inside tables: unpacked into one flat file, so that any of them is one seek away."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diptych.data.samples import DataError, Sample, caption_lines, count


class Row(NamedTuple):
    """A row of a table: its name, its picture as bytes, a path or {"bytes", "path"}, and its caption cells."""

    key: str
    picture: Any
    captions: list[Any]


class Unpacked:
    """Samples whose pictures lie one after the other in a file. Broken rows are counted in `skipped`."""

    def __init__(self, path: Path, rows: Iterable[Row], form: str, folder: Path | None = None):
        """Writes `path`. A picture given by its path lies in `folder` or below."""
        self.path, self.form, self.skipped = path, form, dict[str, int]()
        self._keys: list[str] = []
        self._captions: list[tuple[str, ...]] = []
        ends = [0]
        with open(path, "wb") as file:
            for row in rows:
                try:
                    captions, picture = captions_in_cells(row), picture_bytes(row, folder)
                except DataError as error:
                    count(self.skipped, error.reason)
                    continue
                self._keys.append(row.key)
                self._captions.append(captions)
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


def picture_bytes(row: Row, folder: Path | None) -> bytes:
    """The file of a row's picture. DataError where there is none."""
    picture = the_picture(row)
    if isinstance(picture, dict):
        picture = picture.get("bytes") or picture.get("path")
    if isinstance(picture, str):
        try:
            return ((folder or Path()) / picture).read_bytes()
        except OSError as error:
            raise DataError(f"{row.key}: {error}", "missing") from error
        except ValueError as error:  # a NUL, or half of a surrogate pair
            raise DataError(f"{row.key} names a picture by {picture!r:.60}: {error}.", "damaged path") from error
    if not isinstance(picture, bytes) or not picture:
        raise DataError(f"{row.key} has no picture.", "no picture")
    return picture
