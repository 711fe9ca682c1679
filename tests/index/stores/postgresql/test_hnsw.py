"""Searches by an index of vectors: built while others write, tuned by measured recall, and never short of a limit."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest

from diptych.index.catalog.stored_items import Block, StoredItem
from diptych.index.catalog.validation import Item
from diptych.index.filters.filters import Filters
from diptych.index.folder import IndexFolder
from diptych.index.stores.copying import copy_store
from diptych.index.stores.local import LocalStore
from diptych.index.stores.postgresql import hnsw, selection
from diptych.index.stores.postgresql.hnsw import Effort
from diptych.index.stores.postgresql.selection import PostgreSQLSelection
from diptych.index.stores.postgresql.store import PostgreSQLStore
from diptych.index.stores.uri import StoreURI
from diptych.media.items import Details, Modality
from tests.postgresql import server
from tests.stored_items import FACTS

PICTURES, TEXTS, DIM, CLUSTERS = 2000, 600, 48, 40


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def across(count: int, seed: int, gap: float) -> np.ndarray:
    """Vectors of one modality in the clusters of all, apart from the other modality's."""
    shared, own = np.random.default_rng(1), np.random.default_rng(seed)
    centres = unit(shared.normal(size=(CLUSTERS, DIM)))
    direction = unit(np.random.default_rng(int(gap * 10)).normal(size=(1, DIM)))
    noise = 0.5 * unit(own.normal(size=(count, DIM)))
    return unit(gap * direction + centres[own.integers(CLUSTERS, size=count)] + noise)


VECTORS = {
    "picture": across(PICTURES, 2, 1.0).astype(np.float16),
    "text": across(TEXTS, 3, 1.5).astype(np.float16),
}
QUERIES = across(120, 4, 1.5).astype(np.float32)


def block_of(modality: Modality, first: int, vectors: np.ndarray) -> Block:
    def stored(number: int) -> StoredItem:
        is_text = modality == "text"
        path, kind, text = (f"{number}.txt", "text", "words") if is_text else (f"{number}.jpg", "picture", None)
        details = Details(width=number % 100)
        return StoredItem(Item(number, path, kind, modality, None, None, text, 5, None, details), None, 1, 1)

    return Block([stored(first + position) for position in range(len(vectors))], vectors)


@pytest.fixture(scope="module")
def prepared() -> Iterator[PostgreSQLStore]:
    """A store whose pictures have an index of vectors, as those of a large one have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hnsw, "MIN_ROWS", 1000)
        store = PostgreSQLStore(StoreURI.parse(server().uri()))
        store.set_facts(FACTS | {"dim": DIM})
        store.put(block_of("picture", 1, VECTORS["picture"]))
        store.put(block_of("text", 10_000, VECTORS["text"]))
        with store.writing():
            store.prepare()
        yield store
        store.close()


@pytest.fixture
def by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches use the index of vectors as if comparing all took long."""
    monkeypatch.setattr(hnsw, "MIN_ROWS", 1000)
    monkeypatch.setattr(selection, "_PASS_US", 1e6)


def exact(query: np.ndarray, k: int, passes: np.ndarray | None = None) -> np.ndarray:
    cosines = VECTORS["picture"].astype(np.float32) @ query
    ids = np.arange(1, PICTURES + 1)
    if passes is not None:
        cosines, ids = cosines[passes], ids[passes]
    return ids[np.lexsort((ids, -cosines))[:k]]


def plan(store: PostgreSQLStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way the searches after this took."""
    ways = list[str]()
    for way in ("by_index", "compared"):
        real = getattr(PostgreSQLSelection, way)

        def noted(*arguments: object, real: object = real, way: str = way) -> object:
            ways.append(way)
            return real(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(PostgreSQLSelection, way, noted)
    return ways


def test_only_what_has_many_items_gets_an_index(prepared: PostgreSQLStore) -> None:
    schema = prepared.name.partition("#")[2]
    with psycopg.connect(server().address()) as connection:
        query = "SELECT indexname FROM pg_indexes WHERE schemaname = %s AND indexdef LIKE '%%hnsw%%'"
        assert connection.execute(query, [schema]).fetchall() == [("items_picture_vector",)]
    effort = Effort.of(prepared.facts(), "picture")
    assert effort
    assert effort.recall >= hnsw.TARGET_RECALL
    assert effort.rows == PICTURES
    assert Effort.of(prepared.facts(), "text") is None


@pytest.mark.usefixtures("by_index")
@pytest.mark.parametrize("k", [10, 100])
@pytest.mark.parametrize("least_width", [None, 90])
def test_queries_across_the_modality_gap_find_the_nearest(
    prepared: PostgreSQLStore, k: int, least_width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = plan(prepared, monkeypatch)
    chosen = prepared.select("picture", Filters(min_width=least_width))
    passes = np.arange(1, PICTURES + 1) % 100 >= (least_width or 0)
    recalls = []
    for query in QUERIES:
        ids, cosines = chosen.search(query, k)
        right = exact(query, k, passes)
        assert len(ids) == k
        assert (np.diff(cosines) <= 0).all()
        assert cosines == pytest.approx(VECTORS["picture"][ids - 1].astype(np.float32) @ query, abs=1e-5)
        recalls.append(np.isin(right, ids).mean())
    assert set(ways) == {"by_index"}
    assert np.mean(recalls) >= 0.98


@pytest.mark.usefixtures("by_index")
@pytest.mark.parametrize("k", [1, 500, 1999, 5000])
def test_a_limit_is_filled_whatever_the_index_finds(
    prepared: PostgreSQLStore, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hnsw.Effort, "visited", lambda self, k: 40)  # too few for any of these
    ids, _ = prepared.select("picture", Filters()).search(QUERIES[0], k)
    assert len(set(ids.tolist())) == min(k, PICTURES)


@pytest.mark.usefixtures("by_index")
def test_limits_are_filled_after_the_nearest_were_deleted(prepared: PostgreSQLStore) -> None:
    query = QUERIES[1]
    nearest = exact(query, 40)
    block = block_of("picture", 1, VECTORS["picture"])
    removed = Block([block.items[id - 1] for id in sorted(nearest)], block.vectors[np.sort(nearest) - 1])
    prepared.remove(nearest.tolist())
    ids, _ = prepared.select("picture", Filters()).search(query, 20)
    assert np.isin(exact(query, 60)[40:], ids).mean() >= 0.9
    assert len(ids) == 20
    prepared.put(removed)
    ids, _ = prepared.select("picture", Filters()).search(query, 20)
    assert np.isin(nearest[:20], ids).mean() >= 0.9


def test_few_items_are_compared(prepared: PostgreSQLStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hnsw, "MIN_ROWS", 1000)
    ways = plan(prepared, monkeypatch)
    for filters in (Filters(min_width=98), Filters(path="nothing/*")):
        prepared.select("picture", filters).search(QUERIES[0], 10)
    assert ways == ["compared", "compared"]


def test_others_read_and_write_while_an_index_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hnsw, "MIN_ROWS", 500)
    monkeypatch.setattr(hnsw, "QUERIES", 4)
    uri = StoreURI.parse(server().uri())
    stores = [PostgreSQLStore(uri) for _ in range(2)]
    stores[0].set_facts(FACTS | {"dim": DIM})
    stores[0].put(block_of("picture", 1, VECTORS["picture"][:1500]))
    seen, ended, put = list[tuple[int, int]](), threading.Event(), 0
    build = threading.Thread(target=lambda: (stores[0].prepare(lambda *some: seen.append(some)), ended.set()))
    build.start()
    while not ended.is_set() or not put:
        stores[1].put(block_of("picture", 1501 + put, VECTORS["picture"][[put % PICTURES]]))
        put += 1
        assert len(stores[1].select("picture", Filters()).search(QUERIES[0], 5)[0]) == 5
    build.join()
    assert seen[-1] == (1500, 1500)
    assert len(stores[1].ids()) == 1500 + put
    for store in stores:
        store.close()


def test_an_index_that_was_left_unfinished_is_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hnsw, "MIN_ROWS", 100)
    monkeypatch.setattr(hnsw, "QUERIES", 4)
    store = PostgreSQLStore(StoreURI.parse(server().uri()))
    store.set_facts(FACTS | {"dim": DIM})
    store.put(block_of("picture", 1, VECTORS["picture"][:300]))
    store.prepare()
    schema = store.name.partition("#")[2]
    with psycopg.connect(server().address(), autocommit=True) as connection:
        name = f"'{schema}.items_picture_vector'::regclass"
        connection.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = {name}")
        assert len(store.select("picture", Filters()).search(QUERIES[0], 5)[0]) == 5
        store.prepare()
        assert connection.execute(f"SELECT indisvalid FROM pg_index WHERE indexrelid = {name}").fetchone() == (True,)
    store.close()


def test_what_has_grown_is_measured_again_by_the_next_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And one that hardly grew is not."""
    monkeypatch.setattr(hnsw, "MIN_ROWS", 20)
    monkeypatch.setattr(hnsw, "QUERIES", 4)
    (tmp_path / "pictures").mkdir()
    source = LocalStore(IndexFolder(tmp_path / "pictures"))
    source.set_facts(FACTS | {"dim": DIM})
    store = PostgreSQLStore(StoreURI.parse(server().uri()))
    measured, first = [], 0
    for last in (30, 40, 300):
        source.put(block_of("picture", 1 + first, VECTORS["picture"][first:last]))
        first = last
        copy_store(source, store)
        effort = Effort.of(store.facts(), "picture")
        measured.append(effort and effort.rows)
    assert measured == [30, 30, 300]
    store.close()
    source.close()


def test_a_build_that_is_interrupted_ends_and_goes_on_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for another transaction, until the user has waited enough."""
    monkeypatch.setattr(hnsw, "MIN_ROWS", 100)
    monkeypatch.setattr(hnsw, "QUERIES", 4)
    monkeypatch.setattr(hnsw, "_POLL_S", 0.05)
    store = PostgreSQLStore(StoreURI.parse(server().uri()))
    store.set_facts(FACTS | {"dim": DIM})
    store.put(block_of("picture", 1, VECTORS["picture"][:300]))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with psycopg.connect(server().address()) as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1")
        with pytest.raises(KeyboardInterrupt):
            store.prepare(interrupt)
    store.prepare()
    assert Effort.of(store.facts(), "picture")
    store.close()


def test_many_vectors_without_an_index_are_not_compared_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hnsw, "MIN_ROWS", 100)
    monkeypatch.setattr(hnsw, "QUERIES", 4)
    monkeypatch.setattr(selection, "MAX_COMPARED", 200)
    store = PostgreSQLStore(StoreURI.parse(server().uri()))
    store.set_facts(FACTS | {"dim": DIM})
    store.put(block_of("picture", 1, VECTORS["picture"][:300]))
    with pytest.warns(UserWarning, match=r"about 300 vectors are compared one by one.*`prepare` of the store"):
        assert len(store.select("picture", Filters()).search(QUERIES[0], 5)[0]) == 5
    store.close()


@pytest.mark.parametrize("dim", [4001, 8192])
def test_longer_vectors_than_an_index_takes_are_compared(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not fit a page of the table either."""
    monkeypatch.setattr(hnsw, "MIN_ROWS", 10)
    monkeypatch.setattr(selection, "MAX_COMPARED", 20)
    store = PostgreSQLStore(StoreURI.parse(server().uri()))
    store.set_facts(FACTS | {"dim": dim})
    vectors = unit(np.random.default_rng(0).normal(size=(30, dim))).astype(np.float16)
    store.put(block_of("picture", 1, vectors))
    store.prepare()
    with pytest.warns(UserWarning, match=rf"vectors of {dim:,} numbers have none, 4,000 is the most"):
        ids, cosines = store.select("picture", Filters()).search(vectors[3].astype(np.float32), 2)
    assert ids[0] == 4
    assert cosines[0] == pytest.approx(1, abs=2e-3)
    assert (store.vectors_of([1, 30]) == vectors[[0, 29]]).all()
    store.close()


def test_what_no_effort_reaches_is_compared(
    prepared: PostgreSQLStore, by_index: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = np.tile(np.arange(100), (4, 1))
    effort = hnsw.tuned(lambda query, length, visited: np.arange(length) + 5, [QUERIES[:4]], [right], 3000)
    assert effort == Effort(0, 0, 0.5, 3000)
    ways = plan(prepared, monkeypatch)
    monkeypatch.setattr(hnsw.Effort, "of", lambda facts, modality: effort)
    prepared.select("picture", Filters()).search(QUERIES[0], 10)
    assert ways == ["compared"]


@pytest.mark.parametrize("fact", ["", "many", "5 6 0.9", "5 9000 0.9 10", "-1 5 0.9 10", "5 6 x 10", "5 6 0.9 0"])
def test_an_effort_that_is_not_ours_is_not_read(fact: str) -> None:
    assert Effort.of({"hnsw.picture": fact}, "picture") is None


def test_longer_lists_need_more_visits() -> None:
    effort = Effort(60, 300, 0.99, 1000)
    assert Effort.of({"hnsw.text": str(effort)}, "text") == effort
    assert [effort.visited(k) for k in (1, 10, 55, 100, 1000)] == [60, 60, 180, 300, 3000]
    assert [Effort(60, 0, 0.99, 1000).visited(k) for k in (10, 11, 1000)] == [60, 0, 0]
    assert Effort(0, 0, 0.5, 1000).visited(5) == 0
