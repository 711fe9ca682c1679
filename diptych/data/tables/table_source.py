"""Tables with picture names and captions: CSV, TSV and other delimited text, JSON and JSON lines."""

import ast
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from diptych.data.column_names import Columns
from diptych.data.confinement import AllowedFolders, all_outside, left_out
from diptych.data.samples import Layout, Sample, count, spell_counts
from diptych.data.tables.columns import choose_columns
from diptych.data.tables.delimited import SEPARATORS, open_delimited
from diptych.data.tables.file_lookup import allowed_for_table, folder_names, locate
from diptych.data.tables.json_captions import open_json, open_json_lines
from diptych.data.tables.spooled import TableRow, captions_in_cells, the_picture
from diptych.errors import DataError
from diptych.untrusted.json import parse_json

# The separator that a file's ending implies; "" stands for JSON lines, None for one JSON value.
TABLES = {
    ".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ",", ".token": "\t", ".psv": "|", ".jsonl": "", ".ndjson": "",
    ".json": None,
}  # fmt: skip
_HEAD = 20  # rows for choosing the columns
_MOST_LISTED = (
    1 << 16
)  # characters of a cell that is parsed as a list: Python's parser takes a hundred times the memory


class TableSource:
    """Rows with a picture's file name and its caption; rows with the same picture give it several captions.

    Names are relative to the folders that `locate` finds. With `within`, only pictures in that folder are used, unless
    the table itself is in it. Rows whose picture is outside `allowed`, by default the table's folder, are counted in
    `skipped`.
    """

    def __init__(
        self, path: Path, rows: Iterable[TableRow], layout: Layout, skipped: dict[str, int], within: Path | None = None,
        allowed: AllowedFolders | None = None,
    ):  # fmt: skip
        self.path, self.skipped = path, skipped
        self._allowed = allowed or allowed_for_table(path)
        found: dict[str, dict[str, None]] = {}
        shared: dict[str, str] = {}  # repeated captions are stored once
        numbers: dict[str, int] = {}  # of rows
        self._impossible: dict[str, str] = {}  # names that no file can have -> their rows
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
        apart = [folder for folder in self._roots.folders if folder != here] if self._roots else []
        self.layout = layout.with_pictures(folder_names(apart, here) if apart else "")

    @property
    def form(self) -> str:
        return str(self.layout)

    def _find(self, names: list[str], within: Path | None) -> None:
        """Raises DataError if the column has addresses, or if none of the pictures exists."""
        first = names[:_HEAD]
        if first and all(re.match("https?://", name, re.I) for name in first):
            raise DataError(
                f"{self.path}: the pictures are addresses ({first[0]}), which are not downloaded one by one. Collect "
                "them in shards or a folder first."
            )
        possible = [name for name in names if name not in self._impossible] or names
        self._roots = locate(possible, self.path, within, self._allowed) if names else None

    def _inside(self, names: list[str], numbers: Mapping[str, int]) -> list[str]:
        """The names without those of files outside, whose rows are counted. Raises DataError if all are outside."""
        outside = [
            name for name in names if name not in self._impossible and not self._allowed.contains(self._file(name))
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
        return self._roots.file(name) if self._roots else self.path.parent / name

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        name = self._pictures[index]
        if (row := self._impossible.get(name)) is not None:
            raise DataError(f"{row} names a picture by {name!r:.60}, which is not a valid file name.", "damaged path")
        return Sample(self._allowed.read(self._file(name)), self._captions[index], self.key(index))

    def captions(self, index: int) -> tuple[str, ...]:
        return self._captions[index]

    def key(self, index: int) -> str:
        return self._pictures[index]

    def file(self, index: int) -> Path:
        """The path of a sample's picture, existing or not."""
        return self._file(self._pictures[index])


def _name(row: TableRow) -> str:
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
    """Whether a file can have this name; for other names `open` raises a bare ValueError."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def is_table(path: Path) -> bool:
    """Whether a file has the ending of a table."""
    return path.suffix.lower() in TABLES


def open_table(
    path: Path, image_column: str | None = None, caption_column: str | None = None, within: Path | None = None,
    allowed: AllowedFolders | None = None,
) -> TableSource:  # fmt: skip
    """A table file with an ending of TABLES. Columns that are not named are chosen by their usual names; `within` and
    `allowed` are explained in TableSource.

    Raises DataError if it is not a table, its columns are not recognised or its pictures do not exist.
    """
    skipped: dict[str, int] = {}
    separator = TABLES[path.suffix.lower()]
    requested = [name for name in (image_column, caption_column) if name is not None]
    if separator:
        table = open_delimited(path, separator, requested, skipped)
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
    return TableSource(path, map(_unlisted, rows) if separator else rows, layout, skipped, within, allowed)


def _rows(records: Iterable[Mapping[str, Any]], columns: Columns, name: str) -> Iterator[TableRow]:
    for number, record in enumerate(records, 1):
        yield row_of(record, columns, f"row {number} of {name}")


def row_of(record: Mapping[str, Any], columns: Columns, key: str) -> TableRow:
    """The row of a record: its key, picture and caption cells."""
    image, captions = columns
    return TableRow(key, record.get(image), [record.get(name) for name in captions])


def _unlisted(row: TableRow) -> TableRow:
    """The row with lists of captions in text cells, written in JSON or Python syntax, parsed."""
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
