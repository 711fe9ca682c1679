"""What happens at once: the index is replaced while it is searched, two update it, clients vanish, and many want the
same."""

import shutil
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

import diptych
from diptych.index.doctor import examine
from diptych.media.reading.decoders import DecodedPicture
from diptych.serve.library.files.thumbnails import Thumbnails
from diptych.serve.library.items import found
from diptych.serve.library.pages import Lists
from diptych.serve.web.deadline import DEADLINE
from diptych.serve.web.problems import RequestProblem
from tests.serve.conftest import SlowAddress
from tests.serve.listening import Listening

WAIT_S = 120.0


def together(count: int, work: Callable[[int], object]) -> list:
    """What `count` threads return that begin at once."""
    begin = threading.Barrier(count)

    def begun(number: int) -> object:
        begin.wait(WAIT_S)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begun, range(count)))


def replaced_by_another_process(folder: Path, model: diptych.Embedder, number: int) -> None:
    """By an update, by a reindexing, and by an index that is deleted and made again."""
    Image.new("RGB", (40, 30), (number * 40, 100, 200)).save(folder / f"new-{number}.png")
    if number == 2:
        shutil.rmtree(folder / ".diptych")
    diptych.open_index(folder, model=model).update(reindex=number == 1, processes=1)


def test_an_index_that_is_replaced_while_it_is_searched(serve, several: Path, tiny: diptych.Embedder) -> None:
    """Each answer is of one of its states, or says when to ask again; the last is of the new one."""
    client, is_over, statuses = serve(several), threading.Event(), Counter[int]()

    def search(thread: int) -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            answer = client.post("/v1/search", json={"terms": [{"text": f"a house {thread} {number}"}]})
            statuses[answer.status_code] += 1
            assert answer.status_code in (200, 503), answer.text
            for hit in answer.json().get("hits", []):
                client.get(hit["thumbnail"])
                assert client.get(f"/v1/items/{hit['id']}").status_code in (200, 404, 503)

    with ThreadPoolExecutor(3) as pool:
        searching = [pool.submit(search, thread) for thread in range(3)]
        try:
            for number in range(3):
                replaced_by_another_process(several, tiny, number)
        finally:
            is_over.set()
        for each in searching:
            each.result(WAIT_S)
    assert statuses[200]
    hits = client.get("/v1/search", params={"q": "a house"}).json()["hits"]
    assert {hit["path"] for hit in hits} == {"0.png", "1.png", "below/2.png", *(f"new-{n}.png" for n in range(3))}
    known = serve(several).get("/v1/search", params={"q": "a house"}).json()["hits"]
    assert hits == known


def test_two_that_update_at_once_leave_one_whole_index(serve, several: Path, tiny: diptych.Embedder) -> None:
    """The server, asked by many, and another program."""
    client = serve(several)
    for number in range(6):
        Image.new("RGB", (40, 30), (number * 40, 100, 200)).save(several / f"new-{number}.png")

    def update(number: int) -> int:
        if number == 0:
            diptych.open_index(several, model=tiny).update(wait_s=WAIT_S, processes=1)
            return 202
        return client.post("/v1/index/update").status_code

    assert together(5, update) == [202] * 5
    while client.get("/v1/index").json()["state"] != "idle":
        time.sleep(0.01)
    state = client.get("/v1/index").json()
    assert (state["pictures"], state["error"]) == (9, None)
    paths = [item["path"] for item in client.get("/v1/items", params={"limit": 500}).json()["items"]]
    assert len(paths) == len(set(paths)) == 9
    assert examine(several) == []


def vanish(port: int, *, after_bytes: int) -> None:
    """A client of events that goes without a word, as one does whose machine is switched off and on."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if after_bytes:
            connection.recv(after_bytes)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_clients_of_events_that_vanish_are_forgotten(serve, indexed: Path) -> None:
    service = serve(indexed).service
    with Listening(service) as listening:
        together(20, lambda number: vanish(listening.port, after_bytes=4096 * (number % 2)))
        while service.streams or listening.connections():
            time.sleep(0.01)
        with socket.create_connection(("127.0.0.1", listening.port), timeout=WAIT_S) as connection:
            connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            content = b""
            while b"event: index" not in content:
                content += connection.recv(4096)
            assert service.streams == 1


class SlowDecoders:
    """Decodes when it is told to; counts what it is asked for."""

    def __init__(self) -> None:
        self.waiting, self.asked, self.has_root = 0, Counter[str](), True
        self._futures: list[Future[DecodedPicture]] = []

    def file(self, path: str, size_px: int, *, at_s: float | None = None) -> Future[DecodedPicture]:
        self.asked[path] += 1
        self._futures.append(Future())
        return self._futures[-1]

    def finish(self) -> None:
        for future in self._futures:
            future.set_result(DecodedPicture((40, 30), jpeg=b"\xff\xd8" + bytes(998)))


@pytest.fixture
def items(serve, several: Path) -> list:
    with serve(several).service.library.pool.reading() as index:
        return [item for item in found(index, range(50)) if item.kind == "picture"]


def test_a_thumbnail_that_many_want_at_once_is_made_once(items: list, tmp_path: Path) -> None:
    decoders = SlowDecoders()
    thumbnails = Thumbnails(tmp_path / "cache", decoders, 2**20)  # type: ignore[arg-type]
    with ThreadPoolExecutor(20) as pool:
        wanted = [pool.submit(thumbnails.get, items[0], 320) for _ in range(20)]
        while thumbnails.served < 20 or not decoders.asked:
            time.sleep(0.001)
        decoders.finish()
        assert len({each.result(WAIT_S) for each in wanted}) == 1
    assert (decoders.asked.total(), thumbnails.made) == (1, 1)


def test_a_thumbnail_that_comes_while_it_is_looked_for_is_not_made_again(
    items: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders, answers = SlowDecoders(), iter([None])
    thumbnails, read = Thumbnails(tmp_path / "cache", decoders, 2**20), Thumbnails._read  # type: ignore[arg-type]
    thumbnails._write(name := "aa/known.jpg", b"known")
    monkeypatch.setattr("diptych.serve.library.files.thumbnails._name", lambda *_: name)
    monkeypatch.setattr(Thumbnails, "_read", lambda self, name: next(answers, read(self, name)))
    assert thumbnails.get(items[0], 320) == b"known"
    assert not decoders.asked


def test_the_cache_of_thumbnails_keeps_its_bound_while_many_fill_it(items: list, tmp_path: Path) -> None:
    decoders, folder, bound = SlowDecoders(), tmp_path / "cache", 10_000
    thumbnails, sizes = Thumbnails(folder, decoders, bound), []  # type: ignore[arg-type]

    def keep(number: int) -> None:
        for each in range(20):
            thumbnails._write(f"{number:02}/{each}.jpg", bytes(1000))
            with thumbnails._lock:
                sizes.append(sum(path.stat().st_size for path in folder.rglob("*.jpg")))

    together(8, keep)
    others = 8  # files that are written already, and counted when it is their turn
    assert max(sizes) <= bound + others * 1000
    thumbnails._write("last.jpg", bytes(1000))
    assert sum(path.stat().st_size for path in folder.rglob("*.jpg")) <= bound


def test_a_search_that_another_request_is_making_is_awaited_until_the_deadline(
    serve, indexed: Path, slow_address: SlowAddress
) -> None:
    """Both are the same; the first waits for a picture that it names by an address."""
    client, (begun, going_on) = serve(indexed, allow_urls=True), slow_address
    body = {"terms": [{"url": "https://slow.example/1.png"}]}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/v1/search", json=body)
        begun.acquire(timeout=WAIT_S)
        try:
            late = client.post("/v1/search", json=body, headers={"Prefer": "wait=0.2"})
        finally:
            going_on.set()
        assert (late.status_code, late.json()["code"]) == (504, "DeadlineError")
        assert first.result(WAIT_S).status_code == 200
    assert client.post("/v1/search", json=body).status_code == 200, "of the list that was made"
    assert not begun.acquire(blocking=False)


def test_who_gives_up_waiting_for_a_list_leaves_it_to_the_others() -> None:
    lists: Lists[list[int]] = Lists()
    begun, going_on = threading.Event(), threading.Event()

    def made() -> list[int]:
        begun.set()
        going_on.wait(WAIT_S)
        return [1]

    with ThreadPoolExecutor(2) as pool:
        makes = pool.submit(lists.get, None, "a", "now", made)
        assert begun.wait(WAIT_S)
        waits = pool.submit(lists.get, None, "a", "now", lambda: pytest.fail("it was made twice"))
        before = DEADLINE.set(time.monotonic() + 0.05)
        try:
            with pytest.raises(RequestProblem, match="deadline"):
                lists.get(None, "a", "now", lambda: pytest.fail("it was made twice"))
        finally:
            DEADLINE.reset(before)
            going_on.set()
        assert makes.result(WAIT_S) == waits.result(WAIT_S)
    assert not lists._making
