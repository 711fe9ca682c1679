"""Lists and counts of a catalog's files, and the keys by which items of one content are one hit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int64

    from diptych.index.catalog.catalog import Catalog
    from diptych.media.items import Modality

Sort = Literal["taken_at", "path", "added", "size"]
Order = Literal["asc", "desc"]
MOST_CAMERAS, MOST_FOLDERS, MOST_MONTHS = 200, 2000, 2400
_LONGEST = 500  # characters
_FOLDER = "rtrim(rtrim({path}, replace({path}, '/', '')), '/')"
_BELOW = "substr(files.path, {start})"  # the path relative to the folder that is served
_COLUMNS: dict[Sort, str] = {"taken_at": "files.taken_at", "path": "files.path", "added": "first", "size": "files.size"}
_KEYS = (  # each paragraph of a text is a hit
    "SELECT items.id, coalesce(nullif(files.digest, x''), files.id), CASE files.kind WHEN 'text' THEN items.line END, "
    "files.path FROM items JOIN files ON files.id = items.file"
)

_OF_FILE = "SELECT items.id FROM items JOIN files ON files.id = items.file WHERE files.path = CAST(? AS TEXT)"


class Facets(NamedTuple):
    """Numbers of files: all, those without a date, those with coordinates, and those of each kind, camera, month
    ("2024-05") and folder (relative to the subfolder), at most MOST_CAMERAS, MOST_MONTHS and MOST_FOLDERS of these, the
    most frequent ones."""

    total: int = 0
    undated: int = 0
    located: int = 0
    kinds: Sequence[tuple[str, int]] = ()
    cameras: Sequence[tuple[str, int]] = ()
    months: Sequence[tuple[str, int]] = ()
    folders: Sequence[tuple[str, int]] = ()


class ItemKey(NamedTuple):
    """`content` is equal for items that are one hit: those with a file's bytes, and in a text with one line. `path` is
    the file's."""

    content: object
    path: str


def listed(
    catalog: Catalog, modality: Modality, condition: str, values: Sequence[Any], sort: Sort, order: Order
) -> Int64[np.ndarray, " n"]:
    """The first item of each file for which an SQL condition holds, in order; files without the value come last."""
    column = _COLUMNS[sort]
    sql = (
        "SELECT min(items.id) AS first FROM files JOIN items ON items.file = files.id "
        f"WHERE items.modality = ? AND files.reason IS NULL AND ({condition}) GROUP BY files.id "
        f"ORDER BY {column} IS NULL, {column} {'ASC' if order == 'asc' else 'DESC'}, files.path"
    )
    rows = catalog.rows(sql, [modality, *values])
    return np.fromiter((id for (id,) in rows), np.int64, len(rows))


def facets(catalog: Catalog, condition: str, values: Sequence[Any], subfolder: str) -> Facets:
    """The facets of the files for which an SQL condition holds."""
    folder = _FOLDER.format(path=_BELOW.format(start=len(subfolder) + 2 if subfolder else 1))
    where = f"FROM files WHERE files.reason IS NULL AND ({condition})"

    def groups(column: str, most: int) -> list[tuple[str, int]]:
        sql = f"SELECT {column}, count(*) {where} GROUP BY 1 ORDER BY 2 DESC LIMIT {most}"
        rows = catalog.rows(sql, values)
        return [(name, count) for name, count in rows if isinstance(name, str) and len(name) <= _LONGEST]

    sums = f"SELECT count(*), count(*) - count(taken_at), count(latitude) {where}"
    total, undated, located = catalog.rows(sums, values)[0]
    return Facets(
        total, undated, located, groups("kind", 3), groups("camera", MOST_CAMERAS),
        groups("substr(taken_at, 1, 7)", MOST_MONTHS), groups(folder, MOST_FOLDERS),
    )  # fmt: skip


def keys(catalog: Catalog, modality: Modality, condition: str, values: Sequence[Any]) -> dict[int, ItemKey]:
    """The key of each item for which an SQL condition holds."""
    rows = catalog.rows(f"{_KEYS} WHERE items.modality = ? AND ({condition})", [modality, *values])
    return {id: ItemKey((digest, line), path) for id, digest, line, path in rows}


def items_of_file(catalog: Catalog, path: str, most: int) -> list[int]:
    """The ids of at most so many items of a file, ascending."""
    return [id for (id,) in catalog.rows(f"{_OF_FILE} ORDER BY items.id LIMIT ?", [os.fsencode(path), most])]


def find(catalog: Catalog, path: str, modality: Modality, at_s: float | None, line: int | None) -> int | None:
    """The id of this part of a file; None where there is none."""
    sql = f"{_OF_FILE} AND items.modality = ? AND items.at_s IS ? AND items.line IS ? LIMIT 1"
    return next((id for (id,) in catalog.rows(sql, [os.fsencode(path), modality, at_s, line])), None)
