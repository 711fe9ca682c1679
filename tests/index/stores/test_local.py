"""What passes filters in an index on disk: found without reading vectors, and kept until something changes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from diptych.index.catalog.stored_items import Block
from diptych.index.filters.filters import Filters
from diptych.index.stores import local
from diptych.index.stores.local import LocalStore
from tests.stored_items import FACTS, stored_block
from tests.stores import MadeStore, local_store

SOME, OTHERS = Filters(min_width=2000), Filters(path="*.jpg")
BLOCK = stored_block(range(1, 301))


@pytest.fixture
def made(tmp_path: Path) -> Iterator[MadeStore]:
    with local_store(tmp_path) as made:
        made.store.set_facts(FACTS)
        made.store.put(BLOCK)
        made.store.prepare()
        yield made
        made.store.close()


@pytest.fixture
def asked(made: MadeStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The conditions by which the catalog is asked."""
    store, conditions = made.store, list[str]()
    assert isinstance(store, LocalStore)
    matching = store.folder.catalog.matching
    monkeypatch.setattr(
        store.folder.catalog, "matching", lambda *given: conditions.append(given[0]) or matching(*given)
    )
    return conditions


def found(made: MadeStore, filters: Filters) -> set[int]:
    query = BLOCK.vectors[0].astype(np.float32)
    return set(made.store.select("picture", filters).search(query, 1000)[0].tolist())


def wide(block: Block) -> set[int]:
    pictures = [one.item for one in block.items if one.item.modality == "picture"]
    return {item.id for item in pictures if (item.details.width or 0) >= 2000}


def test_what_passed_is_kept_for_each_filter(made: MadeStore, asked: list[str]) -> None:
    first = found(made, SOME), found(made, OTHERS)
    assert (found(made, SOME), found(made, OTHERS)) == first
    assert first[0] == wide(BLOCK)
    assert len(asked) == 2


def test_what_passed_is_asked_again_after_a_change(made: MadeStore, asked: list[str]) -> None:
    """Of this store, and by another one on the same folder."""
    before = found(made, SOME)
    more = stored_block(list(range(301, 401)))
    other = made.again()
    with other.writing():
        other.put(more)
        other.remove([min(before)])
        other.prepare()
    added = {
        one.item.id for one in more.items if one.item.modality == "picture" and (one.item.details.width or 0) >= 2000
    }
    assert added
    assert found(made, SOME) == (before | added) - {min(before)}
    assert len(asked) == 2
    other.close()


def test_few_ids_are_kept(made: MadeStore, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MAX_KEPT_IDS", len(found(made, SOME)))
    del asked[:]
    for filters in (SOME, OTHERS, SOME, SOME):
        found(made, filters)
    assert len(asked) == 2  # OTHERS put SOME out, and SOME was kept again


def test_items_that_come_again_as_they_were_leave_the_search_structures_as_they_are(made: MadeStore) -> None:
    """Only another vector has them built anew: at a million, that takes minutes."""

    def generations() -> set[str]:
        return {path.name.partition(".")[0] for path in Path(made.store.cache_dir).glob("nearest-*/*.vectors")}

    before, some = generations(), slice(40, 60)
    with made.store.writing():
        made.store.remove([stored.item.id for stored in BLOCK.items[some]])
        made.store.put(Block(BLOCK.items[some], BLOCK.vectors[some]))
        made.store.put(stored_block(range(301, 401)))
        made.store.prepare()
    assert generations() == before
    with made.store.writing():
        made.store.put(Block(BLOCK.items[some], BLOCK.vectors[some][::-1]))
        made.store.prepare()
    assert generations().isdisjoint(before)
    assert len(before) == 2


def test_a_refresh_reads_no_vectors_but_those_that_are_new(made: MadeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(made.store, LocalStore)
    catalog = made.store.folder.catalog
    rows, statements = catalog.rows, list[str]()
    monkeypatch.setattr(catalog, "rows", lambda sql, values=(): statements.append(sql) or rows(sql, values))
    with made.store.writing():
        made.store.put(stored_block(range(301, 303)))
        made.store.prepare()
    assert all("id IN" in sql for sql in statements if "vector" in sql)
    assert any("vector" in sql for sql in statements)


def test_filters_read_no_items_with_their_vectors(made: MadeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million vectors are a gigabyte."""
    assert isinstance(made.store, LocalStore)
    catalog = made.store.folder.catalog
    rows, plans = catalog.rows, list[str]()

    def explained(sql: str, values: tuple = ()) -> list[tuple]:
        plans.extend(row[-1] for row in rows(f"EXPLAIN QUERY PLAN {sql}", values))
        return rows(sql, values)

    monkeypatch.setattr(catalog, "rows", explained)
    for filters in (Filters(subfolder="a"), SOME, OTHERS, Filters(camera="Canon", since="2010")):
        del plans[:]
        found(made, filters)
        on_items = [plan for plan in plans if "items" in plan]
        assert on_items
        assert all("COVERING INDEX" in plan for plan in on_items)
