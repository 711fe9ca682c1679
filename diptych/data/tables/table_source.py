"""Tables that name pictures and hold captions: CSV, TSV and other separated text, JSON and JSON lines."""

import ast
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from diptych.data.confinement import Confined, all_outside, left_out
from diptych.data.samples import Layout, Sample, count, spell_counts
from diptych.data.tables.columns import Columns, choose_columns
from diptych.data.tables.json_captions import open_json, open_json_lines
from diptych.data.tables.locating import confined_to, folder_names, locate
from diptych.data.tables.separated import SEPARATORS, open_separated
from diptych.data.tables.unpacked import Row, captions_in_cells, the_picture
from diptych.errors import DataError
from diptych.untrusted.json import parse_json

# What a file's ending promises: its separator; "" is JSON lines, and None one JSON value.
TABLES = {
    ".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ",", ".token": "\t", ".psv": "|", ".jsonl": "", ".ndjson": "",
    ".json": None,
}  # fmt: skip
_HEAD = 20  # rows that are looked at to see which column is which
_MOST_LISTED = 1 << 16  # characters of a cell that is read as a list: Python's own parser takes a hundred times as much


class TableSource:
    """Rows that name a picture's file and hold its caption; rows with the same picture are its several captions.

    Names count from where `locate` finds the pictures. With `within`, of a table that lies elsewhere only the rows
    count whose pictures lie in that folder. Rows whose picture lies outside of what `confined` holds, by default the
    table's folder, are counted in `skipped`.
    """

    def __init__(
        self, path: Path, rows: Iterable[Row], layout: Layout, skipped: dict[str, int], within: Path | None = None,
        confined: Confined | None = None,
    ):  # fmt: skip
        self.path, self.skipped = path, skipped
        self._confined = confined or confined_to(path)
        found: dict[str, dict[str, None]] = {}
        shared: dict[str, str] = {}  # what repeats takes no room in a file, and is held once
        numbers: dict[str, int] = {}  # of rows
        self._impossible: dict[str, str] = {}  # what no file can be called -> its row
        for row in rows:
            try:
                captions = captions_in_cells(row)
                name = _name(row)
            except DataError as error:
                count(self.skipped, error.reason)
                continue
            found.setdefault(name, {}).update((shared.setdefault(each, each), None) for each in captions)
            numbers[name] = numbers.get(name, 0) + 1
            if not _possible(name):
                self._impossible.setdefault(name, row.key)
        self._find(list(found), within)
        only = None if within is None or _is_below(path, within) else within
        pictures = [name for name in found if only is None or self._is_in(name, only)]
        self._pictures = self._inside(pictures, numbers)
        self._captions = [tuple(found[name]) for name in self._pictures]
        here = path.parent
        apart = [folder for folder in self._places.folders if folder != here] if self._places else []
        self.layout = layout.with_pictures(folder_names(apart, here) if apart else "")

    @property
    def form(self) -> str:
        return str(self.layout)

    def _find(self, names: list[str], within: Path | None) -> None:
        """DataError where the column holds addresses, or where none of the pictures is there."""
        first = names[:_HEAD]
        if first and all(re.match("https?://", name, re.I) for name in first):
            raise DataError(
                f"{self.path}: the pictures are addresses ({first[0]}); training fetches none one by one. Collect them "
                "into shards or a folder first."
            )
        possible = [name for name in names if name not in self._impossible] or names
        self._places = locate(possible, self.path, within, self._confined) if names else None

    def _inside(self, names: list[str], numbers: Mapping[str, int]) -> list[str]:
        """Without those whose files lie outside, whose rows are counted. DataError where all do."""
        outside = [
            name for name in names if name not in self._impossible and not self._confined.holds(self._file(name))
        ]
        if not outside:
            return names
        if len(outside) == len(names):
            raise all_outside(self.path, outside)
        count(self.skipped, left_out(outside), sum(numbers[name] for name in outside))
        out = set(outside)
        return [name for name in names if name not in out]

    def _is_in(self, name: str, folder: Path) -> bool:
        if name in self._impossible:
            return False
        return _is_below(path := self._file(name), folder) and path.exists()

    def _file(self, name: str) -> Path:
        return self._places.file(name) if self._places else self.path.parent / name

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        name = self._pictures[index]
        if (row := self._impossible.get(name)) is not None:
            raise DataError(f"{row} names a picture by {name!r:.60}, which no file can be called.", "damaged path")
        return Sample(self._confined.read(self._file(name)), self._captions[index], self.key(index))

    def captions(self, index: int) -> tuple[str, ...]:
        return self._captions[index]

    def key(self, index: int) -> str:
        return self._pictures[index]

    def file(self, index: int) -> Path:
        """Where a sample's picture is, or should be."""
        return self._file(self._pictures[index])


def _name(row: Row) -> str:
    picture = the_picture(row)
    if isinstance(picture, Mapping):
        picture = picture.get("path")
    if isinstance(picture, int) and not isinstance(picture, bool):
        picture = str(picture)
    if not isinstance(picture, str) or not picture.strip():
        raise DataError(f"{row.key} has no picture.", "no picture")
    return picture.strip()


def _is_below(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _possible(name: str) -> bool:
    """Whether a file can be called so: where not, `open` raises a plain ValueError."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def is_table(path: Path) -> bool:
    """Whether a file's ending is that of a table."""
    return path.suffix.lower() in TABLES


def open_table(
    path: Path, image_column: str | None = None, caption_column: str | None = None, within: Path | None = None,
    confined: Confined | None = None,
) -> TableSource:  # fmt: skip
    """A table in a file, of one of TABLES. Columns that are not named are guessed from usual names; `within` and
    `confined` are as TableSource has them.

    DataError where it is none, its columns cannot be told or its pictures are not there.
    """
    skipped: dict[str, int] = {}
    separator = TABLES[path.suffix.lower()]
    asked = [name for name in (image_column, caption_column) if name is not None]
    if separator:
        table = open_separated(path, separator, asked, skipped)
        records, layout = table.rows, Layout("table", None, SEPARATORS[table.separator], table.encoding)
        odd = [f"separated by {layout.separator}"] * (table.separator != separator)
    else:
        objects = open_json_lines(path, skipped) if separator == "" else open_json(path, skipped)
        records, layout, odd = objects.rows, Layout(objects.kind, encoding=objects.encoding), []
    odd += [f"in {layout.encoding}"] * (layout.encoding != "UTF-8")
    head = list(islice(records, _HEAD))
    if not head:
        left_out = f" ({spell_counts(skipped)})" if skipped else ""
        wanted = "a header and a row for each caption, cells with separators in quotes; or a JSON object a line"
        raise DataError(f"{path} holds no rows{left_out}; wanted {wanted}.")
    names = list(dict.fromkeys(name for record in head for name in record))
    columns = choose_columns(names, image_column, caption_column, str(path), head)
    layout = replace(layout, columns=columns, unusual=tuple(odd))
    rows = _rows(chain(head, records), columns, path.name)
    return TableSource(path, map(_unlisted, rows) if separator else rows, layout, skipped, within, confined)


def _rows(records: Iterable[Mapping[str, Any]], columns: Columns, name: str) -> Iterator[Row]:
    for number, record in enumerate(records, 1):
        yield row_of(record, columns, f"row {number} of {name}")


def row_of(record: Mapping[str, Any], columns: Columns, key: str) -> Row:
    """The cells of a record that matter."""
    image, captions = columns
    return Row(key, record.get(image), [record.get(name) for name in captions])


def _unlisted(row: Row) -> Row:
    """A cell of plain text may hold a list of captions, as JSON or as Python writes it."""
    return row._replace(captions=[_listed(cell) for cell in row.captions])


def _listed(cell: Any) -> Any:
    if not isinstance(cell, str) or not re.match(r"""\[\s*["'].*["']\s*\]\s*$""", cell, re.S):
        return cell
    if len(cell) > _MOST_LISTED:
        return cell
    for read in (parse_json, ast.literal_eval):
        try:
            found = read(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list) and all(isinstance(each, str) for each in found):
            return found
    return cell
