"""Operation: readiness, metrics, the state of the index, events."""

import json
import re
import threading
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

import diptych
from diptych.errors import IndexBusyError
from diptych.index.local import LocalIndex
from diptych.serve.app import create_app


def test_it_is_ready_once_the_model_answers(serve, indexed: Path) -> None:
    client = serve(indexed)
    assert client.get("/v1/ready").status_code == 503, "not before it is started"
    with client:  # starts and ends it
        while client.get("/v1/ready").status_code != 200:
            pass
    assert client.get("/v1/ready").status_code == 503


def test_it_is_warming_up_until_the_index_has_been_searched_once(
    serve, several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, going_on, search = serve(several), threading.Event(), LocalIndex.search
    asked: list[str] = []

    def held(index: LocalIndex, query: str, **options: object) -> object:
        going_on.wait()
        asked.append(query)
        return search(index, query, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalIndex, "search", held)
    warming = threading.Thread(target=client.service.warm_up)
    warming.start()
    while (state := client.get("/v1/index").json()["state"]) != "warming":
        assert state == "idle"
    assert client.get("/v1/ready").status_code == 503
    going_on.set()
    warming.join()
    assert len(asked) == 1
    assert client.get("/v1/ready").status_code == 200
    assert client.get("/v1/index").json()["state"] == "idle"


def test_an_index_that_cannot_be_searched_does_not_keep_the_model_from_being_ready(
    serve, several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(several)

    def fail(*_: object, **__: object) -> None:
        raise IndexBusyError("another process writes.")

    monkeypatch.setattr(LocalIndex, "search", fail)
    client.service.warm_up()
    assert client.get("/v1/ready").status_code == 200


def test_the_state_of_the_index(client: TestClient, serve, tmp_path: Path) -> None:
    state = client.get("/v1/index").json()
    assert (state["name"], state["files"], state["pictures"], state["texts"]) == ("photos", 4, 3, 2)
    assert (state["state"], state["error"]) == ("idle", None)
    assert serve(tmp_path).get("/v1/index").json()["state"] == "absent"


def test_an_update_that_is_asked_for_finds_new_files_and_says_so(serve, several: Path) -> None:
    client = serve(several)
    Image.new("RGB", (30, 20), "blue").save(several / "new.png")
    (several / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    before = client.get("/v1/index").json()["version"]
    assert client.post("/v1/index/update").status_code == 202
    while (state := client.get("/v1/index").json())["state"] != "idle" or state["version"] == before:
        assert state["state"] != "failed", state["error"]
    assert (state["files"], state["failed"]) == (6, 1)
    (failure,) = client.get("/v1/index/failures").json()["failures"]
    assert failure["path"] == "broken.jpg"
    assert failure["reason"] in ("damaged", "truncated", "not an image")
    assert "new.png" in {item["path"] for item in client.get("/v1/items").json()["items"]}


def test_an_update_that_fails_is_said_and_what_is_there_goes_on(
    serve, several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(several)

    def fail(**_: object) -> None:
        raise RuntimeError("/home/secret")

    monkeypatch.setattr(client.service.library.updating._index, "update", fail)
    client.post("/v1/index/update")
    while (state := client.get("/v1/index").json())["state"] != "failed":
        pass
    assert "secret" not in state["error"]
    assert len(client.get("/v1/items").json()["items"]) == 3


def test_an_address_of_nothing_names_what_there_is(serve) -> None:
    answer = serve(root_path="/photos").get("/v2/search")
    assert (answer.status_code, answer.json()["code"]) == (404, "NotFoundError")
    assert "/photos/v1/openapi.json" in answer.json()["detail"]


def test_events_say_the_state_first(serve, indexed: Path) -> None:
    client = serve(indexed)
    client.service.stopping.set()  # so that the stream ends
    assert client.get("/v1/events").text == ""
    client.service.stopping.clear()


def test_a_server_that_stops_closes_its_connections(serve) -> None:
    client = serve()
    assert "connection" not in client.get("/v1/health").headers
    client.service.stopping.set()
    assert client.get("/v1/health").headers["connection"] == "close"


def test_events_go_on_after_the_time_that_a_request_has(
    serve, indexed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("diptych.serve.routes.state._REFRESH_S", 0)
    client = serve(indexed, deadline_s=0.3)
    ending = threading.Timer(1, client.service.stopping.set)
    ending.start()
    said = client.get("/v1/events").text
    ending.join()
    client.service.stopping.clear()
    assert said.startswith("event: index")
    assert caplog.records == []


def test_metrics_are_in_prometheus_s_format(serve) -> None:
    client = serve()
    client.post("/v1/embed", json={"texts": ["a", "b"]})
    client.get("/v1/none")
    text = client.get("/v1/metrics").text
    for line in text.splitlines():
        assert re.fullmatch(r'# TYPE [a-z_]+ \w+|[a-z_]+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [\d.e+-]+', line), line
    assert 'diptych_requests_total{route="/v1/embed",method="POST",status="200"} 1' in text
    assert 'diptych_requests_total{route="other",method="GET",status="404"} 1' in text
    assert 'diptych_embedded_total{kind="text"} 2' in text


def test_what_the_server_offers(client: TestClient, alone: TestClient) -> None:
    offered = client.get("/v1/server").json()
    assert (offered["folder"], offered["originals"], offered["urls"]) == (True, False, False)
    assert alone.get("/v1/server").json()["folder"] is False
    assert offered["version"] == diptych.__version__


def test_the_document_says_what_a_body_may_be(client: TestClient) -> None:
    """One of several fields, the others null, and whole numbers within their bounds, as JSON writes them."""
    schemas = client.get("/v1/openapi.json").json()["components"]["schemas"]
    assert schemas["LookupBody"]["properties"]["ids"]["items"] == {"type": "integer", "minimum": 1, "maximum": 2**53}
    names = [one["required"] for one in schemas["Picture"]["oneOf"]]
    assert names == [["data"], ["upload"], ["item"], ["url"]]
    assert {"type": "null"} in schemas["Picture"]["properties"]["url"]["anyOf"]
    body = {"terms": [{"item": 1.0, "url": None}], "limit": 2.0}
    assert len(client.post("/v1/search", json=body).json()["hits"]) == 2
    for wrong in (1.5, "1", True, 2**54, 0):
        assert client.post("/v1/search", json={"terms": [{"item": wrong}]}).status_code == 422, wrong


def test_the_openapi_document_has_every_route_and_one_form_of_errors(client: TestClient) -> None:
    document = client.get("/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        assert path.startswith("/v1/")
        for method, operation in methods.items():
            problem = operation["responses"]["422"]["content"]
            assert [*problem] == ["application/problem+json"], (method, path)
    assert "HTTPValidationError" not in json.dumps(document)


def test_the_document_says_where_a_token_is_needed(serve, client: TestClient) -> None:
    """For programs that are made from it."""
    assert "security" not in client.get("/v1/openapi.json").json()
    headers = {"Authorization": "Bearer open sesame"}
    document = serve(token="open sesame").get("/v1/openapi.json", headers=headers).json()
    (name,) = document["security"][0]
    assert document["components"]["securitySchemes"][name] == {"type": "http", "scheme": "bearer"}
    open_to_all = {path for path, methods in document["paths"].items() for one in methods.values() if "security" in one}
    assert open_to_all == {"/v1/health", "/v1/ready", "/v1/session"}


def test_a_path_below_which_a_proxy_shows_it(serve, indexed: Path) -> None:
    client = serve(indexed, root_path="/photos")
    item = client.get("/v1/items").json()["items"][0]
    assert item["thumbnail"].startswith("/photos/v1/thumbnails/")
    below = TestClient(create_app(client.service), base_url="http://localhost:8000", root_path="/photos")
    assert below.get(item["thumbnail"]).status_code == 200
