"""Several processes and threads at one store, and what strangers may have written into it."""

import os
import threading
from collections.abc import Callable, Iterator

import numpy as np
import psycopg
import pytest

from diptych.errors import IndexBusyError, IndexDamagedError
from diptych.index.catalog.stored_items import Block
from diptych.index.filters.filters import Filters
from diptych.index.stores.postgresql import selection
from diptych.index.stores.postgresql.store import PostgreSQLStore
from diptych.index.stores.uri import StoreURI
from tests.postgresql import server
from tests.stored_items import FACTS, stored_block

PROCESSES, EACH = 3, 40


@pytest.fixture
def store() -> Iterator[PostgreSQLStore]:
    store = PostgreSQLStore(StoreURI.parse(server().uri()))
    store.set_facts(FACTS)
    yield store
    store.close()


def again(store: PostgreSQLStore) -> PostgreSQLStore:
    return PostgreSQLStore(StoreURI.parse(f"{server().address()}#{schema_of(store)}"))


def schema_of(store: PostgreSQLStore) -> str:
    return store.name.partition("#")[2]


def counted(store: PostgreSQLStore) -> int:
    return len(store.select("picture", Filters())) + len(store.select("text", Filters()))


def in_threads(*work: Callable[[], object]) -> None:
    """Do these at once; fails where one does."""
    errors = list[BaseException]()

    def run(one: Callable[[], object]) -> None:
        try:
            one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[one]) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_processes_write_and_read_at_once(store: PostgreSQLStore) -> None:
    """Each writes its own items and rewrites those of all, and reads what is there meanwhile."""
    children = []
    for number in range(PROCESSES):
        if not (child := os.fork()):
            code = 1
            try:
                for step in range(6):
                    store.put(stored_block(range(1, 20)))
                    store.put(stored_block(range(100 * (number + 1) + step * 5, 100 * (number + 1) + step * 5 + 5)))
                    ids, _ = store.select("picture", Filters()).search(np.ones(FACTS["dim"], np.float32) / 6, 5)
                    assert len(store.items(ids.tolist())) == 5
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * PROCESSES
    assert len(store.ids()) == counted(store) == 19 + PROCESSES * 30


def test_threads_may_share_a_store_or_have_their_own(store: PostgreSQLStore) -> None:
    stores = [store, store, again(store)]
    blocks = [stored_block(range(100 * number + 1, 100 * number + 21)) for number in range(3)]
    in_threads(*(lambda one=one, block=block: one.put(block) for one, block in zip(stores, blocks, strict=True)))
    assert len(store.ids()) == counted(store) == 60
    in_threads(*(lambda one=one, block=blocks[0]: one.put(block) for one in stores))
    in_threads(*(lambda one=one: one.remove(range(1, 11)) for one in stores))
    assert len(store.ids()) == counted(store) == 50
    stores[2].close()


def test_one_writer_at_a_time_among_those_who_ask(store: PostgreSQLStore) -> None:
    other = again(store)
    with store.writing():
        store.put(stored_block([1]))
        with pytest.raises(IndexBusyError, match="another process is writing"), other.writing():
            pass
    with other.writing():
        pass
    other.close()


def test_a_block_is_stored_as_a_whole_or_not_at_all(store: PostgreSQLStore) -> None:
    store.put(stored_block(range(1, 6)))
    good = stored_block(range(1, 11))
    with psycopg.connect(server().address(), autocommit=True) as other:
        other.execute(f"ALTER TABLE {schema_of(store)}.items ADD CONSTRAINT few CHECK (id < 10)")
        with pytest.raises(ValueError, match="violates check constraint"):
            store.put(good)
        other.execute(f"ALTER TABLE {schema_of(store)}.items DROP CONSTRAINT few")
    assert store.ids().tolist() == [1, 2, 3, 4, 5]
    assert counted(store) == 5


def test_texts_with_nul_and_long_values_come_back(store: PostgreSQLStore) -> None:
    block = stored_block([1, 2])
    deep = "/".join(["\u00fc" * 200] * 20) + "/a.jpg"
    items = [
        block.items[0]._replace(item=block.items[0].item._replace(text="a\0b", path=deep, digest=bytes(5000))),
        block.items[1]._replace(item=block.items[1].item._replace(path=deep.replace("a.jpg", "a.nef"))),
    ]
    store.put(Block(items, block.vectors))
    assert store.items([1, 2]) == [stored.item for stored in items]
    stem = deep.removesuffix(".jpg")
    assert [one.id for one in store.with_stems(items[0].item.modality, [stem], Filters())] == [1, 2]
    assert len(store.select("picture", Filters(subfolder=os.path.dirname(deep)))) == 2
    assert len(store.select("picture", Filters(subfolder=os.path.dirname(deep) + "x"))) == 0


def test_rows_that_others_changed_are_left_out_and_named(store: PostgreSQLStore) -> None:
    store.put(stored_block(range(1, 8)))
    schema = schema_of(store)
    with psycopg.connect(server().address(), autocommit=True) as other:
        other.execute(f"UPDATE {schema}.items SET path = '../../etc/secret.jpg' WHERE id = 2")
        other.execute(f"UPDATE {schema}.items SET latitude = 'NaN' WHERE id = 3")
        other.execute(
            f"UPDATE {schema}.items SET vector = (vector::vector * 0)::halfvec WHERE id = 4".replace(
                "* 0", "- vector::vector"
            )
        )
    assert [item.id for item in store.items(range(1, 8))] == [1, 4, 5, 6, 7]
    assert store.refused == {2: "../../etc/secret.jpg", 3: store.refused[3]}
    assert [stored.item.id for block in store.blocks() for stored in block.items] == [1, 5, 6, 7]
    ids, cosines = store.select("picture", Filters()).search(np.ones(FACTS["dim"], np.float32) / 6, 9)
    assert 4 not in ids
    assert np.isfinite(cosines).all()


def test_vectors_of_another_dimension_are_said(store: PostgreSQLStore) -> None:
    store.put(stored_block(range(1, 8)))
    schema = schema_of(store)
    with psycopg.connect(server().address(), autocommit=True) as other:
        other.execute(f"UPDATE {schema}.facts SET value = '16' WHERE key = 'dim'")
    changed = again(store)
    with pytest.raises(ValueError, match="dimensions"):
        changed.select("picture", Filters()).search(np.ones(16, np.float32) / 4, 3)
    for use in (lambda: changed.vectors_of([1]), lambda: list(changed.blocks()), lambda: changed.sample("picture", 3)):
        with pytest.raises(IndexDamagedError, match="16 numbers"):
            use()
    changed.close()


def test_what_a_large_store_counts_is_at_least_what_passes(
    store: PostgreSQLStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(stored_block(range(1, 1001)))
    filters = [Filters(min_width=least) for least in (1, 2500, 4950)]
    exact = [len(store.select("picture", one)) for one in filters]
    for name, value in (("COUNTED", 100), ("_SAMPLE", 300), ("_ENOUGH", 50)):
        monkeypatch.setattr(selection, name, value)
    store.set_facts({"version": "2"})  # what was counted before is forgotten
    counted = [len(store.select("picture", one)) for one in filters]
    assert all(some >= right for some, right in zip(counted, exact, strict=True))
    assert counted[1] != exact[1]  # estimated
    assert counted[2] == exact[2]  # few are counted
    found, _ = store.select("picture", filters[1]).search(np.ones(FACTS["dim"], np.float32) / 6, 10**6)
    assert len(found) == exact[1]


def test_no_password_is_kept_or_shown(store: PostgreSQLStore) -> None:
    store.put(stored_block([1]))
    everything = f"{store!r} {store.name} {store.facts()} {store.__dict__}"
    with psycopg.connect(server().address(), autocommit=True) as other:
        everything += str(other.execute(f"SELECT * FROM {schema_of(store)}.facts").fetchall())
    assert server().password not in everything
