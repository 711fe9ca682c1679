"""What every store promises, whoever keeps its rows: the same items, filters, scores, samples and errors."""

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from diptych.errors import IndexBusyError, IndexDamagedError, IndexDirectoryError, IndexModelError
from diptych.index.catalog.schema import MODALITIES
from diptych.index.catalog.stored_items import Block
from diptych.index.catalog.validation import Item
from diptych.index.filters.filters import Filters
from diptych.index.stores.store import Store
from diptych.vectors.drawing import drawn
from tests.stored_items import BLOCK, COUNT, FACTS, FILTERS, OF, passing, vectors_of
from tests.stores import DIM, MadeStore


def filled(made: MadeStore, block: Block) -> Store:
    made.store.set_facts(FACTS)
    made.store.put(block)
    return made.store


def exact(query: np.ndarray, ids: list[int], k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of these ids."""
    if not ids:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    cosines = np.stack([OF[id][1] for id in ids]).astype(np.float32) @ query
    order = np.lexsort((np.array(ids), -cosines))[:k]
    return np.array(ids)[order], cosines[order]


def as_stored(items: Any) -> list[Item]:
    """Digests of nothing may come back as None."""
    return [one._replace(digest=one.digest or None) for one in items]


def test_a_store_is_made_by_its_first_facts(empty: MadeStore) -> None:
    assert not empty.store.exists
    with pytest.raises(IndexDirectoryError):
        empty.store.facts()
    empty.store.set_facts(FACTS)
    assert empty.store.exists
    assert empty.again().exists
    facts = empty.again().facts()
    assert {name: facts[name] for name in ("fingerprint", "model", "dim", "version")} == {
        name: FACTS[name] for name in ("fingerprint", "model", "dim", "version")
    }
    empty.store.set_facts({"version": "2", "root": None})
    assert empty.again().facts()["version"] == "2"
    assert "root" not in empty.again().facts()
    for select in (empty.store, empty.again()):
        assert len(select.select("picture", Filters())) == 0
        ids, cosines = select.select("picture", Filters()).search(np.eye(DIM, dtype=np.float32)[0], 5)
        assert (len(ids), len(cosines), len(select.ids())) == (0, 0, 0)
        assert len(select.sample("text", 5)[0]) == 0
        assert list(select.blocks()) == []


def test_vectors_of_another_model_are_refused(empty: MadeStore) -> None:
    empty.store.set_facts(FACTS)
    for other in ({"fingerprint": "g" * 16}, {"dim": DIM + 1}):
        with pytest.raises(IndexModelError):
            empty.store.set_facts(FACTS | other)


def test_everything_comes_back_bit_by_bit(made: MadeStore) -> None:
    for store in (made.store, made.again()):
        blocks = list(store.blocks())
        items = [stored for block in blocks for stored in block.items]
        assert as_stored(stored.item for stored in items) == as_stored(stored.item for stored in BLOCK.items)
        assert [stored[1:] for stored in items] == [stored[1:] for stored in BLOCK.items]
        vectors = np.concatenate([block.vectors for block in blocks])
        assert vectors.dtype == np.float16
        assert (vectors.view(np.uint16) == BLOCK.vectors.view(np.uint16)).all()
        assert store.ids().tolist() == [stored.item.id for stored in BLOCK.items]


def test_blocks_go_on_after_an_id(store: Store) -> None:
    after = [stored.item.id for block in store.blocks(after=COUNT - 3) for stored in block.items]
    assert after == [COUNT - 2, COUNT - 1, COUNT]


def test_items_and_vectors_by_id(store: Store) -> None:
    asked = [7, 3, 3, COUNT + 5, 62]
    assert as_stored(store.items(asked)) == as_stored(OF[id][0].item for id in (7, 3, 3, 62))
    assert (store.vectors_of([9, 4, 9]) == np.stack([OF[id][1] for id in (9, 4, 9)])).all()
    assert store.items([]) == []
    assert store.vectors_of([]).shape == (0, DIM)
    with pytest.raises(IndexBusyError):
        store.vectors_of([3, COUNT + 5])


def test_counts(store: Store) -> None:
    counts = store.counts()
    pictures = sum(stored.item.modality == "picture" for stored in BLOCK.items)
    assert (counts.pictures, counts.texts, counts.failed) == (pictures, COUNT - pictures, 0)
    assert counts.files == len({stored.item.path for stored in BLOCK.items})


@pytest.mark.parametrize("number", range(len(FILTERS)), ids=lambda number: repr(FILTERS[number][0])[:60])
def test_a_filter_lets_the_same_items_pass(store: Store, number: int) -> None:
    """And every limit is filled, with exact cosines in order."""
    rng = np.random.default_rng(number)
    for modality in ("picture", "text"):
        wanted = passing(FILTERS[number], modality)
        selection = store.select(modality, FILTERS[number][0])
        assert len(selection) == len(wanted)
        for k in (1, 7, 100, 5000):
            query = rng.normal(size=DIM).astype(np.float32)
            query /= np.linalg.norm(query)
            ids, cosines = selection.search(query, k)
            best_ids, best = exact(query, wanted, k)
            assert len(ids) == len(best_ids)
            assert cosines == pytest.approx(best, abs=1e-3)
            assert cosines == pytest.approx([OF[int(id)][1].astype(np.float32) @ query for id in ids], abs=1e-3)
            assert set(ids.tolist()) <= set(wanted)
            assert len(set(ids.tolist())) == len(ids)
            assert (np.diff(cosines) <= 0).all()


def test_two_hundred_queries_find_the_nearest(store: Store) -> None:
    rng = np.random.default_rng(7)
    for _ in range(200):
        filters, modality = FILTERS[rng.integers(len(FILTERS))], MODALITIES[rng.integers(2)]
        query, k = rng.normal(size=DIM).astype(np.float32), int(rng.choice([1, 10, 60, 300, 5000]))
        query /= np.linalg.norm(query)
        ids, cosines = store.select(modality, filters[0]).search(query, k)
        best_ids, best = exact(query, passing(filters, modality), k)
        assert ids.tolist() == best_ids.tolist() or cosines == pytest.approx(best, abs=1e-3)


def test_several_queries_at_once(store: Store) -> None:
    queries = vectors_of(5, 99).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    selection = store.select("picture", Filters(min_width=2500))
    for query, (ids, cosines) in zip(queries, selection.search_many(queries, 20), strict=True):
        alone = selection.search(query, 20)
        assert ids.tolist() == alone[0].tolist()
        assert cosines == pytest.approx(alone[1], abs=1e-3)


def test_dates_of_files_stand_in_for_dates_of_pictures(store: Store, made: MadeStore) -> None:
    """Whole years, far from any zone's new year, of files with a time; the others have the time of the last update."""
    store.set_facts({"updated_at": "2001-01-01T00:00:00"})
    for selected in (store, made.again()):
        found, _ = selected.select("picture", Filters(since="2054", file_dates=True)).search(
            np.eye(DIM, dtype=np.float32)[0], 5000
        )
        wanted = {
            id for id, (stored, _) in OF.items()
            if stored.item.modality == "picture" and not stored.item.details.taken_at and stored.mtime_ns
            and stored.mtime_ns >= 2_650_838_400 * 10**9
        }  # fmt: skip
        assert wanted
        assert set(found.tolist()) == wanted


def test_the_same_ids_are_drawn_as_a_sample(made: MadeStore) -> None:
    for modality in ("picture", "text"):
        ids = np.array(passing(FILTERS[0], modality))
        for store in (made.store, made.again()):
            sampled, vectors = store.sample(modality, 100)
            assert sampled.tolist() == drawn(ids, 100).tolist()
            assert vectors == pytest.approx(np.stack([OF[id][1] for id in sampled.tolist()]).astype(np.float32))
        assert store.sample(modality, 10**6)[0].tolist() == ids.tolist()


def test_files_with_the_same_bytes_or_the_same_name(store: Store) -> None:
    same = store.with_digests("picture", {b"the same", OF[7][0].item.digest or b"", b"none"}, Filters())
    wanted = {id for id in passing(FILTERS[0], "picture") if OF[id][0].item.digest == b"the same"} | {7}
    assert {one.id for one in same} == wanted
    assert [one.id for one in store.with_digests("picture", {b"the same"}, Filters(kind="text"))] == []
    stems = {os.path.splitext(OF[id][0].item.path)[0] for id in (1, 7, 31)} | {"nothing' OR 1"}
    found = {one.id for one in store.with_stems("picture", stems, Filters())}
    assert found == {id for id in passing(FILTERS[0], "picture") if os.path.splitext(OF[id][0].item.path)[0] in stems}
    assert store.with_digests("picture", set(), Filters()) == store.with_stems("picture", set(), Filters()) == []


def test_removed_items_are_gone_and_limits_are_filled(empty: MadeStore) -> None:
    store = filled(empty, Block(BLOCK.items[:300], BLOCK.vectors[:300]))
    query = OF[1][1].astype(np.float32)
    before, _ = store.select("picture", Filters()).search(query, 5000)
    store.remove([*before[:35].tolist(), 10**9])
    for one in (store, empty.again()):
        found, _ = one.select("picture", Filters()).search(query, 20)
        assert found.tolist() == before[35:55].tolist()
        assert len(one.select("picture", Filters())) == len(before) - 35
        assert one.items(before[:3].tolist()) == []
        assert not set(before[:35].tolist()) & set(one.ids().tolist())


def test_an_item_is_replaced_under_its_id(empty: MadeStore) -> None:
    store = filled(empty, Block(BLOCK.items[:20], BLOCK.vectors[:20]))
    old = BLOCK.items[0]
    new = old._replace(item=old.item._replace(path="new.png", details=replace(old.item.details, camera="other")))
    for _ in range(2):
        store.put(Block([new], BLOCK.vectors[5:6]))
    for one in (store, empty.again()):
        assert as_stored(one.items([old.item.id])) == as_stored([new.item])
        assert (one.vectors_of([old.item.id]) == BLOCK.vectors[5:6]).all()
        assert len(one.ids()) == 20
        (near, _) = one.select("picture", Filters(camera="other")).search(BLOCK.vectors[5].astype(np.float32), 3)
        assert near.tolist() == [old.item.id]


def test_a_vector_that_is_replaced_is_found_by_searches(empty: MadeStore) -> None:
    """As when a shard is embedded again whose pictures have changed: their ids stay."""
    store = filled(empty, Block(BLOCK.items[:20], BLOCK.vectors[:20]))
    id, query = BLOCK.items[0].item.id, BLOCK.vectors[5].astype(np.float32)
    modality = BLOCK.items[0].item.modality
    before = dict(zip(*store.select(modality, Filters()).search(query, 20), strict=True))
    with store.writing():
        store.put(Block(BLOCK.items[:1], BLOCK.vectors[5:6]))
        store.prepare()
    for one in (store, empty.again()):
        after = dict(zip(*one.select(modality, Filters()).search(query, 20), strict=True))
        assert after.pop(id) == pytest.approx(1, abs=1e-3)
        assert after == pytest.approx({other: cosine for other, cosine in before.items() if other != id}, abs=1e-3)


@pytest.mark.parametrize("opens_again", [False, True], ids=["the same store", "another process"])
def test_a_vector_that_comes_again_after_its_removal_is_found_by_searches(empty: MadeStore, opens_again: bool) -> None:
    """Nothing is prepared between, as in a copy that is interrupted and goes on from a source that changed."""
    store = filled(empty, Block(BLOCK.items[:20], BLOCK.vectors[:20]))
    with store.writing():
        store.prepare()
    id, modality, query = BLOCK.items[0].item.id, BLOCK.items[0].item.modality, BLOCK.vectors[5].astype(np.float32)
    before = dict(zip(*store.select(modality, Filters()).search(query, 20), strict=True))
    with store.writing():
        store.remove([id])
    later = empty.again() if opens_again else store
    with later.writing():
        later.put(Block(BLOCK.items[20:25], BLOCK.vectors[20:25]))
        later.put(Block(BLOCK.items[:1], BLOCK.vectors[5:6]))
        later.remove([stored.item.id for stored in BLOCK.items[20:25]])
        later.prepare()
    for one in (later, empty.again()):
        after = dict(zip(*one.select(modality, Filters()).search(query, 20), strict=True))
        assert after.pop(id) == pytest.approx(1, abs=1e-3)
        assert after == pytest.approx({other: cosine for other, cosine in before.items() if other != id}, abs=1e-3)


@pytest.mark.parametrize("length", [0, 1e-7, 0.5, np.nan, np.inf])
def test_vectors_that_are_not_of_unit_length_are_refused_at_the_door(empty: MadeStore, length: float) -> None:
    store = filled(empty, Block(BLOCK.items[:5], BLOCK.vectors[:5]))
    bad = BLOCK.vectors[5:8].copy()
    bad[1] = (bad[1].astype(np.float32) * length).astype(np.float16)
    with pytest.raises(IndexDamagedError):
        store.put(Block(BLOCK.items[5:8], bad))
    with pytest.raises(IndexDamagedError):
        store.put(Block(BLOCK.items[5:8], BLOCK.vectors[5:8, : DIM - 1]))
    assert empty.again().ids().tolist() == [1, 2, 3, 4, 5]


def test_an_item_with_a_path_that_leads_out_is_refused(empty: MadeStore) -> None:
    store = filled(empty, Block(BLOCK.items[:5], BLOCK.vectors[:5]))
    for path in ("../secret.jpg", "/etc/a.jpg", "a/../../b.jpg", "no picture"):
        stored = BLOCK.items[6]._replace(item=BLOCK.items[6].item._replace(path=path))
        with pytest.raises(IndexDamagedError):
            store.put(Block([stored], BLOCK.vectors[6:7]))
    assert len(empty.again().ids()) == 5


def test_a_query_of_another_length_is_refused(store: Store) -> None:
    for query in (np.ones(DIM - 1, np.float32), np.full(DIM, np.nan, np.float32)):
        with pytest.raises(ValueError, match="wanted"):
            store.select("picture", Filters()).search(query, 3)
