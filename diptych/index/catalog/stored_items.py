"""Items and vectors on their way from one store to another."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import IndexDamagedError
from diptych.index.catalog import validation
from diptych.index.catalog.validation import Item

if TYPE_CHECKING:
    from jaxtyping import Float16

_INT64 = range(-(1 << 63), 1 << 63)


class StoredItem(NamedTuple):
    """An item as it moves from one store to another: with its file's time of change (None if it must be checked again)
    and the versions that read the file and split its texts."""

    item: Item
    mtime_ns: int | None
    reading: int
    tokenizing: int


class Block(NamedTuple):
    """Items, ascending by id, and their vectors, (items, dim) float16 of unit length."""

    items: list[StoredItem]
    vectors: Float16[np.ndarray, "items dim"]


def check_block(block: Block, dim: int, store: str) -> None:
    """Raises IndexDamagedError for a block that no store may hold: an item that could not be read again, an id twice,
    vectors of another shape or not of unit length. `store` is the name of the one that refuses it."""
    for stored in block.items:
        if problem := _problem(stored):
            raise IndexDamagedError(f"item {stored.item.id} {problem}; no index may hold it.")
    if len({stored.item.id for stored in block.items}) < len(block.items):
        raise IndexDamagedError(f"{store} was given an id twice in one block.")
    if block.vectors.shape != (len(block.items), dim) or not validation.are_unit(block.vectors).all():
        raise IndexDamagedError(
            f"{store} was given vectors of shape {block.vectors.shape}; wanted ({len(block.items)}, {dim}), each of "
            "unit length."
        )


def _problem(stored: StoredItem) -> str:
    """What is wrong with an item; "" if nothing is."""
    item, path = stored.item, stored.item.path
    if not validation.is_valid_path(path, item.kind) or not _is_encodable(path):
        return f"has the path {path!r}"
    details = [validation.storable(getattr(item.details, name)) for name in validation.DETAILS]
    row = [*item[:4], validation.storable(item.at_s), item.line, validation.storable(item.text), *item[7:9], 0]
    if validation.item_of([*row, *details], 0) is None:
        return "has a value of another type"
    numbers = item.id, item.line, item.size, stored.mtime_ns, stored.reading, stored.tokenizing
    return "has a number that is too large" if any(one is not None and one not in _INT64 for one in numbers) else ""


def _is_encodable(path: str) -> bool:
    try:
        return bool(os.fsencode(path))
    except UnicodeEncodeError:
        return False
