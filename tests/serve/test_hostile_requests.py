"""Malformed requests: none is answered with what it should not have, and none takes the service down."""

import base64
import io
import json
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

POSTED = (
    "/v1/search", "/v1/embed", "/v1/embeddings", "/v1/classify", "/v1/locate", "/v1/items/lookup", "/v1/albums",
    "/v1/exports", "/v1/session",
)  # fmt: skip
FIELDS = (
    "terms", "text", "vector", "data", "upload", "item", "url", "weight", "filters", "offset", "limit", "cursor", "ids",
    "texts", "pictures", "labels", "templates", "picture", "phrase", "method", "input", "messages", "modality", "name",
    "search", "items", "format", "token", "box", "near", "path", "since", "threshold", "diverse",
)  # fmt: skip
SECRETS = ("root:", "BEGIN ", "Traceback", 'File "')
words = st.sampled_from(
    ["a house", "../../etc/passwd", "file:///etc/passwd", "data:image/png;base64,AAAA", "\x00", "%n"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | words | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


def check(answer, *, may_be_busy: bool = False) -> None:
    """Whatever was asked, this is an answer that the contract knows."""
    assert answer.status_code < 500 or (answer.status_code in (501, 503, 504) and may_be_busy), answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        assert answer.json()["status"] == answer.status_code
    if "json" in answer.headers.get("content-type", ""):
        assert not any(secret in answer.text for secret in SECRETS)


@settings(max_examples=50)
@given(path=st.sampled_from(POSTED), body=st.dictionaries(st.sampled_from(FIELDS), values, max_size=4))
def test_any_fields_of_any_type(client: TestClient, path: str, body: dict) -> None:
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    check(client.post(path, content=content, headers={"Content-Type": "application/json"}))


@settings(max_examples=20)
@given(path=st.sampled_from(POSTED), content=st.binary(max_size=60))
def test_any_bytes_as_a_body(client: TestClient, path: str, content: bytes) -> None:
    for kind in ("application/json", "multipart/form-data; boundary=x", "multipart/form-data", "image/png"):
        check(client.post(path, content=content, headers={"Content-Type": kind}))


@settings(max_examples=5)
@given(name=st.text(max_size=30), value=st.text(max_size=60))
def test_any_path_and_query(client: TestClient, name: str, value: str) -> None:
    filters = ("since", "box", "near", "path")
    taken = {
        "/v1/items": (*filters, "offset", "cursor"), "/v1/search": ("q", *filters, "offset", "cursor"),
        "/v1/facets": filters, "/v1/similar/1": (*filters, "offset", "cursor"), "/v1/map": ("method",),
        "/v1/thumbnails/1": ("width", "v"),
    }  # fmt: skip
    for path, keys in taken.items():
        needed = {"q": "a house"} if path == "/v1/search" else {}
        for key in keys:
            answer = client.get(path, params=needed | {key: value})
            check(answer)
            assert "there is no parameter" not in answer.text
        check(client.get(path, params=needed | {name: value}))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/items/0", "/v1/items/-1", "/v1/items/99999999999999999999", "/v1/items/1e3", "/v1/items/1%00",
        "/v1/items/..%2f1", "/v1/thumbnails/1/../../x", "/v1/uploads/..%2f..%2fx/thumbnail", "/v1/albums/..%2fx",
        "/v1/uploads/u_" + "0" * 24 + "%2e/thumbnail", "/v1/items/1/original?path=/etc/passwd",
    ],
)  # fmt: skip
def test_names_that_are_none(client: TestClient, path: str) -> None:
    answer = client.get(path)
    check(answer)
    assert answer.status_code in (403, 404, 422)


def test_deep_and_long_bodies(client: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    for content in (
        b"[" * 200_000 + b"]" * 200_000,
        b'{"terms":' * 50_000,
        b'{"texts": [' + b"1," * 1_100_000 + b"1]}",
        b'{"terms": [{"weight": ' + b"9" * 10_000 + b"}]}",
        b'{"terms": [{"weight": 1e999, "text": "a"}]}',
        b'{"terms": [{"weight": NaN, "text": "a"}]}',
    ):
        check(client.post("/v1/search", content=content, headers=headers))


def bomb() -> bytes:
    """A PNG of 40,000 x 40,000 pixels in a few kilobytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(120_001 * 40), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(client: TestClient) -> None:
    answer = client.post("/v1/uploads", content=bomb(), headers={"Content-Type": "image/png"})
    check(answer)
    assert (answer.status_code, answer.json()["reason"]) == (422, "too large")


@settings(max_examples=20)
@given(at=st.integers(0, 400), value=st.integers(0, 255), cut=st.integers(1, 500))
def test_damaged_pictures(client: TestClient, at: int, value: int, cut: int) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "JPEG")
    content = bytearray(file.getvalue())
    content[at % len(content)] = value
    data = base64.b64encode(bytes(content[:cut])).decode()
    check(client.post("/v1/embed", json={"pictures": [{"data": data}]}))


def test_forms_with_too_much(client: TestClient) -> None:
    many = [("picture", (f"{number}.png", b"x")) for number in range(70)]
    answer = client.post("/v1/embed", files=many)
    check(answer)
    assert answer.status_code in (400, 422)
    fields = {f"field-{number}": "x" for number in range(100)}
    check(client.post("/v1/embed", data=fields, files={"picture": b"x"}))


def test_the_name_of_an_uploaded_file_is_not_used(client: TestClient, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "PNG")
    name = f"../../../../../../{tmp_path}/written.png"
    answer = client.post("/v1/uploads", files={"file": (name, file.getvalue())})
    assert answer.status_code == 201
    assert not any(tmp_path.iterdir())
