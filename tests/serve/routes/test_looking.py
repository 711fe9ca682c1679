"""Labels for a selection, and heat maps."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import diptych

LABELS = ["a house", "a star", "a square"]


def test_labels_are_those_of_the_model(client: TestClient, indexed: Path, tiny: diptych.Embedder) -> None:
    items = client.get("/v1/items", params={"sort": "path", "order": "asc"}).json()["items"]
    body = {"pictures": [{"item": item["id"]} for item in items], "labels": LABELS, "templates": ["{}"]}
    answer = client.post("/v1/classify", json=body).json()
    wanted = tiny.classify([indexed / item["path"] for item in items], LABELS, templates="{}")
    assert [result["label"] for result in answer["results"]] == list(wanted.best)
    probabilities = [result["probabilities"] for result in answer["results"]]
    np.testing.assert_allclose(probabilities, wanted.probabilities, atol=0.02)  # stored in 16 bits
    assert [result["item"] for result in answer["results"]] == [item["id"] for item in items]


def test_names_of_a_label_and_several_labels(client: TestClient) -> None:
    body = {"pictures": [{"item": 1}], "labels": {"building": ["a house", "a hut"], "sign": "a star"}}
    answer = client.post("/v1/classify", json={**body, "multi_label": True}).json()
    assert answer["labels"] == ["building", "sign"]
    assert len(answer["results"][0]["scores"]) == 2


def test_a_picture_that_is_gone_costs_itself_alone(client: TestClient) -> None:
    body = {"pictures": [{"item": 1}, {"item": 10**6}, {"data": "AAAA"}], "labels": LABELS}
    answer = client.post("/v1/classify", json=body).json()
    assert [result["index"] for result in answer["results"]] == [0]
    assert [(one["index"], one["reason"]) for one in answer["failures"]] == [(1, "missing"), (2, "not an image")]


@pytest.mark.parametrize("templates", [["no place for it"], []])
def test_wrong_templates(client: TestClient, templates: list) -> None:
    body = {"pictures": [{"item": 1}], "labels": LABELS, "templates": templates}
    assert client.post("/v1/classify", json=body).status_code == 422


def test_a_heat_map_is_that_of_the_model(client: TestClient, indexed: Path, tiny: diptych.Embedder) -> None:
    (item,) = client.get("/v1/items", params={"path": "1.png"}).json()["items"]
    answer = client.post("/v1/locate", json={"picture": {"item": item["id"]}, "phrase": "a star"}).json()
    wanted = tiny.locate(indexed / "1.png", "a star")
    assert (answer["width"], answer["height"]) == wanted.image.size
    assert (answer["rows"], answer["columns"]) == wanted.relative_likelihood.shape
    likelihood = np.frombuffer(base64.b64decode(answer["likelihood"]), np.uint8).reshape(answer["rows"], -1)
    assert np.corrcoef(likelihood.ravel(), wanted.relative_likelihood.ravel())[0, 1] > 0.95  # through a JPEG
    assert len(answer["boxes"]) > 0


def test_boxes_are_in_pixels_of_the_whole_picture(alone: TestClient) -> None:
    file = io.BytesIO()
    Image.effect_noise((4000, 2000), 90).convert("RGB").save(file, "JPEG", quality=60)
    picture = {"data": base64.b64encode(file.getvalue()).decode()}
    answer = alone.post("/v1/locate", json={"picture": picture, "phrase": "a star"}).json()
    assert (answer["width"], answer["height"]) == (4000, 2000)
    for box in answer["boxes"]:
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 4001
        assert 0 <= box["y"] <= box["y"] + box["height"] <= 2001


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (2600, 7)])
def test_boxes_lie_in_a_thin_picture(alone: TestClient, tiny: diptych.Embedder, size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, "white")
    picture.paste("red", (0, 0, max(1, size[0] // 2), max(1, size[1] // 2)))
    file = io.BytesIO()
    picture.save(file, "PNG")
    sent = {"picture": {"data": base64.b64encode(file.getvalue()).decode()}, "phrase": "a star"}
    answer = alone.post("/v1/locate", json=sent).json()
    wanted = tiny.locate(picture, "a star")
    assert (answer["width"], answer["height"]) == size
    for box, whole in zip(answer["boxes"], wanted.boxes, strict=True):
        assert 0 <= box["x"] <= box["x"] + box["width"] <= size[0]
        assert 0 <= box["y"] <= box["y"] + box["height"] <= size[1]
        near = max(size) / 64 + 1  # a point of the map
        assert [box[name] for name in ("x", "y", "width", "height")] == pytest.approx(list(whole[:4]), abs=near)


def test_the_map_lies_over_the_picture(client: TestClient) -> None:
    (item,) = client.get("/v1/items", params={"path": "0.png"}).json()["items"]
    answer = client.get(f"/v1/items/{item['id']}/heat", params={"phrase": "a star"})
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert (picture.mode, picture.size) == ("RGBA", (512, 384))
        alpha = np.asarray(picture)[..., 3]
    assert alpha.min() < alpha.max() < 255, "the picture stays visible"
    (text,) = client.get("/v1/items", params={"kind": "text"}).json()["items"]
    assert client.get(f"/v1/items/{text['id']}/heat", params={"phrase": "a star"}).status_code == 422
