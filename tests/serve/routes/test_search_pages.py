"""The hits of a search as one list, however it is read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import diptych

SEARCH = {"terms": [{"text": "a red house"}]}
OPTIONS = [{}, {"relevant": True}, {"diverse": 0.6}, {"copies": True}, {"modality": "both"}, {"modality": "text"}]


def noise(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def many(several: Path, tiny: diptych.Embedder, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixteen pictures, one of them a copy, and notes, searched in small steps."""
    for seed in range(12):
        noise(several / f"{seed:02}-noise.png", seed)
    (several / "copy.png").write_bytes((several / "03-noise.png").read_bytes())
    (several / "more.txt").write_text("\n\n".join(f"A star and {count} houses." for count in range(2, 12)))
    (several / "03-noise.txt").write_text("A caption of noise.\n")
    diptych.open_index(several, model=tiny).update()
    monkeypatch.setattr("diptych.serve.library.pages.FIRST", 4)
    monkeypatch.setattr("diptych.serve.library.pages.HEAD", 64)
    return several


def rest_of(client: TestClient, body: dict, page: dict) -> list[dict]:
    """The hits after a page, by its cursor."""
    hits, cursor = [], page["cursor"]
    while page["next_offset"] is not None:
        page = client.post("/v1/search", json={**body, "offset": page["next_offset"], "cursor": cursor}).json()
        assert page["cursor"] == cursor
        hits += page["hits"]
    return hits


@pytest.mark.parametrize("options", OPTIONS)
def test_pages_hold_every_hit_once(serve, many: Path, tiny: diptych.Embedder, options: dict) -> None:
    client, body = serve(many), {**SEARCH, **options, "limit": 3}
    first = client.post("/v1/search", json=body).json()
    assert first["total"] <= first["searched"]
    ids = [hit["id"] for hit in first["hits"] + rest_of(client, body, first)]
    assert len(ids) == len(set(ids))
    whole = diptych.open_index(many, model=tiny).search("a red house", limit=64, **options)
    wanted = [hit.id for hit in whole.hits]
    assert set(ids) == set(wanted)
    if "diverse" not in options:  # whose order depends on how many are compared
        assert ids == wanted


def test_words_and_a_vector_count_alike_on_every_page(
    serve, many: Path, tiny: diptych.Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first hits and those that follow them, here after four, are ranked by one vector."""
    monkeypatch.setattr("diptych.serve.library.pages.HEAD", 4)
    vector = np.random.default_rng(0).normal(size=tiny.dim)
    with diptych.open_index(many, model=tiny) as index:
        query = diptych.Query("a red house") + 0.5 * diptych.Query.vector(vector)
        whole = index.search(query, limit=64)
        plain = query.combined(query.term_vectors(tiny))
        assert whole.hits[0].score != pytest.approx(plain @ index.catalog.vectors_of([whole.hits[0].id])[0], abs=1e-3)
    client = serve(many)
    body = {"terms": [{"text": "a red house"}, {"vector": vector.tolist(), "weight": 0.5}], "limit": 3}
    page = client.post("/v1/search", json=body).json()
    found = {hit["id"]: hit["score"] for hit in page["hits"] + rest_of(client, body, page)}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found == {hit.id: pytest.approx(hit.score, abs=2e-5) for hit in whole.hits}


@pytest.mark.parametrize(
    ("options", "head"), [({}, 4), ({"modality": "text"}, 4), *((options, 64) for options in OPTIONS)]
)
def test_a_list_that_is_read_while_files_come_and_go_has_no_row_twice_and_none_missing(
    serve, many: Path, tiny: diptych.Embedder, options: dict, head: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.serve.library.pages.HEAD", head)
    client, body = serve(many), {**SEARCH, **options, "limit": 3}
    before = client.post("/v1/search", json=body).json()
    whole = [hit["id"] for hit in before["hits"] + rest_of(client, body, before)]
    again = serve(many)  # which has read the first page alone
    first = again.post("/v1/search", json=body).json()
    gone = {first["hits"][0]["path"], "05-noise.png"}
    for path in gone:
        (many / path).unlink()
    for seed in range(100, 112):
        noise(many / f"{seed}-new.png", seed)
    (many / "new.txt").write_text("A red house.\n\nTwo red houses.\n")
    diptych.open_index(many, model=tiny).update()
    ids = [hit["id"] for hit in first["hits"] + rest_of(again, body, first)]
    assert len(ids) == len(set(ids))
    assert set(ids) <= set(whole), "what is new belongs to another list"
    there = {item["id"] for item in again.post("/v1/items/lookup", json={"ids": whole}).json()["items"]}
    if not options.get("relevant"):  # by the other pictures as well
        assert there <= set(ids)


def test_captions_of_a_picture_and_copies_of_a_text_are_one_hit_to_the_last(
    serve, many: Path, tiny: diptych.Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (many / "again.txt").write_bytes((many / "more.txt").read_bytes())
    diptych.open_index(many, model=tiny).update()
    body = {**SEARCH, "modality": "text", "limit": 3}
    whole = [hit.id for hit in diptych.open_index(many, model=tiny).search("a red house", limit=64, modality="text")[0]]
    monkeypatch.setattr("diptych.serve.library.pages.HEAD", 4)
    client = serve(many)
    first = client.post("/v1/search", json=body).json()
    assert len(first["hits"] + rest_of(client, body, first)) == len(whole)


def test_a_copy_of_an_item_does_not_stand_for_it_among_its_hits(serve, several: Path, tiny) -> None:
    """An item is never among its own hits, by whichever of its names."""
    (several / "a.png").write_bytes((several / "below" / "2.png").read_bytes())
    diptych.open_index(several, model=tiny).update()
    client = serve(several)
    ids = {item["path"]: item["id"] for item in client.get("/v1/items").json()["items"]}
    for name in ("a.png", "below/2.png"):
        found = client.get(f"/v1/similar/{ids[name]}").json()
        assert {hit["path"] for hit in found["hits"]} == {"0.png", "1.png"}
        terms = [{"text": "a house"}, {"item": ids[name], "weight": 0.5}]
        assert {hit["path"] for hit in client.post("/v1/search", json={"terms": terms}).json()["hits"]} == {
            "0.png", "1.png",
        }  # fmt: skip
