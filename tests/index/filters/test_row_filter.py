"""Filters on rows that were fetched mean what they mean in a catalog."""

import os
from pathlib import Path

import pytest

from diptych.index.filters.filters import Filters
from diptych.index.filters.row_filter import FilteredRow, passing_ids
from diptych.index.folder import IndexFolder
from diptych.index.stores.local import LocalStore
from tests.stored_items import BLOCK, FACTS, FILTERS

ROWS = [
    FilteredRow(item.id, os.fsencode(item.path), item.kind, mtime_ns, details.width, details.height, details.taken_at,
                details.latitude, details.longitude, details.camera)
    for item, mtime_ns, *_ in BLOCK.items for details in [item.details]
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FILTERS)), ids=lambda number: repr(FILTERS[number][0])[:60])
def test_the_same_rows_pass(number: int) -> None:
    filters, passes = FILTERS[number]
    assert passing_ids(filters, ROWS) == [stored.item.id for stored in BLOCK.items if passes(stored.item)]


def test_dates_of_files_are_those_of_a_catalog(tmp_path: Path) -> None:
    """In this computer's zone; files without a time have that of the last update."""
    (tmp_path / "pictures").mkdir()
    store = LocalStore(IndexFolder(tmp_path / "pictures"))
    store.set_facts(FACTS)
    store.put(BLOCK)
    store.set_facts({"updated_at": "2021-06-01T00:00:00"})
    for filters in (Filters(since="2030-05", file_dates=True), Filters(until="2021-06-01T00:00:00", file_dates=True)):
        ids = sorted(int(id) for one in ("picture", "text") for id in store.select(one, filters)._allowed_ids)
        assert 0 < len(ids) < len(ROWS)
        assert passing_ids(filters, ROWS, updated_at="2021-06-01T00:00:00") == ids
    store.close()
