"""Items and vectors on their way from one store to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float16

    from diptych.index.catalog.validation import Item


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
