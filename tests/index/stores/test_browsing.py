"""What every store promises of its lists, counts and states."""

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from diptych.index.catalog.browsing import Sort
from diptych.index.catalog.stored_items import Block
from diptych.index.catalog.validation import Item
from diptych.index.filters.filters import Filters
from diptych.index.stores.store import Store
from tests.stored_items import BLOCK, FACTS, FILTERS, OF, dated, passing
from tests.stores import MadeStore

SORTS: dict[Sort, Callable[[Item], Any]] = {
    "taken_at": lambda one: one.details.taken_at,
    "path": lambda one: os.fsencode(one.path),
    "added": lambda one: one.id,
    "size": lambda one: one.size,
}


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("filters", [FILTERS[0], FILTERS[1], FILTERS[15]], ids=["all", "since", "subfolder"])
def test_files_are_listed_in_order(store: Store, sort: Sort, filters: tuple[Filters, Callable[[Item], Any]]) -> None:
    """Without their value they come last, and equal ones by their path."""
    key = SORTS[sort]
    wanted = sorted((OF[id][0].item for id in passing(filters, "picture")), key=lambda one: os.fsencode(one.path))
    with_value, without = [one for one in wanted if key(one) is not None], [one for one in wanted if key(one) is None]
    for order in ("asc", "desc"):
        listed = [*sorted(with_value, key=key, reverse=order == "desc"), *without]  # Python's sort is stable, also so
        assert store.listed("picture", filters[0], sort, order).tolist() == [one.id for one in listed]


def test_parts_of_a_file(store: Store) -> None:
    for id in (4, 5, 31, 62):
        item = OF[id][0].item
        assert [one.id for one in store.of_file(item.path)] == [id]
        assert store.find(item.path, item.modality, item.at_s, item.line) == id
        assert store.find(item.path, item.modality, 0.125, item.line) is None
        assert store.find(f"{item.path}x", item.modality, item.at_s, item.line) is None
    assert store.of_file("' OR 1 --") == []


def test_keys_are_equal_for_what_is_one_hit(store: Store) -> None:
    keys = store.keys("picture", FILTERS[9][0])
    assert keys.keys() == set(passing(FILTERS[9], "picture"))
    same = [id for id in keys if OF[id][0].item.digest == b"the same"]
    assert len(same) > 1
    assert len({keys[id].content for id in same}) == 1
    assert len({key.content for key in keys.values()}) == len(keys) - len(same) + 1
    assert all(key.path == OF[id][0].item.path for id, key in keys.items())


@pytest.mark.parametrize("number", [0, 1, 15, len(FILTERS) - 1])
def test_facets_count_files(store: Store, number: int) -> None:
    filters, passes = FILTERS[number]
    files = [stored.item for stored in BLOCK.items if passes(stored.item)]
    found = store.facets(filters)
    assert found.total == len(files)
    assert found.undated == sum(one.details.taken_at is None for one in files)
    assert found.located == sum(one.details.latitude is not None for one in files)
    assert dict(found.kinds) == Counter(one.kind for one in files)
    assert dict(found.cameras) == Counter(one.details.camera for one in files if one.details.camera is not None)
    assert dict(found.months) == Counter(dated(one)[:7] for one in files if dated(one))
    folders = Counter(one.path.rpartition("/")[0] for one in files)
    assert dict(found.folders) == folders


def test_the_state_changes_with_what_can_be_found(empty: MadeStore) -> None:
    states = [empty.store.state()]
    for change in (
        lambda store: store.set_facts(FACTS),
        lambda store: store.put(Block(BLOCK.items[:5], BLOCK.vectors[:5])),
        lambda store: store.put(Block(BLOCK.items[:1], BLOCK.vectors[1:2])),
        lambda store: store.remove([2]),
    ):
        change(empty.store)
        states.append(empty.again().state())
        assert empty.again().state() == states[-1]
    assert len(set(states)) == len(states)
    assert empty.again().newest_id() == 5
