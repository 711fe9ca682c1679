"""Filtered searches of a server's graph, which is left early where few of its rows pass."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from diptych.index.catalog.stored_items import Block
from diptych.index.filters.filters import Filters
from diptych.index.stores.uri import StoreURI
from tests import milvus
from tests.stored_items import BLOCK, FACTS, vectors_of

pytest.importorskip("pymilvus")

from diptych.index.stores.milvus import search
from diptych.index.stores.milvus.store import MilvusStore

_COUNT = 4000
_SHARES = (0.5, 0.1, 0.01, 0.001)


def recalls(store: MilvusStore, vectors: np.ndarray, widths: np.ndarray, k: int) -> list[float]:
    """The share of the `k` nearest that are found among the widest pictures, for each of _SHARES."""
    queries, found = vectors_of(10, 9).astype(np.float32), []
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    for share in _SHARES:
        least = int(_COUNT * (1 - share))
        passing = np.flatnonzero(widths >= least)
        selection = store.select("picture", Filters(min_width=least))
        assert len(selection) == len(passing)
        hits = wanted = 0
        for query in queries:
            best = passing[np.argsort(-(vectors[passing].astype(np.float32) @ query))[:k]] + 1
            ids, _ = selection.search(query, k)
            assert len(ids) == len(best)
            hits, wanted = hits + len(np.intersect1d(ids, best)), wanted + len(best)
        found.append(hits / wanted)
    return found


def _waited_for(condition: Callable[[], bool], limit_s: float = 120.0) -> bool:
    end_s = time.monotonic() + limit_s
    while not (met := condition()) and time.monotonic() < end_s:
        time.sleep(0.2)
    return met


def test_a_filter_of_any_share_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_FEW", 2)  # or so few would be compared here, whatever the server found
    store = MilvusStore(StoreURI.parse(milvus.server().uri()))
    store.set_facts(FACTS)
    vectors, widths = vectors_of(_COUNT, 3), np.random.default_rng(2).permutation(_COUNT)
    picture = BLOCK.items[0]
    assert picture.item.modality == "picture"
    items = []
    for at in range(_COUNT):
        details = replace(picture.item.details, width=int(widths[at]) or None)
        items.append(picture._replace(item=picture.item._replace(id=at + 1, path=f"{at}.jpg", details=details)))
    store.put(Block(items, vectors))
    collection = store._collection
    collection.flush()
    collection.index("HNSW", {"M": 4, "efConstruction": 8})  # a poor graph, searched narrowly
    collection.set_settings({"index": "HNSW", "ef": {"picture": [10, 100]}})
    with monkeypatch.context() as as_one_search:
        as_one_search.setattr(search, "_PART", 1.0)
        poor = _waited_for(lambda: recalls(store, vectors, widths, 10)[1] < 0.98)
    assert poor, "until the server has loaded the graph it compares all rows, and nothing is shown"
    for k in (10, 100):
        assert min(recalls(store, vectors, widths, k)) >= 0.98
    store._connection.call("drop_collection", collection.name)
    store.close()


def test_parts_are_all_of_the_rows_and_each_of_them_once() -> None:
    drawn = np.random.default_rng(0).integers(-(2**63), 2**63, 5000)
    for parts in (1, 3, 20):
        sizes = []
        for part in search._divided(parts):
            low, high = part.values.get("part_from", -(2**63)), part.values.get("part_to", 2**63)
            assert part.template.count("drawn") == len(part.values)
            sizes.append(sum(low <= int(one) < high for one in drawn))
        assert sum(sizes) == 5000
        assert len(sizes) == parts
        assert min(sizes) > 5000 / parts * 0.7
