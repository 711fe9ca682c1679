"""What is peculiar to an index in Milvus: writing without transactions, passwords, servers that refuse or go away."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.errors import IndexBusyError, IndexDamagedError, StoreError
from diptych.index.catalog.stored_items import Block
from diptych.index.filters.filters import Filters
from diptych.index.stores.uri import StoreURI
from tests import milvus
from tests.stored_items import BLOCK, DIM, FACTS, stored_block

pytest.importorskip("pymilvus")

from diptych.index.stores.milvus.connection import Connection
from diptych.index.stores.milvus.store import MilvusStore


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[MilvusStore]:
    pytest.importorskip("milvus_lite", reason="milvus-lite has no wheel here")
    store = MilvusStore(StoreURI.parse(f"milvus://{tmp_path}/items.db"))
    store.set_facts(FACTS)
    store.put(Block(BLOCK.items[:20], BLOCK.vectors[:20]))
    yield store
    store.close()


def everything(store: MilvusStore) -> list[Any]:
    return [(*stored, vector.tobytes()) for block in store.blocks() for stored, vector in zip(*block, strict=True)]


# --- writing


@pytest.mark.parametrize("failing", ["picture", "text"])
def test_a_block_that_fails_midway_leaves_what_was_there(
    lite: MilvusStore, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    before, upsert, times = everything(lite), lite._collection.upsert, [0]

    def fails_once(modality: Any, rows: list[Any]) -> None:
        upsert(modality, rows)
        if modality == failing and not times[0]:
            times[0] = 1
            raise StoreError("the server went away")

    monkeypatch.setattr(lite._collection, "upsert", fails_once)
    changed = stored_block(range(11, 31), seed=9)
    with pytest.raises(StoreError, match="went away"):
        lite.put(changed)
    assert times == [1]
    assert everything(lite) == before
    lite.put(changed)
    assert len(everything(lite)) == 30


def test_an_item_that_changes_its_modality_is_there_once(lite: MilvusStore) -> None:
    old = BLOCK.items[0]
    assert old.item.modality == "picture"
    new = old._replace(item=old.item._replace(kind="text", path="a.txt", modality="text", line=1, text="words"))
    lite.put(Block([new], BLOCK.vectors[:1]))
    query = BLOCK.vectors[0].astype(np.float32)
    assert old.item.id not in lite.select("picture", Filters()).search(query, 100)[0]
    assert old.item.id in lite.select("text", Filters()).search(query, 100)[0]
    assert len(lite.ids()) == 20


def test_long_texts_are_packed_and_longer_ones_refused(lite: MilvusStore) -> None:
    old = BLOCK.items[0]
    texts = "\U0001f600 \\ \" ' " * 2200, "\u4e00" * 20_000
    item = old.item._replace(text=texts[0], details=replace(old.item.details, caption=texts[1]))
    lite.put(Block([old._replace(item=item)], BLOCK.vectors[:1]))
    assert lite.items([item.id]) == [item]
    noise = "".join(map(chr, np.random.default_rng(1).integers(0x4E00, 0x9FFF, 20_000)))
    more = item._replace(text=noise, details=replace(item.details, caption=noise[::-1]))
    with pytest.raises(IndexDamagedError, match="takes 65,535"):
        lite.put(Block([old._replace(item=more)], BLOCK.vectors[:1]))
    assert lite.items([item.id]) == [item]


def test_rows_that_are_not_valid_are_named_and_left_out(lite: MilvusStore) -> None:
    rows = lite._collection.rows_with_ids([1, 2, 3], ["*"])
    rows[1]["path"] = "../../etc/secret.jpg"
    rows[2]["rest"] = '{"at_s": [[['
    rows[3]["kind"] = "program"
    for row in rows.values():
        lite._collection.upsert(row["modality"], [row])
    assert lite.items([1, 2, 3, 4])[0].id == 4
    assert lite.refused.keys() == {1, 2, 3}
    assert [stored.item.id for block in lite.blocks() for stored in block.items] == list(range(4, 21))
    assert not {1, 2, 3} & set(lite.listed("picture", Filters(camera="o"), "path", "asc").tolist())


def test_threads_may_share_a_store(lite: MilvusStore) -> None:
    failures, query = list[BaseException](), BLOCK.vectors[0].astype(np.float32)

    def work(number: int) -> None:
        try:
            for id in range(number * 100 + 100, number * 100 + 103):
                lite.put(stored_block([id], seed=id))
                assert lite.select("picture", Filters()).search(query, 3)[0][0] == 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(lite.ids()) == 32


def test_a_thread_does_not_wait_for_another_for_ever(lite: MilvusStore) -> None:
    """One that builds an index, such as."""
    hurried = MilvusStore(StoreURI.parse(lite.name), timeout_s=0.2)
    assert hurried.exists
    began, ended = threading.Event(), threading.Event()

    def work(client: Any, left_s: float) -> None:
        began.set()
        ended.wait(60)

    busy = threading.Thread(target=lite._connection.run, args=(work,))
    busy.start()
    assert began.wait(60)
    with pytest.raises(IndexBusyError, match="another thread"):
        hurried.facts()
    ended.set()
    busy.join()
    hurried.close()


# --- a server that is not there, refuses, or goes away


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def all_said(error: BaseException) -> str:
    """An error with all that a traceback would show of it."""
    return f"{error!r} {error} {error.__cause__!r} {'' if error.__suppress_context__ else repr(error.__context__)}"


def test_a_server_that_is_down_is_named_without_its_password() -> None:
    store = MilvusStore(StoreURI.parse(f"milvus://me:hunter2@127.0.0.1:{closed_port()}/x"), timeout_s=5)
    with pytest.raises(StoreError, match=r"nothing answers at 127\.0\.0\.1.*Start the server") as raised:
        store.facts()
    assert "hunter2" not in all_said(raised.value)


def test_a_server_that_never_answers_is_not_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        store = MilvusStore(StoreURI.parse(f"milvus://me:hunter2@127.0.0.1:{port}/x"), timeout_s=1)
        with pytest.raises(StoreError) as raised:
            store.facts()
    assert "hunter2" not in all_said(raised.value) + "".join(capfd.readouterr())
    assert "Traceback" not in capfd.readouterr().err


def test_a_wrong_password_is_refused_and_told_apart(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    store = MilvusStore(StoreURI.parse(milvus.server().uri(password="hunter2")), timeout_s=20)
    with pytest.raises(StoreError, match="refused the user name, password or token") as raised:
        store.facts()
    assert "hunter2" not in all_said(raised.value) + caplog.text + "".join(capfd.readouterr()) + repr(store)


def test_limits_beyond_what_a_server_finds_at_once_are_filled() -> None:
    """16,384 rows. Few dimensions, so that there are enough."""
    count, rng = 17_000, np.random.default_rng(1)
    vectors = rng.normal(size=(count, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    picture = stored_block([1]).items[0]
    store = MilvusStore(StoreURI.parse(milvus.server().uri()))
    store.set_facts(FACTS | {"dim": 8})
    for start in range(0, count, 8500):
        ids = range(start + 1, min(count, start + 8500) + 1)
        items = [picture._replace(item=picture.item._replace(id=id, path=f"{id}.jpg")) for id in ids]
        store.put(Block(items, vectors[start : start + 8500]))
    query = np.eye(8, dtype=np.float32)[0]
    cosines = vectors.astype(np.float32)[:, 0]
    for k in (16_384, 16_500, 20_000):
        ids, found = store.select("picture", Filters()).search(query, k)
        assert len(set(ids.tolist())) == min(k, count)
        assert found == pytest.approx(np.sort(cosines)[::-1][:k], abs=1e-5)
    store._connection.call("drop_collection", store._collection.name)
    store.close()


class Relay:
    """Stands between a client and a server, and cuts the line."""

    def __init__(self, port: int):
        self.to, self.pairs = port, list[socket.socket]()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.to))
            self.pairs += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        for one in self.pairs:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.pairs.clear()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()


def test_a_line_that_is_cut_is_laid_again_and_a_dead_server_is_named() -> None:
    server = milvus.server()
    relay = Relay(server.port)
    uri = server.uri().replace(f":{server.port}/", f":{relay.port}/")
    store = MilvusStore(StoreURI.parse(uri), timeout_s=10)
    assert not store.exists
    relay.cut()
    assert not store.exists
    store.set_facts(FACTS)
    store.put(Block(BLOCK.items[:5], BLOCK.vectors[:5]))
    relay.cut()
    assert store.items([1, 2])[0].id == 1
    relay.stop()
    with pytest.raises(StoreError) as raised:
        store.items([1])
    assert milvus.PASSWORD not in all_said(raised.value).replace("Milvus ", "")
    store.close()
    store = MilvusStore(StoreURI.parse(uri.replace(f":{relay.port}/", f":{server.port}/")))
    assert len(store.ids()) == 5
    store._connection.call("drop_collection", store._collection.name)
    store.close()


def wait_until_stopped(pid: int) -> None:
    """Until each of a process's threads has heeded SIGSTOP: until then one of them may still answer."""
    threads = list(Path(f"/proc/{pid}/task").glob("*/stat"))
    while threads:
        threads = [each for each in threads if each.read_text().rpartition(")")[2].split()[0] not in "Tt"]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are not listed here")
def test_a_frozen_server_is_waited_for_no_longer_than_was_said() -> None:
    server = milvus.server()
    store = MilvusStore(StoreURI.parse(server.uri()), timeout_s=2)
    assert not store.exists
    os.kill(server.pid, signal.SIGSTOP)
    try:
        wait_until_stopped(server.pid)
        with pytest.raises(StoreError, match="did not answer within 2 s"):
            store.facts()
    finally:
        os.kill(server.pid, signal.SIGCONT)
    store.close()


def test_vectors_of_float16_come_back_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later servers have them with all indexes; this one while all rows are compared."""
    monkeypatch.setattr(Connection, "has_half", True)
    store = MilvusStore(StoreURI.parse(milvus.server().uri()))
    store.set_facts(FACTS)
    store.put(Block(BLOCK.items[:50], BLOCK.vectors[:50]))
    assert store._collection.description().form.is_half
    assert everything(store) == [
        (*stored, vector.tobytes()) for stored, vector in zip(BLOCK.items[:50], BLOCK.vectors[:50], strict=True)
    ]
    pictures = [at for at in range(50) if BLOCK.items[at].item.modality == "picture"]
    query = BLOCK.vectors[3].astype(np.float32)
    cosines = BLOCK.vectors[pictures].astype(np.float32) @ query
    ids, found = store.select("picture", Filters()).search(query, 10)
    assert ids.tolist() == [pictures[at] + 1 for at in np.argsort(-cosines)[:10]]
    assert found == pytest.approx(np.sort(cosines)[::-1][:10], abs=1e-6)
    store._connection.call("drop_collection", store._collection.name)
    store.close()


def test_the_dimension_is_the_collections(lite: MilvusStore) -> None:
    assert (lite._collection.form.dim, lite._collection.form.is_half) == (DIM, False)
