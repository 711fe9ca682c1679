"""Items and vectors as rows, written by binary COPY and read in binary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql

from diptych.errors import IndexDamagedError
from diptych.index.catalog import validation
from diptych.index.catalog.stored_items import StoredItem
from diptych.index.catalog.validation import DETAILS, Item
from diptych.index.stores.postgresql.texts import escaped, unescaped
from diptych.vectors.drawing import hashes

if TYPE_CHECKING:
    from diptych.index.catalog.stored_items import Block
    from diptych.index.stores.postgresql.connection import Connection

# The columns as they are read: those of an Item, then those of a StoredItem
_READ = ("id", "path", "kind", "modality", "at_s", "line", "text", "size", "digest", *DETAILS)
_MORE = ("mtime_ns", "reading", "tokenizing")
_TYPES = {
    "id": "int8", "modality": "text", "drawn": "int8", "path": "text", "kind": "text", "size": "int8",
    "mtime_ns": "int8", "digest": "bytea", "width": "int8", "height": "int8", "taken_at": "text", "latitude": "float8",
    "longitude": "float8", "camera": "text", "caption": "text", "duration_s": "float8", "reading": "int8",
    "tokenizing": "int8", "at_s": "float8", "line": "int8", "text": "text",
    "vector": "bytea",  # any bytes; the server reads them as a halfvec
}  # fmt: skip
_HEADER_BYTES = 4  # of a halfvec in binary: the number of dimensions and a zero, 16 bits each; then the numbers
_TOP_BIT = np.uint64(1 << 63)


def _columns(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


ITEM_COLUMNS, STORED_COLUMNS = _columns(_READ), _columns((*_READ, *_MORE))
WRITTEN_COLUMNS = _columns(_TYPES)


def write_rows(connection: Connection, items: sql.Composable, block: Block) -> None:
    """Copy a block into the table `items`, which has none of its ids."""
    if not block.items:
        return
    vectors, drawn = halfvecs(block.vectors), drawn_of(np.array([stored.item.id for stored in block.items]))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(items, WRITTEN_COLUMNS)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(list(_TYPES.values()))
        for stored, number, vector in zip(block.items, drawn.tolist(), vectors, strict=True):
            copy.write_row(_row(stored, number, vector))


def _row(stored: StoredItem, drawn: int, vector: bytes) -> list[Any]:
    item = stored.item
    values = {**item._asdict(), **vars(item.details), **stored._asdict(), "drawn": drawn, "vector": vector}
    values["text"], values["at_s"] = validation.storable(item.text), _real(item.at_s)
    for name in DETAILS:
        values[name] = validation.storable(values[name])
    for name in ("latitude", "longitude", "duration_s"):
        values[name] = _real(values[name])
    return [escaped(values[name]) for name in _TYPES]


def _real(value: Any) -> float | None:
    value = validation.storable(value)
    return None if value is None else float(value)


def drawn_of(ids: np.ndarray) -> np.ndarray:
    """For each id its number in the order in which ids are drawn as a sample: `hashes` as signed numbers in the same
    order."""
    return (hashes(ids.astype(np.int64)) ^ _TOP_BIT).view(np.int64)


def halfvecs(vectors: np.ndarray) -> list[bytes]:
    """Vectors, (n, dim), each as PostgreSQL sends and receives a halfvec."""
    count, dim = vectors.shape
    rows = np.empty((count, dim + 2), ">u2")
    rows[:, 0], rows[:, 1] = dim, 0
    rows[:, 2:] = np.ascontiguousarray(vectors, ">f2").view(">u2")
    return [row.tobytes() for row in rows]


def vectors_in(values: Sequence[bytes], dim: int) -> np.ndarray:
    """The vectors, (n, dim) float16, in halfvecs. Raises IndexDamagedError if one has another dimension."""
    size = _HEADER_BYTES + 2 * dim
    if any(len(value) != size for value in values):
        raise IndexDamagedError(f"the table has a vector that is not of {dim} numbers, as the index says.")
    rows = np.frombuffer(b"".join(values), ">u2").reshape(len(values), dim + 2)
    return rows[:, 2:].astype("<u2").view(np.float16)


def item_in(row: Sequence[Any]) -> Item | None:
    """The item in a row of ITEM_COLUMNS; None if it is not valid."""
    values = [unescaped(value) for value in row]
    return validation.item_of([*values[:9], 0, *values[9:]], 0)
