"""Items with their vectors out of a catalog, and into one under the ids that they have elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from diptych.errors import IndexDamagedError
from diptych.index.catalog import validation
from diptych.index.catalog.schema import FORMAT
from diptych.index.catalog.stored_items import Block, StoredItem, check_block
from diptych.index.catalog.validation import Item, storable

if TYPE_CHECKING:
    import sqlite3

    from diptych.index.catalog.catalog import Catalog
    from diptych.media.items import Modality

BLOCK = 2048  # items
_IDS_PER_STATEMENT = 500
_COLUMNS = ("path", "kind", "size", "mtime_ns", "digest", *validation.DETAILS, "reading", "tokenizing")
_PUT_FILE = (
    f"INSERT INTO files({', '.join(_COLUMNS)}) VALUES (CAST(? AS TEXT){', ?' * (len(_COLUMNS) - 1)}) "
    f"ON CONFLICT(path) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])} RETURNING id"
)
_PUT_ITEM = "INSERT INTO items(id, file, modality, at_s, line, text, vector) VALUES (?, ?, ?, ?, ?, CAST(? AS TEXT), ?)"


def blocks_of(catalog: Catalog, *, after: int = 0) -> Iterator[Block]:
    """All valid items with ids above `after`, ascending by id. No transaction is held between blocks."""
    form, dim = catalog.facts()["format"], catalog.dim
    versions = "reading, tokenizing" if form >= FORMAT else "1, 1"
    more = f"SELECT items.id, mtime_ns, {versions}, vector FROM items JOIN files ON files.id = items.file WHERE "
    valid = f"{validation.VALID_FILE} AND {validation.valid_vector(dim)}"
    while rows := catalog.rows(f"{more} items.id > ? AND {valid} ORDER BY items.id LIMIT {BLOCK}", (after,)):
        if rows[0][0] <= after:  # or the loop would not end
            raise IndexDamagedError(f"{catalog.path} is damaged (its items are not in order).")
        items = {item.id: item for item in catalog.items([row[0] for row in rows])}
        vectors = np.frombuffer(b"".join(row[-1] for row in rows), "<f2").reshape(-1, dim)
        kept = validation.are_unit(vectors) & np.fromiter((row[0] in items for row in rows), bool, len(rows))
        stored = [StoredItem(items[id], *some) for (id, *some, _), keep in zip(rows, kept, strict=True) if keep]
        if stored:
            yield Block(stored, vectors[kept])
        after = rows[-1][0]


def put_block(catalog: Catalog, block: Block, *, outdated: Iterable[Modality] = ()) -> None:
    """Store these items under their ids, with the rows of their files. The caches of the `outdated` modalities will be
    built again, because they have another vector under one of these ids. Raises IndexDamagedError for an item that no
    catalog may hold."""
    check_block(block, catalog.dim, str(catalog.path))
    vectors = np.ascontiguousarray(block.vectors, "<f2")
    with catalog.writing() as db:
        db.executemany("DELETE FROM facts WHERE key = 'cached.' || ?", [(modality,) for modality in outdated])
        _delete(db, [stored.item.id for stored in block.items])
        files = dict[str, int]()
        for stored in block.items:
            if stored.item.path not in files:
                (files[stored.item.path],) = db.execute(_PUT_FILE, _file_row(stored)).fetchone()
        rows = zip(block.items, vectors, strict=True)
        db.executemany(_PUT_ITEM, (_item_row(stored.item, files, vector) for stored, vector in rows))


def remove_items(catalog: Catalog, ids: Iterable[int]) -> None:
    """Delete these items, and their files where these have no others."""
    listed = [int(id) for id in ids]
    with catalog.writing() as db:
        _delete(db, listed)


def _delete(db: sqlite3.Connection, ids: list[int]) -> None:
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        some = ids[start : start + _IDS_PER_STATEMENT]
        marks = ", ".join("?" * len(some))
        files = [file for (file,) in db.execute(f"SELECT DISTINCT file FROM items WHERE id IN ({marks})", some)]
        db.execute(f"DELETE FROM items WHERE id IN ({marks})", some)
        marks = ", ".join("?" * len(files))
        empty = f"id IN ({marks}) AND NOT EXISTS (SELECT 1 FROM items WHERE items.file = files.id)"
        db.execute(f"DELETE FROM files WHERE {empty}", files)


def _file_row(stored: StoredItem) -> tuple[object, ...]:
    item = stored.item
    details = (storable(getattr(item.details, name)) for name in validation.DETAILS)
    row = os.fsencode(item.path), item.kind, item.size, stored.mtime_ns, item.digest
    return (*row, *details, stored.reading, stored.tokenizing)


def _item_row(item: Item, files: dict[str, int], vector: np.ndarray) -> tuple[object, ...]:
    text = storable(item.text)
    return item.id, files[item.path], item.modality, item.at_s, item.line, text, vector.tobytes()
