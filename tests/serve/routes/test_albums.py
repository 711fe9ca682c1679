"""Albums, exports, duplicates and the map."""

import csv
import io
import os
import shutil
import sqlite3
import stat
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import diptych
from diptych.serve.library.exports import sheet
from diptych.serve.library.items import one
from diptych.serve.library.overview.regions import Region
from diptych.serve.web.problems import RequestProblem
from tests.index_model import PixelModel

SEARCH = {"terms": [{"text": "a red house"}]}


@pytest.fixture
def own(serve, several: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TestClient:
    """Serves a folder of its own, with no albums yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return serve(several)


def ids(client: TestClient) -> list[int]:
    return [item["id"] for item in client.get("/v1/items", params={"sort": "path", "order": "asc"}).json()["items"]]


def finished(client: TestClient, path: str, **params: object) -> dict:
    """The answer of a job, once it is done."""
    while (answer := client.get(path, params=params)).status_code == 202:
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["state"] == "running"
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- albums


def test_a_selection_stays_while_files_move_about(own: TestClient, several: Path, tiny: diptych.Embedder) -> None:
    first, second, third = ids(own)
    made = own.post("/v1/albums", json={"name": "Best", "items": [third, first]})
    assert made.status_code == 201
    album = made.json()
    assert (album["kind"], album["count"], album["name"]) == ("selection", 2, "Best")
    assert album["cover"].startswith(f"/v1/thumbnails/{third}?")
    path = f"/v1/albums/{album['id']}"
    assert [item["id"] for item in own.get(path).json()["items"]] == [third, first]
    changed = own.patch(path, json={"add": [second, first], "remove": [third], "name": "Better"}).json()
    assert ([item["id"] for item in changed["items"]], changed["name"]) == ([first, second], "Better")
    (several / "0.png").unlink()
    diptych.open_index(several, model=tiny).update()
    left = own.get(path).json()
    assert ([item["id"] for item in left["items"]], left["missing"]) == ([second], 1)
    left = own.patch(path, json={"remove_missing": True}).json()
    assert ([item["id"] for item in left["items"]], left["missing"], left["count"]) == ([second], 0, 1)
    assert [one["id"] for one in own.get("/v1/albums").json()["albums"]] == [album["id"]]
    assert own.delete(path).status_code == 204
    assert own.get(path).status_code == 404
    assert (several / "1.png").exists(), "no picture is touched"


def test_files_that_are_not_indexed_again_yet_are_not_missing(
    own: TestClient, several: Path, tiny: diptych.Embedder
) -> None:
    path = f"/v1/albums/{own.post('/v1/albums', json={'name': 'All', 'items': ids(own)}).json()['id']}"
    shutil.rmtree(several / ".diptych")
    refused = own.patch(path, json={"remove_missing": True})
    assert (refused.status_code, refused.json()["code"]) == (503, "NotReadyError")
    (several / "0.png").rename(several / "moved.png")
    (several / "1.png").unlink()
    diptych.open_index(several, model=tiny, exclude=["2.png"]).update()
    assert own.patch(path, json={"remove_missing": True}).json()["count"] == 1
    diptych.open_index(several, model=tiny, exclude=[]).update()
    assert [item["path"] for item in own.get(path).json()["items"]] == ["below/2.png"]


def test_a_saved_search_finds_what_is_there(own: TestClient) -> None:
    album = own.post("/v1/albums", json={"name": "Houses", "search": SEARCH}).json()
    assert (album["kind"], album["count"]) == ("search", None)
    stored = own.get(f"/v1/albums/{album['id']}").json()["search"]
    assert own.post("/v1/search", json=stored).json()["hits"] == own.post("/v1/search", json=SEARCH).json()["hits"]
    for change in ({"add": [1]}, {"remove_missing": True}):
        assert own.patch(f"/v1/albums/{album['id']}", json=change).status_code == 422


def test_albums_outlive_the_server_and_belong_to_their_folder(own: TestClient, serve, several: Path, indexed) -> None:
    made = own.post("/v1/albums", json={"name": "Best", "items": ids(own)}).json()
    assert [one["id"] for one in serve(several).get("/v1/albums").json()["albums"]] == [made["id"]]
    assert serve(indexed).get("/v1/albums").json()["albums"] == []


def test_an_album_has_each_item_once(own: TestClient) -> None:
    first, second, _ = ids(own)
    album = own.post("/v1/albums", json={"name": "Best", "items": [first, first]}).json()
    assert album["count"] == 1
    changed = own.patch(f"/v1/albums/{album['id']}", json={"add": [second, second, first]}).json()
    assert [item["id"] for item in changed["items"]] == [first, second]


def test_a_saved_search_has_its_best_picture_as_the_cover(own: TestClient, several: Path, tiny) -> None:
    album = own.post("/v1/albums", json={"name": "Houses", "search": SEARCH}).json()
    best, second = own.post("/v1/search", json=SEARCH).json()["hits"][:2]
    assert album["cover"] == best["thumbnail"]
    (several / best["path"]).unlink()
    diptych.open_index(several, model=tiny).update()
    assert own.get("/v1/albums").json()["albums"][0]["cover"] == second["thumbnail"]
    other = {"terms": [{"item": second["id"]}]}
    changed = own.patch(f"/v1/albums/{album['id']}", json={"search": other}).json()
    assert changed["cover"] == own.post("/v1/search", json=other).json()["hits"][0]["thumbnail"]
    none = {"terms": [{"text": "a red house"}], "filters": {"camera": "none"}}
    assert own.post("/v1/albums", json={"name": "None", "search": none}).json()["cover"] is None


@pytest.mark.parametrize(
    "body", [{"name": "a"}, {"name": "", "items": []}, {"name": "a", "items": [1], "search": SEARCH}]
)
def test_wrong_albums(own: TestClient, body: dict) -> None:
    assert own.post("/v1/albums", json=body).status_code == 422


# --- exports


def exported(client: TestClient, **body: object) -> bytes:
    answer = client.post("/v1/exports", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"].startswith("attachment")
    return answer.content


def test_paths_are_those_of_the_selection(client: TestClient, indexed: Path) -> None:
    chosen = ids(client)[::-1]
    assert exported(client, items=chosen, format="paths").decode().splitlines() == ["below/2.png", "1.png", "0.png"]
    absolute = exported(client, items=chosen[:1], format="paths", absolute=True).decode().splitlines()
    assert absolute == [str(indexed / "below" / "2.png")]


def test_a_table_has_what_is_known_and_no_formulas(serve, several: Path, tiny: diptych.Embedder) -> None:
    (several / "0.txt").write_text("=1+1\n")
    diptych.open_index(several, model=tiny).update()
    client = serve(several)
    rows = list(csv.DictReader(io.StringIO(exported(client, search=SEARCH, format="csv").decode())))
    assert [row["path"] for row in rows] == [
        hit["path"] for hit in client.post("/v1/search", json=SEARCH).json()["hits"]
    ]
    assert {row["path"]: row["caption"] for row in rows}["0.png"] == "'=1+1"
    assert all(float(row["score"]) for row in rows)


def test_a_sheet_shows_the_pictures(client: TestClient) -> None:
    content = exported(client, items=ids(client), format="sheet", columns=3, size_px=100, title="Three")
    with Image.open(io.BytesIO(content)) as drawn:
        assert drawn.format == "PNG"
        assert drawn.width == 3 * 108 + 8
    with client.service.library.pool.reading() as index, pytest.raises(RequestProblem, match="a sheet holds 200"):
        sheet([one(index, ids(client)[0])] * 201, client.service.library.thumbnails, title="", columns=5, size_px=100)


def test_links_lead_to_the_files_under_names_of_their_own(serve, several: Path, tiny, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(several / "below" / "0.png")
    diptych.open_index(several, model=tiny).update()
    client = serve(several)
    with zipfile.ZipFile(io.BytesIO(exported(client, items=ids(client), format="links"))) as archive:
        found = {entry.filename: archive.read(entry).decode() for entry in archive.infolist()}
        assert all(stat.S_ISLNK(entry.external_attr >> 16) for entry in archive.infolist())
    assert sorted(found) == ["0 (2).png", "0.png", "1.png", "2.png"]
    assert {os.path.relpath(target, several) for target in found.values()} == {
        "0.png", "1.png", "below/0.png", "below/2.png",
    }  # fmt: skip


# --- duplicates and the map


def test_duplicates_are_grouped_with_the_one_to_keep_first(own: TestClient, several: Path, tiny) -> None:
    with Image.open(several / "0.png") as picture:
        picture.resize((32, 24)).save(several / "small.png")
    (several / "copy.png").write_bytes((several / "1.png").read_bytes())
    diptych.open_index(several, model=tiny).update()
    answer = finished(own, "/v1/duplicates", threshold=0.999)
    paths = [[file["path"] for file in group["files"]] for group in answer["groups"]]
    assert sorted(sorted(group) for group in paths if "1.png" in group) == [["1.png", "copy.png"]]
    assert answer["total"] == len(paths)
    assert all(group["keep"] == group["files"][0]["id"] for group in answer["groups"])
    assert (several / "copy.png").exists()
    lower = finished(own, "/v1/duplicates", threshold=0.5)  # which looks at more, whose pixels differ
    paths = [[file["path"] for file in group["files"]] for group in lower["groups"]]
    assert (sorted(sorted(group) for group in paths), lower["unread"]) == (
        [["0.png", "small.png"], ["1.png", "copy.png"]],
        0,
    )
    paged = finished(own, "/v1/duplicates", threshold=0.5, limit=1)
    assert len(paged["groups"]) == 1
    assert own.get("/v1/duplicates", params={"threshold": 0}).status_code == 422


def test_the_map_has_every_picture_once(own: TestClient) -> None:
    points = finished(own, "/v1/map")
    shapes = {item["id"]: item["width"] / item["height"] for item in own.get("/v1/items").json()["items"]}
    assert points["ids"] == sorted(ids(own))
    assert points["total"] == 3
    assert all(0 <= value <= 1 for value in (*points["x"], *points["y"]))
    assert points["aspects"] == pytest.approx([shapes[id] for id in points["ids"]], abs=1e-3)
    packed = own.get("/v1/map", headers={"Accept": "application/octet-stream"}).content
    rows = np.frombuffer(packed, "<u8,<f4,<f4,<f4")
    np.testing.assert_allclose(rows["f1"], points["x"], atol=1e-4)
    assert rows["f0"].tolist() == points["ids"]


def test_a_folder_without_an_index_has_an_empty_map(serve, tmp_path: Path) -> None:
    client = serve(tmp_path)
    assert finished(client, "/v1/map")["ids"] == []
    assert finished(client, "/v1/duplicates")["groups"] == []


def test_a_map_of_rows_that_are_not_valid_is_empty(own: TestClient, several: Path) -> None:
    with closing(sqlite3.connect(several / ".diptych" / "catalog.sqlite")) as catalog, catalog:
        catalog.execute("UPDATE files SET path = '../' || path")
    assert finished(own, "/v1/map")["ids"] == []


def test_vectors_of_another_model_are_of_no_use(own: TestClient, several: Path) -> None:
    with diptych.open_index(several, model=PixelModel()) as index:
        index.update(reindex=True)
    (first, *_) = ids(own)
    while (answer := own.get("/v1/map")).status_code == 202:
        pass
    asked = (
        answer,
        own.get(f"/v1/similar/{first}"),
        own.post("/v1/search", json={"terms": [{"item": first}]}),
        own.post("/v1/classify", json={"pictures": [{"item": first}], "labels": ["a house", "a tree"]}),
        own.post("/v1/embed", json={"pictures": [{"item": first}]}),
    )
    assert [(each.status_code, each.json().get("code")) for each in asked] == [(503, "IndexModelError")] * len(asked)


def test_the_parts_of_the_map_have_names(own: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    dogs = Region("dogs", 0.5, 0.25, 3, is_coarse=True)
    monkeypatch.setattr("diptych.serve.library.overview.picture_map.named_regions", lambda *given: [dogs])
    answer = finished(own, "/v1/map/regions", method="pca")
    assert answer["regions"] == [{"name": "dogs", "x": 0.5, "y": 0.25, "count": 3, "is_coarse": True}]
    assert answer["version"] == finished(own, "/v1/map")["version"]
    assert own.get("/v1/map/regions", params={"method": "tsne"}).status_code == 422
