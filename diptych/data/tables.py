"""Tables that name pictures and hold captions: CSV, TSV, JSON lines."""

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from diptych.data.samples import DataError, Sample, count
from diptych.data.tsv import tab_separated
from diptych.data.unpacked import Row, captions_in_cells
from diptych.errors import Setting

TABLES = {".csv": ",", ".tsv": "\t", ".jsonl": "", ".ndjson": ""}
PICTURE_COLUMNS = re.compile(
    r"(image|img|picture|photo|file)(_?(path|file|name))?|path|filepath|filename|jpe?g|png|webp", re.I
)
CAPTION_COLUMNS = re.compile(r"(caption|text|sentence|title|description)s?|alt", re.I)
CHECKED = 20  # pictures that are looked for at once: a wrong column or folder should be said before a run starts


class TableSource:
    """Rows that name a picture's file and hold its caption; rows with the same picture are its several captions."""

    def __init__(self, path: Path, rows: Iterable[Row], columns: str, skipped: dict[str, int]):
        self.path, self.skipped = path, skipped
        self.form = f"table with columns {columns}"
        found: dict[str, list[str]] = {}
        self._impossible: dict[str, str] = {}  # what no file can be called -> its row
        for row in rows:
            try:
                captions = captions_in_cells(row)
                if not isinstance(row.picture, str) or not row.picture.strip():
                    raise DataError(f"{row.key} has no picture.", "no picture")
            except DataError as error:
                count(self.skipped, error.reason)
                continue
            name = row.picture.strip()
            found.setdefault(name, []).extend(captions)
            if not _possible(name):
                self._impossible.setdefault(name, row.key)
        self._pictures = list(found)
        self._captions = [tuple(dict.fromkeys(captions)) for captions in found.values()]
        self._check()

    def _check(self) -> None:
        """DataError where the column holds addresses, or where none of the first pictures is there."""
        first = self._pictures[:CHECKED]
        if first and all(re.match("https?://", name, re.I) for name in first):
            raise DataError(
                f"{self.path}: the pictures are addresses ({first[0]}); training fetches none one by one. Collect them "
                "into shards or a folder first."
            )
        if first and not any(self._file(name).exists() for name in first):
            raise DataError(
                f"{self.path}: none of the first {len(first)} pictures is there, the first at {self._file(first[0])}; "
                "paths count from the table's folder.",
                remedy=["If that is the wrong column, set ", Setting("image_column", "NAME"), "."],
            )

    def _file(self, name: str) -> Path:
        return self.path.parent / name

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        name = self._pictures[index]
        if (row := self._impossible.get(name)) is not None:
            raise DataError(f"{row} names a picture by {name!r:.60}, which no file can be called.", "damaged path")
        return Sample(self._file(name).read_bytes(), self._captions[index], self.key(index))

    def captions(self, index: int) -> tuple[str, ...]:
        return self._captions[index]

    def key(self, index: int) -> str:
        return self._pictures[index]


def _possible(name: str) -> bool:
    """Whether a file can be called so: where not, `open` raises a plain ValueError."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def open_table(path: Path, image_column: str | None, caption_column: str | None) -> TableSource:
    """A .csv, .tsv or .jsonl file. Columns that are not named are guessed from usual names."""
    skipped: dict[str, int] = {}
    read = _json_lines if not TABLES[path.suffix.lower()] else _separated
    records = read(path, skipped)
    first = next(records, None)
    if first is None:
        raise DataError(f"{path} holds no rows; wanted a header and a row for each caption, or a JSON object a line.")
    columns = choose_columns(list(first), image_column, caption_column, str(path))

    def rows() -> Iterator[Row]:
        for number, record in enumerate(chain([first], records), 1):
            yield row_of(record, columns, f"row {number} of {path.name}")

    return TableSource(path, rows(), spell_columns(columns), skipped)


def _separated(path: Path, skipped: dict[str, int]) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(1 << 24)  # captions may be long
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = tab_separated(file) if TABLES[path.suffix.lower()] == "\t" else _comma_separated(file, path)
        names = next(rows, [])
        for cells in filter(None, rows):
            if len(cells) > len(names):  # a comma inside a caption without quotes would cut it
                count(skipped, "more cells than columns")
            else:
                yield dict(zip_longest(names, cells))


def _comma_separated(file: Iterable[str], path: Path) -> Iterator[list[str]]:
    reader = csv.reader(file)
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}.") from error


def _json_lines(path: Path, skipped: dict[str, int]) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for line in filter(str.strip, file):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if isinstance(record, dict):
                yield record
            else:
                count(skipped, "damaged line")


def row_of(record: dict[str, Any], columns: tuple[str, list[str]], key: str) -> Row:
    """The cells of a record that matter."""
    image, captions = columns
    return Row(key, record.get(image), [record.get(name) for name in captions])


def choose_columns(
    names: Sequence[str], image_column: str | None, caption_column: str | None, where: str
) -> tuple[str, list[str]]:
    """The picture's column and those of the captions (`caption_0`, `caption_1`, ... are one with several).

    DataError that lists the columns where one that was named is not there, or none has a usual name.
    """
    image = _column(names, image_column, PICTURE_COLUMNS, "picture", "image_column", where)
    caption = _column(names, caption_column, CAPTION_COLUMNS, "caption", "caption_column", where)
    several = [name for name in names if _plain(name) == _plain(caption)]
    return image, several if caption_column is None else [caption]


def _column(names: Sequence[str], asked: str | None, usual: re.Pattern[str], what: str, option: str, where: str) -> str:
    listed = ", ".join(names)
    if asked is not None:
        if asked not in names:
            raise DataError(f"{where} has no column {asked!r}; its columns are {listed}.")
        return asked
    if (found := next((name for name in names if usual.fullmatch(_plain(name))), None)) is None:
        raise DataError(f"{where}: no column looks like the {what}'s; its columns are {listed}. Set {option}=.")
    return found


def _plain(name: str) -> str:
    """`Caption_0` -> caption: one of several numbered columns."""
    return re.sub(r"_?\d+$", "", name.strip())


def spell_columns(columns: tuple[str, list[str]]) -> str:
    """The columns in words."""
    return f"{columns[0]} (picture) and {', '.join(columns[1])} (caption)"
