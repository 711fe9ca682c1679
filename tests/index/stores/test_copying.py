"""A copy of an index has the same items, vectors and ids, however often it was interrupted."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.errors import IndexBusyError, IndexModelError, StoreError
from diptych.index.catalog.stored_items import Block
from diptych.index.filters.filters import Filters
from diptych.index.stores.copying import copy_store
from diptych.index.stores.local import LocalStore
from tests.stored_items import FACTS, stored_block
from tests.stores import MAKERS, MadeStore, local_store

BLOCK = stored_block(range(1, 301))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[LocalStore]:
    (tmp_path / "source").mkdir()
    with local_store(tmp_path / "source") as made:
        made.store.set_facts(FACTS | {"updated_at": "2024-05-01T12:00:00"})
        made.store.put(BLOCK)
        yield made.store  # type: ignore[misc]


@pytest.fixture(params=MAKERS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MadeStore]:
    (tmp_path / "target").mkdir()
    with MAKERS[request.param](tmp_path / "target") as made:
        yield made
        made.store.close()


def test_a_copy_there_and_back_is_the_same(source: LocalStore, target: MadeStore, tmp_path: Path) -> None:
    steps = list[tuple[int, int]]()
    first = copy_store(source, target.store, progress=lambda done, total: steps.append((done, total)))
    assert first[:4] == (300, 0, 0, 300)
    assert steps[-1] == (600, 600)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    again = copy_store(source, target.again())
    assert again[:4] == (0, 300, 0, 300)
    assert again.checksum == first.checksum
    assert target.again().facts()["updated_at"] == "2024-05-01T12:00:00"
    (tmp_path / "back").mkdir()
    with local_store(tmp_path / "back") as back:
        assert copy_store(target.again(), back.store).checksum == first.checksum
        query = BLOCK.vectors[7].astype(np.float32)
        found = [store.select("picture", Filters()).search(query, 20) for store in (source, target.again(), back.store)]
        assert found[0][0].tolist() == found[1][0].tolist() == found[2][0].tolist()
        assert found[1][1] == pytest.approx(found[0][1], abs=1e-3)


def test_what_changed_is_copied_and_what_is_gone_is_removed(source: LocalStore, target: MadeStore) -> None:
    copy_store(source, target.store)
    stored = BLOCK.items[4]
    moved = stored._replace(item=replace_path(stored.item, "elsewhere/new.png"))
    captioned = BLOCK.items[5]._replace(
        item=BLOCK.items[5].item._replace(details=replace(BLOCK.items[5].item.details, caption="new"))
    )
    source.put(Block([moved, captioned], BLOCK.vectors[4:6]))
    source.put(stored_block(range(301, 321), seed=9))
    source.remove([1, 2, 3, 300])
    result = copy_store(source, target.store)
    assert result[:4] == (22, 294, 4, 316)
    assert target.again().items([5])[0].path == "elsewhere/new.png"
    assert target.again().ids().tolist() == source.ids().tolist()


def replace_path(item: Any, path: str) -> Any:
    return item._replace(path=path, kind="picture")


def test_an_interrupted_copy_goes_on(source: LocalStore, target: MadeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put is whole, and is not put again."""
    target.store.set_facts(FACTS)
    monkeypatch.setattr("diptych.index.catalog.moving.BLOCK", 100)
    put, count = target.store.put, [0]

    def broken(block: Block) -> None:
        count[0] += 1
        if count[0] == 3:
            raise StoreError("the server is gone.")
        put(block)

    monkeypatch.setattr(target.store, "put", broken)
    with pytest.raises(StoreError):
        copy_store(source, target.store)
    assert len(target.again().ids()) == 200
    assert copy_store(source, target.again())[:4] == (100, 200, 0, 300)


def test_a_store_that_changes_what_it_gets_is_found_out(source: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with local_store(tmp_path / "other") as made:
        put = made.store.put
        made.store.put = lambda block: put(Block(block.items, -block.vectors))  # type: ignore[method-assign]
        with pytest.raises(StoreError, match="checksum"):
            copy_store(source, made.store)


def test_vectors_of_two_models_are_not_mixed(source: LocalStore, target: MadeStore) -> None:
    target.store.set_facts(FACTS | {"fingerprint": "g" * 16})
    with pytest.raises(IndexModelError):
        copy_store(source, target.store)
    assert len(target.again().ids()) == 0


def test_one_writes_at_a_time(source: LocalStore, target: MadeStore) -> None:
    if not target.store.keeps_others_out:
        pytest.skip("this store cannot keep others out")
    target.store.set_facts(FACTS)
    with target.store.writing(), pytest.raises(IndexBusyError):
        copy_store(source, target.again())
    assert copy_store(source, target.again()).copied == 300
