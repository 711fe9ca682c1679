"""What a server holds and begins is bounded, whatever it is asked; and what vanishes meanwhile is no fault of it."""

import base64
import gc
import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.serve.library import albums, jobs
from diptych.serve.library.pages import IdList, Lists
from diptych.serve.model import pictures
from diptych.serve.routes import looking, state
from diptych.serve.web.problems import RequestProblem
from tests.serve.conftest import SlowAddress


def picture(colour: str = "red") -> str:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_a_search_by_a_picture_does_not_keep_its_bytes(serve, indexed: Path) -> None:
    """The ranking stays for those who scroll on; the picture may have been of 60 megabytes."""
    client, data = serve(indexed), picture()
    found = client.post("/v1/search", json={"terms": [{"data": data}], "limit": 1})
    assert found.status_code == 200
    assert len(client.service.library.searching._rankings._lists) == 1
    del found
    gc.collect()
    terms = [each for each in gc.get_objects() if type(each) is dict and isinstance(each.get("data"), str)]
    assert not [term for term in terms if term["data"] == data]


def test_readers_of_the_index_do_not_wait_for_a_picture_of_a_query(
    serve, indexed: Path, slow_address: SlowAddress
) -> None:
    client = serve(indexed, allow_urls=True)
    bodies = [{"terms": [{"url": f"https://slow.example/{number}.png"}]} for number in range(4)]
    slow = [threading.Thread(target=client.post, args=("/v1/search",), kwargs={"json": body}) for body in bodies]
    for each in slow:
        each.start()
        slow_address.begun.acquire()
    try:
        assert client.get("/v1/search", params={"q": "a house"}).status_code == 200
    finally:
        slow_address.going_on.set()
        for each in slow:
            each.join()


def test_addresses_that_are_fetched_at_a_time_are_few(alone, monkeypatch: pytest.MonkeyPatch) -> None:
    served = pictures.Pictures(alone.service.model, alone.service.decoders, allow_urls=True)
    begun, going_on = threading.Semaphore(0), threading.Event()

    def fetch(url: str, *, public_only: bool) -> bytes:
        begun.release()
        going_on.wait()
        return b""

    monkeypatch.setattr("diptych.media.download.fetch", fetch)
    slow = [
        threading.Thread(target=served.fetched, args=("https://slow.example/", "url"))
        for _ in range(pictures.MOST_FETCHES)
    ]
    for each in slow:
        each.start()
        begun.acquire()
    with pytest.raises(RequestProblem, match="being fetched"):
        served.fetched("https://slow.example/", "url")
    going_on.set()
    for each in slow:
        each.join()
    assert served.fetched("https://slow.example/", "url") == b""


def test_a_list_that_grew_is_counted_when_it_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.serve.library.pages.MOST_ENTRIES", 10)
    lists: Lists[list[int]] = Lists()
    first, one = lists.get(None, "a", "now", lambda: [1])
    lists.get(None, "b", "now", lambda: [2])
    one += range(10)
    lists.get(first, "a", "now", lambda: [])
    assert [*lists._lists] == [first]
    assert len(IdList(np.arange(3))) == 3


def test_work_in_the_background_is_begun_for_a_few_only(serve, indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each threshold of duplicates is work of its own."""
    client, going_on = serve(indexed), threading.Event()
    monkeypatch.setattr("diptych.serve.routes.overview.duplicate_groups", lambda *_: going_on.wait())
    statuses = [client.get("/v1/duplicates", params={"threshold": 0.5 + n / 100}).status_code for n in range(10)]
    assert statuses == [202] * (jobs.MOST_WAITING + 1) + [429] * (9 - jobs.MOST_WAITING)
    going_on.set()


def test_a_server_that_stops_begins_no_work(serve, indexed: Path) -> None:
    client = serve(indexed)
    client.service.library.jobs.close()
    assert client.get("/v1/map").status_code == 429


def test_albums_that_could_not_be_read_again_are_refused(serve, several: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(albums, "_MOST_BYTES", 7000)
    client = serve(several)
    body = {"name": "large", "search": {"terms": [{"text": "a" * 2000}]}}
    statuses = [client.post("/v1/albums", json=body).status_code for _ in range(3)]
    assert statuses == [201, 201, 422]
    assert len(client.get("/v1/albums").json()["albums"]) == 2
    one = client.post("/v1/albums", json={"name": "same", "items": [1] * 100}).json()
    assert one["count"] == 1


@pytest.mark.parametrize(
    ("labels", "templates"),
    [
        ([f"label {number}" for number in range(2000)], ["a {}"] * 60),
        (["a" * 200] * 1, ["{}" * 200] * 100),
        ({"one": [f"{number}" + "a" * 190 for number in range(1000)]}, ["{}" * 100] * 5),
    ],
)
def test_prompts_are_counted_before_they_are_made(
    alone, monkeypatch: pytest.MonkeyPatch, labels: object, templates: list[str]
) -> None:
    monkeypatch.setattr(looking, "MOST_CHARACTERS", 1_000_000)
    monkeypatch.setattr(looking, "label_vectors", lambda *_, **__: pytest.fail("they were made"))
    body = {"pictures": [{"data": picture()}], "labels": labels, "templates": templates}
    answer = alone.post("/v1/classify", json=body)
    assert answer.status_code == 422
    assert "prompts" in answer.json()["detail"]


def test_many_labels_are_embedded_by_turns(alone) -> None:
    """Others need not wait for all of them."""
    queue = alone.service.model.queue
    before = queue.batches["text"]
    body = {"pictures": [{"data": picture()}], "labels": [f"label {number}" for number in range(300)]}
    assert alone.post("/v1/classify", json=body).status_code == 200
    assert queue.batches["text"] - before == 2


def test_streams_of_events_are_few(serve, indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MOST_STREAMS", 0)
    answer = serve(indexed).get("/v1/events")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")


def test_an_upload_that_goes_while_it_is_shown(serve, several: Path) -> None:
    client = serve(several)
    kept = client.post("/v1/uploads", content=base64.b64decode(picture("blue")), headers={"Content-Type": "image/png"})
    uploads = client.service.library.uploads
    (uploads._folder / f"{kept.json()['id']}.jpg").unlink()
    answer = client.get(kept.json()["thumbnail"])
    assert (answer.status_code, answer.json()["code"]) == (404, "NotFoundError")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/search", "GET, HEAD, POST"),
        ("POST", "/v1/albums/a_0000000000000000", "GET, HEAD, PATCH, DELETE"),
        ("PATCH", "/v1/session", "POST, DELETE"),
        ("POST", "/", "GET, HEAD"),
        ("NONSENSE", "/v1/items/3", "GET, HEAD"),
    ],
)
def test_another_method_is_told_all_that_are(client, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_a_long_text_does_not_hold_up_the_others(alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken apart in another thread than that which answers."""
    threads: list[str] = []
    model = alone.service.model
    failures = model.text_failures

    def noted(texts: list[str], *, truncate: bool) -> list:
        threads.append(threading.current_thread().name)
        return failures(texts, truncate=truncate)

    monkeypatch.setattr(type(model), "text_failures", lambda self, texts, *, truncate: noted(texts, truncate=truncate))
    for text in ("short", "long " * 19_000):
        body = json.dumps({"texts": [text] * 2, "truncate": True})
        assert alone.post("/v1/embed", content=body, headers={"Content-Type": "application/json"}).status_code == 200
    assert len(set(threads)) == 2
