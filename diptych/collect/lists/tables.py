"""Reads lists: tables with a column of addresses and one of captions, as CSV, TSV, Parquet, JSON or JSON lines.

The columns of published sets are recognised: LAION's URL and TEXT, DataComp's url and text, COYO's and RedCaps's url,
WIT's image_url, and CC3M's and CC12M's tables without a header, in which the cells tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from diptych.data.column_names import caption_column, normalised
from diptych.data.samples import count
from diptych.data.tables.columns import names_an_address, require_few
from diptych.data.tables.delimited import open_delimited
from diptych.data.tables.json_captions import open_json, open_json_lines
from diptych.data.tables.parquet import column_types, parquet_records
from diptych.errors import DataError, Setting

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".jsonl", ".ndjson", ".json")
# By rank: a table that has both image_url and url means a page by the latter.
_URLS = (
    re.compile(r"(image|img|picture|pic|photo)_?(urls?|links?|uri|src)"),
    re.compile(r"urls?"),
    re.compile(r"links?|uri|src|\w+_url"),
)
_LICENCE = re.compile(r"(\w+_)?licen[cs]es?(_\w+)?")
_HEAD = 50  # rows by which the columns of a table without known names are chosen
MAX_CELL = 2_000  # characters that are kept of a cell that is no caption
_MAX_CAPTIONS = 64  # of a row


class ListRow(NamedTuple):
    """A row of a list: an address as it stands there, its captions, its licence ("" if none is stated), and its other
    cells by the names of their columns."""

    url: str
    captions: tuple[str, ...]
    licence: str
    columns: Mapping[str, str]


class Chosen(NamedTuple):
    """The columns of a list: of the address, of captions, and of the licence."""

    url: str
    captions: list[str]
    licence: str | None


def list_files(path: Path) -> list[Path]:
    """The tables that a path names: itself, or those in a folder, in order. Raises DataError if there is none."""
    if not path.is_dir():
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path} ends in {path.suffix or 'nothing'}; wanted one of {', '.join(SUFFIXES)}.")
        return [path]
    found = sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES and each.is_file())
    if not found:
        raise DataError(f"{path} has no list in it; wanted files that end in {', '.join(SUFFIXES)}.")
    return found


def read_list(
    path: Path, skipped: dict[str, int], url_column: str | None = None, captions: str | None = None
) -> Iterator[ListRow]:
    """The rows of a table. Rows that cannot be read, and those without an address or a caption, are counted in
    `skipped`. Raises DataError if the table has no such columns, which `url_column` and `captions` name."""
    requested = [name for name in (url_column, captions) if name]
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        rows, names = _parquet(path, skipped)
    elif suffix in (".jsonl", ".ndjson"):
        rows, names = open_json_lines(path, skipped).rows, None
    elif suffix == ".json":
        rows, names = open_json(path, skipped).rows, None
    else:
        table = open_delimited(path, "," if suffix == ".csv" else "\t", requested, skipped)
        rows, names = table.rows, table.names
    head = list(islice(rows, _HEAD))
    names = list(dict.fromkeys(name for row in head for name in row)) if names is None else names
    if not names:
        unread = f" ({', '.join(f'{number:,} {reason}' for reason, number in skipped.items())})" if skipped else ""
        raise DataError(f"{path} has no rows{unread}; wanted a row for each picture, with its address and caption.")
    require_few(len(names), str(path))
    chosen = choose(names, head, str(path), url_column, captions)
    for row in chain(head, rows):
        if found := _row(row, chosen, skipped):
            yield found


def choose(
    names: Sequence[str], head: Sequence[Mapping[str, Any]], where: str, url: str | None = None,
    captions: str | None = None,
) -> Chosen:  # fmt: skip
    """The columns by their names, or by the cells of the first rows. Raises DataError if none is found."""
    if missing := [name for name in (url, captions) if name and name not in names]:
        raise DataError(f"{where} has no column {missing[0]!r:.60}; its columns are {_listed(names)}.")
    url = url or _by_rank(names, head) or next((name for name in names if _share(name, head) > 0.9), None)
    if url is None:
        raise _not_found(names, "address", "url_column", where)
    others = [name for name in names if name != url]
    licence = next((name for name in others if _LICENCE.fullmatch(normalised(name))), None)
    named = captions or caption_column([name for name in others if name != licence]) or _wordiest(others, head)
    if named is None:
        raise _not_found(names, "caption", "caption_column", where)
    numbered = [name for name in others if normalised(name) and normalised(name) == normalised(named)]
    return Chosen(url, [named] if captions or not numbered else numbered, licence)


def _by_rank(names: Sequence[str], head: Sequence[Mapping[str, Any]]) -> str | None:
    ranked = [name for pattern in _URLS for name in names if pattern.fullmatch(normalised(name))]
    return next((name for name in ranked if not head or _share(name, head) > 0), None)


def _share(name: str, head: Sequence[Mapping[str, Any]]) -> float:
    """The share of the rows in which this cell is an address."""
    return sum(names_an_address(row.get(name)) for row in head) / max(1, len(head))


def _wordiest(names: Sequence[str], head: Sequence[Mapping[str, Any]]) -> str | None:
    """The column whose cells have the most words, if there are two or more in half of the rows."""

    best, most = None, 0
    for name in names:
        texts = [cell for row in head if isinstance(cell := row.get(name), str) and not names_an_address(cell)]
        words = [len(text.split()) for text in texts]
        if sum(words) > most and sum(number > 1 for number in words) * 2 >= max(1, len(head)):
            best, most = name, sum(words)
    return best


def _parquet(path: Path, skipped: dict[str, int]) -> tuple[Iterator[dict[str, Any]], list[str]]:
    """Rows of the columns of texts, numbers, and lists of texts; those of pictures and structures are not read."""
    import pyarrow.types as types

    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_integer, types.is_floating,
             types.is_boolean)  # fmt: skip
    held = {name: kind.value_type if types.is_dictionary(kind) or types.is_list(kind) else kind
            for name, kind in column_types(path).items()}  # fmt: skip
    names = [name for name, kind in held.items() if any(test(kind) for test in tests)]
    return parquet_records(path, names, skipped), names


def _row(row: Mapping[str, Any], chosen: Chosen, skipped: dict[str, int]) -> ListRow | None:
    url = row.get(chosen.url)
    if not isinstance(url, str) or not url.strip():
        count(skipped, "no address")
        return None
    cells = [row.get(name) for name in chosen.captions]
    texts = [text for cell in cells for text in (cell if isinstance(cell, list) else [cell])][:_MAX_CAPTIONS]
    captions = tuple(dict.fromkeys(text for text in texts if isinstance(text, str) and text.strip()))
    if not captions:
        count(skipped, "no caption")
        return None
    apart = {chosen.url, chosen.licence, *chosen.captions}
    columns = {name: _text(cell) for name, cell in row.items() if name not in apart and cell not in (None, "")}
    return ListRow(url, captions, _text(row.get(chosen.licence)) if chosen.licence else "", columns)


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)[:MAX_CELL]


def _not_found(names: Sequence[str], content: str, option: str, where: str) -> DataError:
    return DataError(
        f"{where}: no column looks like the {content}'s; its columns are {_listed(names)}.",
        remedy=["Set ", Setting(option, "NAME"), "."],
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"{name:.60}" for name in names[:20]) + (", ..." if len(names) > 20 else "")
