"""What a search answers."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import diptych
from tests.serve.conftest import Client

SEARCH = {"terms": [{"text": "a red house"}]}


def picture_bytes(path: Path) -> bytes:
    return path.read_bytes()


def test_hits_are_those_of_the_index_with_their_items(
    client: TestClient, indexed: Path, tiny: diptych.Embedder
) -> None:
    answer = client.post("/v1/search", json=SEARCH).json()
    wanted = diptych.open_index(indexed, model=tiny).search("a red house")
    assert [hit["path"] for hit in answer["hits"]] == [hit.path.relative_to(indexed).as_posix() for hit in wanted.hits]
    assert [hit["score"] for hit in answer["hits"]] == pytest.approx([hit.score for hit in wanted.hits], abs=1e-4)
    first = answer["hits"][0]
    assert first["thumbnail"] == f"/v1/thumbnails/{first['id']}?v={first['version']}"
    assert first["original"] is None
    assert answer["total"] == answer["searched"] == 3
    assert answer["next_offset"] is None


def test_a_text_that_is_cut_is_said_to_be(client: TestClient) -> None:
    assert client.post("/v1/search", json=SEARCH).json()["truncated"] == 0
    terms = [{"text": "a red house " * 100}, {"text": "a star"}]
    assert client.post("/v1/search", json={"terms": terms}).json()["truncated"] == 1
    assert client.post("/v1/search", json={"terms": terms, "truncate": False}).json()["code"] == "TokenizerError"


def test_a_text_in_the_url_finds_the_same(client: TestClient) -> None:
    wanted = client.post("/v1/search", json=SEARCH).json()["hits"]
    assert client.get("/v1/search", params={"q": "a red house"}).json()["hits"] == wanted


def test_pages_are_one_list(client: TestClient) -> None:
    whole = client.post("/v1/search", json=SEARCH).json()["hits"]
    pages, offset = [], 0
    while offset is not None:
        page = client.post("/v1/search", json={**SEARCH, "limit": 1, "offset": offset}).json()
        pages += page["hits"]
        offset = page["next_offset"]
    assert pages == whole


def test_the_hits_after_the_first_ones_go_on_to_the_last(
    serve, several: Path, tiny: diptych.Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is the same whether a search finds all of it or the rest follows at once."""
    for number in range(9):
        noise = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(noise).save(several / f"noise-{number}.png")
    (several / "copy.png").write_bytes((several / "noise-3.png").read_bytes())
    diptych.open_index(several, model=tiny).update()
    own = diptych.open_index(several, model=tiny).search(several / "noise-5.png", limit=1).hits[0].id
    body = {"terms": [{"text": "a house"}, {"item": own, "weight": 0.5}], "filters": {"path": "*.png"}}
    whole = serve(several).post("/v1/search", json=body).json()
    assert len(whole["hits"]) == 11
    monkeypatch.setattr("diptych.serve.library.pages.FIRST", 2)
    monkeypatch.setattr("diptych.serve.library.pages.HEAD", 4)
    client, hits, offset = serve(several), [], 0
    while offset is not None:
        page = client.post("/v1/search", json={**body, "limit": 3, "offset": offset}).json()
        hits, offset = hits + page["hits"], page["next_offset"]
    same = {"copy.png": "noise-3.png"}  # which of two equal files stands for both
    names = [[same.get(hit["name"], hit["name"]) for hit in some] for some in (hits, whole["hits"])]
    assert names[0] == names[1]
    assert [hit["z"] for hit in hits] == pytest.approx([hit["z"] for hit in whole["hits"]], abs=2e-3)
    assert page["total"] == 11


def test_a_cursor_holds_a_list_while_the_index_changes(serve, several: Path, tiny: diptych.Embedder) -> None:
    client = serve(several)
    first = client.post("/v1/search", json={**SEARCH, "limit": 1}).json()
    Image.new("RGB", (40, 30), "red").save(several / "new.png")
    diptych.open_index(several, model=tiny).update()
    rest = client.post("/v1/search", json={**SEARCH, "offset": 1, "cursor": first["cursor"]}).json()
    assert rest["cursor"] == first["cursor"]
    assert len(rest["hits"]) == 2
    again = client.post("/v1/search", json=SEARCH).json()
    assert again["cursor"] != first["cursor"]
    assert "new.png" in {hit["path"] for hit in again["hits"]}, "what another process adds is found without a restart"


def test_a_picture_finds_itself_in_every_form(client: TestClient, indexed: Path) -> None:
    content = (indexed / "1.png").read_bytes()
    upload = client.post("/v1/uploads", content=content, headers={"Content-Type": "image/png"})
    assert upload.status_code == 201
    encoded = base64.b64encode(content).decode()
    for term in ({"data": encoded}, {"data": f"data:image/png;base64,{encoded}"}, {"upload": upload.json()["id"]}):
        hits = client.post("/v1/search", json={"terms": [term]}).json()["hits"]
        assert hits[0]["path"] == "1.png"
        assert hits[0]["score"] > 0.999


def test_an_upload_is_kept_small_and_known_by_its_bytes(client: TestClient) -> None:
    file = io.BytesIO()
    Image.new("RGB", (3000, 1500), "blue").save(file, "PNG")
    sent = [client.post("/v1/uploads", files={"file": file.getvalue()}).json() for _ in range(2)]
    assert sent[0] == sent[1]
    assert (sent[0]["width"], sent[0]["height"]) == (3000, 1500)
    answer = client.get(sent[0]["thumbnail"], params={"width": 100})
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (160, 80)
    assert client.get("/v1/uploads/u_000000000000000000000000/thumbnail").status_code == 404


def test_an_upload_has_the_vector_of_the_whole_picture(client: TestClient, tiny: diptych.Embedder) -> None:
    """Also of a panorama, which is kept with fewer rows than the model looks at."""
    wide = np.random.default_rng(0).integers(0, 256, (4, 512, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(wide).resize((4096, 40), Image.Resampling.BICUBIC).save(file, "PNG")
    upload = client.post("/v1/uploads", files={"file": file.getvalue()}).json()["id"]
    vector = client.post("/v1/embed", json={"pictures": [{"upload": upload}]}).json()["vectors"][0]
    wanted = tiny.embed_images([file.getvalue()], decode="fast")[0]
    assert np.array_equal(np.array(vector, np.float32), wanted)


def test_weights_add_and_subtract(client: TestClient, indexed: Path, tiny: diptych.Embedder) -> None:
    terms = [{"text": "a house", "weight": 1}, {"text": "snow", "weight": -0.5}]
    answer = client.post("/v1/search", json={"terms": terms}).json()
    wanted = diptych.open_index(indexed, model=tiny).search(diptych.Query("a house") - 0.5 * diptych.Query("snow"))
    assert [hit["score"] for hit in answer["hits"]] == pytest.approx([hit.score for hit in wanted.hits], abs=1e-4)


def test_what_is_like_an_item_is_not_the_item(client: TestClient) -> None:
    first = client.post("/v1/search", json=SEARCH).json()["hits"][0]
    found = client.get(f"/v1/similar/{first['id']}").json()
    assert first["id"] not in {hit["id"] for hit in found["hits"]}
    assert len(found["hits"]) == 2
    more = client.post("/v1/search", json={"terms": [{"item": first["id"]}]}).json()
    assert [hit["id"] for hit in more["hits"]] == [hit["id"] for hit in found["hits"]]


def test_filters_limit_what_is_found(client: TestClient) -> None:
    wide = client.post("/v1/search", json={**SEARCH, "filters": {"orientation": "landscape"}}).json()
    assert [hit["path"] for hit in wide["hits"]] == ["0.png"]
    below = client.get("/v1/search", params={"q": "a house", "path": "below/**"}).json()
    assert [hit["path"] for hit in below["hits"]] == ["below/2.png"]


def test_texts_are_found_as_well(client: TestClient) -> None:
    found = client.post("/v1/search", json={**SEARCH, "modality": "text"}).json()
    assert {hit["kind"] for hit in found["hits"]} == {"text"}
    assert found["hits"][0]["thumbnail"] is None
    assert {hit["line"] for hit in found["hits"]} == {1, 3}


def test_a_vector_searches(client: TestClient, tiny: diptych.Embedder) -> None:
    vector = tiny.embed_texts("a red house")[0]
    by_vector = client.post("/v1/search", json={"terms": [{"vector": vector.tolist()}]}).json()["hits"]
    by_text = client.post("/v1/search", json=SEARCH).json()["hits"]
    assert [hit["id"] for hit in by_vector] == [hit["id"] for hit in by_text]
    assert np.isclose(by_vector[0]["score"], by_text[0]["score"], atol=1e-3)
    huge = [{"vector": (vector.astype(np.float64) * 1e300).tolist()}]
    assert client.post("/v1/search", json={"terms": huge}).json()["hits"] == by_vector


@pytest.mark.parametrize(
    ("body", "error", "argument"),
    [
        ({"terms": []}, "RequestError", "terms"),
        ({"terms": [{"text": "a", "item": 1}]}, "RequestError", "terms.0"),
        ({"terms": [{"text": "a"}], "filters": {"since": "2024-13"}}, "FilterError", "since"),
        ({"terms": [{"text": "a", "weight": 0}]}, "QueryError", None),
        ({"terms": [{"vector": [1.0, 2.0]}]}, "QueryError", None),
        ({"terms": [{"text": "  "}]}, "TextError", None),
        ({"terms": [{"data": "no base64!"}]}, "RequestError", "terms.0.data"),
        ({"terms": [{"data": base64.b64encode(b"no picture").decode()}]}, "ImageError", None),
        ({"terms": [{"text": "a"}], "colour": "red"}, "RequestError", "colour"),
    ],
)
def test_a_wrong_search_says_what_is_wrong(client: TestClient, body: dict, error: str, argument: str | None) -> None:
    answer = client.post("/v1/search", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["code"], problem["argument"]) == (error, argument)
    assert problem["type"] == f"/v1/errors#{error}"
    assert problem["detail"].startswith(problem["problem"])


def test_an_address_is_not_fetched(client: TestClient) -> None:
    answer = client.post("/v1/search", json={"terms": [{"url": "http://127.0.0.1/a.jpg"}]})
    assert (answer.status_code, answer.json()["code"]) == (403, "NotOfferedError")


def test_no_address_of_this_machine_or_network_is_fetched_where_addresses_are_allowed(serve, indexed: Path) -> None:
    client = serve(indexed, allow_urls=True)
    for host in ("127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "[fd00:ec2::254]", "0.0.0.0"):
        answer = client.post("/v1/search", json={"terms": [{"url": f"http://{host}:9/a.jpg"}]})
        assert answer.status_code == 422
        assert answer.json()["reason"] == "download failed"
        assert "address" in answer.json()["detail"]


def test_a_folder_without_an_index_has_no_hits(serve, tmp_path: Path) -> None:
    answer = serve(tmp_path).post("/v1/search", json=SEARCH).json()
    assert (answer["hits"], answer["total"], answer["next_offset"]) == ([], 0, None)


@pytest.mark.parametrize("params", [{"box": "1,2,3"}, {"box": "1,2,3,x"}, {"near": "1,2,nan"}, {"near": ""}])
def test_areas_in_a_url_are_numbers(client: TestClient, params: dict) -> None:
    assert client.get("/v1/search", params={"q": "a", **params}).status_code == 422
    assert client.get("/v1/search", params={"q": "a", "box": "46,7.5,-47.25,9"}).json()["code"] == "FilterError"
    assert client.get("/v1/search", params={"q": "a", "box": "46,7.5,47.25,9"}).json()["hits"] == []


def test_numbers_are_not_taken_for_yes_and_no(client: TestClient) -> None:
    assert client.post("/v1/search", json={**SEARCH, "copies": 1}).json()["argument"] == "copies"
    assert client.post("/v1/search", json={**SEARCH, "limit": "5"}).json()["argument"] == "limit"


def test_an_address_asks_as_a_body_does(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    searching = client.service.library.searching
    asked, real = [], searching.page
    monkeypatch.setattr(searching, "page", lambda wanted, view: asked.append(wanted) or real(wanted, view))
    fields = {"relevant": True, "threshold": -0.25, "diverse": 0.5, "limit": 2}
    client.post("/v1/search", json={"terms": [{"text": "a red star"}], **fields})
    client.get("/v1/search", params={"q": "a red star", **fields})
    assert asked[0] == asked[1]
    assert asked[1]["threshold"] == -0.25
    assert client.get("/v1/search", params={"q": "a", "threshold": "nan"}).status_code == 422
