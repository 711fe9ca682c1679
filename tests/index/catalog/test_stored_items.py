"""What no store may hold, whoever keeps its rows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from diptych.errors import IndexDamagedError
from diptych.index.catalog.stored_items import Block, StoredItem, check_block
from diptych.index.catalog.validation import Item
from diptych.media.items import Details

DIM = 4
GOOD = StoredItem(Item(1, "a/b.jpg", "picture", "picture", None, None, None, 10, b"12", Details(width=3)), 5, 1, 1)
VECTOR = np.eye(1, DIM, dtype=np.float16)


def changed(**values: Any) -> StoredItem:
    return GOOD._replace(item=GOOD.item._replace(**values))


def test_a_good_item_is_taken() -> None:
    check_block(Block([GOOD], VECTOR), DIM, "here")
    check_block(Block([changed(at_s=float("nan"), text="\ud800")], VECTOR), DIM, "here")  # stored as nothing and as ?


@pytest.mark.parametrize(
    "bad",
    [
        changed(path="../a.jpg"), changed(path="\ud800.jpg"), changed(path="a"), changed(modality="sound"),
        changed(text=5), changed(size=None), changed(size=1 << 63), changed(digest="12"), changed(line="1"),
        changed(details=replace(GOOD.item.details, width=-1)), changed(details=replace(GOOD.item.details, camera=7)),
        changed(modality="text"), GOOD._replace(mtime_ns=1 << 64),
    ],
)  # fmt: skip
def test_an_item_that_could_not_be_read_again_is_refused(bad: StoredItem) -> None:
    with pytest.raises(IndexDamagedError, match="item 1 has"):
        check_block(Block([bad], VECTOR), DIM, "here")


@pytest.mark.parametrize("vectors", [2 * VECTOR, 0 * VECTOR, np.nan * VECTOR, VECTOR[:, 1:], np.repeat(VECTOR, 2, 0)])
def test_vectors_of_another_shape_or_length_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(IndexDamagedError, match="here was given vectors"):
        check_block(Block([GOOD], vectors), DIM, "here")


def test_an_id_twice_is_refused() -> None:
    with pytest.raises(IndexDamagedError, match="twice"):
        check_block(Block([GOOD, GOOD], np.repeat(VECTOR, 2, 0)), DIM, "here")
