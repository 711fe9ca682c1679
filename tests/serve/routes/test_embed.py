"""Vectors for programs."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import diptych
from diptych.serve.routes.asking import decimal

TEXTS = ["a red house", "a blue star above a green square"]


def data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def test_texts_have_the_vectors_of_the_model(alone: TestClient, tiny: diptych.Embedder) -> None:
    answer = alone.post("/v1/embed", json={"texts": TEXTS}).json()
    assert answer["dim"] == tiny.dim
    assert answer["failures"] == []
    np.testing.assert_allclose(answer["vectors"], tiny.embed_texts(TEXTS), atol=1e-5)


def test_pictures_come_as_json_or_as_a_form(alone: TestClient, pictures: Path, tiny: diptych.Embedder) -> None:
    paths = sorted(pictures.glob("*.png"))[:3]
    wanted = tiny.embed_images(paths, decode="fast")
    body = {"pictures": [{"data": data_uri(path)} for path in paths]}
    np.testing.assert_allclose(alone.post("/v1/embed", json=body).json()["vectors"], wanted, atol=1e-4)
    form = [("picture", (path.name, path.read_bytes(), "image/png")) for path in paths]
    np.testing.assert_allclose(alone.post("/v1/embed", files=form).json()["vectors"], wanted, atol=1e-4)


def test_numbers_in_json_are_the_same_float32_when_they_are_read(alone: TestClient, tiny: diptych.Embedder) -> None:
    wanted = tiny.embed_texts(TEXTS[0])
    for read in (
        alone.post("/v1/embed", json={"texts": TEXTS[:1]}).json()["vectors"],
        [alone.post("/v1/embeddings", json={"input": TEXTS[0]}).json()["data"][0]["embedding"]],
    ):
        assert np.array_equal(np.array(read, np.float32), wanted)
    some = np.array([0.0, -0.0, 1.0, -1e-9, 3.1415927e-5, 0.099999994, 1e-20, 0.33333334], np.float32)
    assert np.array_equal(np.array(decimal(some), np.float32)[[0, 1, 2, 3, 4, 5, 7]], some[[0, 1, 2, 3, 4, 5, 7]])
    assert max(len(str(number)) for number in decimal(some)) <= 16


@pytest.mark.parametrize("accept", ["application/octet-stream, */*;q=0.5", "Application/Octet-Stream;q=1"])
def test_packed_vectors_come_where_they_are_the_first_choice(alone: TestClient, accept: str) -> None:
    answer = alone.post("/v1/embed", json={"texts": TEXTS}, headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/octet-stream"
    other = alone.post("/v1/embed", json={"texts": TEXTS}, headers={"Accept": "*/*, application/octet-stream"})
    assert other.headers["content-type"] == "application/json"


def test_packed_vectors_are_rows_of_float32(alone: TestClient, tiny: diptych.Embedder) -> None:
    answer = alone.post("/v1/embed", json={"texts": TEXTS}, headers={"Accept": "application/octet-stream"})
    shape = int(answer.headers["diptych-rows"]), int(answer.headers["diptych-dim"])
    np.testing.assert_allclose(np.frombuffer(answer.content, "<f4").reshape(shape), tiny.embed_texts(TEXTS), atol=1e-6)


def test_what_cannot_be_embedded_costs_itself_alone(alone: TestClient, pictures: Path) -> None:
    answer = alone.post("/v1/embed", json={"texts": ["a house", " ", "a " * 500]}).json()
    assert [vector is None for vector in answer["vectors"]] == [False, True, True]
    assert [failure["reason"] for failure in answer["failures"]] == ["empty", "too long"]
    assert answer["truncated"] == 0
    cut = alone.post("/v1/embed", json={"texts": ["a house", "a " * 500], "truncate": True}).json()
    assert (cut["failures"], cut["truncated"]) == ([], 1)
    path = pictures / "scene-0.png"
    some = {"pictures": [{"data": data_uri(path)}, {"data": base64.b64encode(b"none").decode()}]}
    answer = alone.post("/v1/embed", json=some).json()
    assert answer["vectors"][1] is None
    assert answer["failures"][0] == {"index": 1, "reason": "not an image", "detail": answer["failures"][0]["detail"]}
    assert alone.post("/v1/embed", json={"texts": [" "]}).status_code == 422
    packed = alone.post("/v1/embed", json=some, headers={"Accept": "application/octet-stream"})
    assert packed.status_code == 422


def test_pictures_of_the_index_have_their_stored_vectors(client: TestClient) -> None:
    item = client.get("/v1/items").json()["items"][0]
    vector = client.post("/v1/embed", json={"pictures": [{"item": item["id"]}]}).json()["vectors"][0]
    (hit,) = client.post("/v1/search", json={"terms": [{"vector": vector}], "limit": 1}).json()["hits"]
    assert (hit["id"], round(hit["score"], 3)) == (item["id"], 1.0)


def test_what_is_gone_costs_itself_alone(client: TestClient) -> None:
    item = client.get("/v1/items").json()["items"][0]["id"]
    pictures = [{"item": 10**6}, {"item": item}, {"upload": f"u_{'0' * 24}"}]
    answer = client.post("/v1/embed", json={"pictures": pictures}).json()
    assert [vector is None for vector in answer["vectors"]] == [True, False, True]
    assert [(one["index"], one["reason"]) for one in answer["failures"]] == [(0, "missing"), (2, "missing")]
    labelled = client.post("/v1/classify", json={"pictures": pictures, "labels": ["a", "b"]}).json()
    assert [result["index"] for result in labelled["results"]] == [1]
    assert sorted((one["index"], one["reason"]) for one in labelled["failures"]) == [(0, "missing"), (2, "missing")]
    assert client.post("/v1/embed", json={"pictures": pictures[:1]}).status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"texts": []},
        {"texts": ["a"], "pictures": [{"item": 1}]},
        {"texts": ["a"] * 1025},
        {"texts": "a"},
        {"texts": [1]},
        {"texts": ["\ud800"]},
    ],
)
def test_a_wrong_body_is_refused(alone: TestClient, body: dict) -> None:
    answer = alone.post("/v1/embed", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "RequestError"


@pytest.mark.parametrize("content", [b"", b"[", b"\xff\xfe", b"nothing", b"[" * 100_000, b"1" * 5000])
def test_a_body_that_is_not_json_is_refused(alone: TestClient, content: bytes) -> None:
    answer = alone.post("/v1/embed", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


def test_another_kind_of_body_is_refused(alone: TestClient) -> None:
    assert alone.post("/v1/embed", content="texts=a", headers={"Content-Type": "text/plain"}).status_code == 415


# --- OpenAI's clients


def test_openai_s_form(alone: TestClient, tiny: diptych.Embedder) -> None:
    answer = alone.post("/v1/embeddings", json={"model": "any", "input": TEXTS, "encoding_format": "base64"}).json()
    rows = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in answer["data"]]
    np.testing.assert_allclose(rows, tiny.embed_texts(TEXTS), atol=1e-6)
    assert answer["usage"]["prompt_tokens"] == tiny.tokenize(TEXTS).mask.sum()
    one = alone.post("/v1/embeddings", json={"input": TEXTS[0], "encoding_format": None}).json()  # as some clients do
    np.testing.assert_allclose(one["data"][0]["embedding"], rows[0], atol=1e-6)
    assert alone.get("/v1/models").json()["data"][0]["object"] == "model"


def test_pictures_as_infinity_and_vllm_take_them(alone: TestClient, pictures: Path, tiny: diptych.Embedder) -> None:
    path = pictures / "scene-1.png"
    wanted = tiny.embed_images([path], decode="fast")[0]
    content = [{"type": "image_url", "image_url": {"url": data_uri(path)}}]
    for body in (
        {"model": "m", "modality": "image", "input": [data_uri(path)]},
        {"model": "m", "messages": [{"role": "user", "content": content}]},
    ):
        answer = alone.post("/v1/embeddings", json=body)
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(answer.json()["data"][0]["embedding"], wanted, atol=1e-4)


def test_a_large_picture_is_taken_where_a_text_of_its_length_is_not(alone: TestClient, tiny: diptych.Embedder) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(200, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")  # noise, of which PNG saves nothing
    address = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    assert len(address) > 100_000
    answer = alone.post("/v1/embeddings", json={"model": "m", "modality": "image", "input": address}).json()
    wanted = tiny.embed_images([file.getvalue()], decode="fast")[0]
    np.testing.assert_allclose(answer["data"][0]["embedding"], wanted, atol=1e-4)
    assert alone.post("/v1/embeddings", json={"model": "m", "input": "a" * 100_001}).status_code == 422


def test_many_long_texts_have_the_vectors_of_the_model(alone: TestClient, tiny: diptych.Embedder) -> None:
    """They are read beside the thread that answers."""
    texts = [f"{number} red houses beside a blue star" for number in range(100)]
    answer = alone.post("/v1/embeddings", json={"model": "m", "input": texts}).json()
    wanted = tiny.embed_texts(texts, truncate=True)
    np.testing.assert_allclose([each["embedding"] for each in answer["data"]], wanted, atol=1e-5)
    assert answer["usage"]["total_tokens"] == tiny.tokenize(texts, truncate=True).mask.sum()


@pytest.mark.parametrize("text", ["data:image/png;base64,AAAA", "http://a.example/b.jpg", "https://a.example"])
def test_an_address_is_never_embedded_as_a_sentence(alone: TestClient, text: str) -> None:
    answer = alone.post("/v1/embeddings", json={"input": ["a house", text]})
    assert answer.status_code == 422
    assert "input 1 is an address" in answer.json()["detail"]
    assert alone.post("/v1/embeddings", json={"input": f"see {text} for it"}).status_code == 200


def test_a_text_is_never_taken_for_the_name_of_a_file(alone: TestClient, pictures: Path, tiny) -> None:
    name = str(pictures / "scene-1.png")
    answer = alone.post("/v1/embed", json={"texts": [name], "truncate": True}).json()
    np.testing.assert_allclose(answer["vectors"], tiny.embed_texts([name], truncate=True), atol=1e-5)


def test_a_vector_is_not_cut(alone: TestClient, tiny: diptych.Embedder) -> None:
    assert alone.post("/v1/embeddings", json={"input": "a", "dimensions": tiny.dim}).status_code == 200
    assert alone.post("/v1/embeddings", json={"input": "a", "dimensions": 2}).json()["argument"] == "dimensions"


def test_openai_s_own_client_works_unchanged(alone: TestClient, tiny: diptych.Embedder) -> None:
    openai = pytest.importorskip("openai")
    httpx = pytest.importorskip("httpx2")

    def answer(request):
        sent = alone.request(
            request.method, request.url.path, content=request.read(), headers={**request.headers, "host": "localhost"}
        )
        return httpx.Response(sent.status_code, headers={"content-type": "application/json"}, content=sent.content)

    http = httpx.Client(transport=httpx.MockTransport(answer))
    asking = openai.OpenAI(api_key="none", base_url="http://localhost:8000/v1", http_client=http, max_retries=0)
    made = asking.embeddings.create(model="bundled", input=TEXTS)
    np.testing.assert_allclose([one.embedding for one in made.data], tiny.embed_texts(TEXTS), atol=1e-6)
    with pytest.raises(openai.UnprocessableEntityError, match="is empty"):
        asking.embeddings.create(model="bundled", input=[" "])


@pytest.mark.parametrize("path", ["/v1/embed", "/v1/embeddings"])
def test_programs_are_answered_as_all_who_ask(client: TestClient, path: str) -> None:
    assert client.post(f"{path}?texts=a", json={}).json()["problem"] == "there is no parameter 'texts'."
    assert client.post(path, content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    refused = client.get(path)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    for status in (400, 422):
        assert f'route="{path}",method="POST",status="{status}"' in client.get("/v1/metrics").text
    described = client.get("/v1/openapi.json").json()["paths"][path]["post"]
    assert "application/json" in described["requestBody"]["content"]


def test_what_is_wrong_with_json_is_said_by_every_route(client: TestClient) -> None:
    for path in ("embed", "embeddings", "search"):
        answer = client.post(f"/v1/{path}", content=b"{", headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["problem"].startswith("the body is not JSON: Expecting property name")
