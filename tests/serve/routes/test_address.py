"""An index that a server keeps, served as a folder's is."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import diptych
from diptych.index.remote import StoreIndex
from diptych.scenes.scene import Scenes
from diptych.serve.app import create_app
from diptych.serve.service import open_service
from diptych.serve.settings import ServeSettings
from tests.drawn_files import BLUE, RED, video
from tests.postgresql import server
from tests.serve.conftest import Client


@pytest.fixture(params=["postgresql", "milvus-lite"], scope="module")
def address(request: pytest.FixtureRequest, indexed: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """That of a copy of `indexed`."""
    if request.param == "postgresql":
        made = server().uri()
    else:
        pytest.importorskip("milvus_lite", reason="milvus_lite has no wheel here")
        made = f"milvus://{tmp_path_factory.mktemp('milvus')}/items.db#photos"
    diptych.copy_index(indexed, made)
    return made


def served(address: str, tiny: diptych.Embedder, pictures: Path | None) -> Client:
    def opened(model: Any) -> StoreIndex:
        return StoreIndex.at(address, model=model, pictures=pictures)

    service = open_service(tiny, ServeSettings(originals=True), open_index=opened, watching=False)
    return Client(create_app(service), service)


@pytest.fixture(scope="module")
def there(address: str, tiny: diptych.Embedder, indexed: Path, decoding_inline: None) -> Iterator[Client]:
    client = served(address, tiny, indexed)
    client.get("/v1/index")  # opens what stays open until the last of these tests
    yield client
    client.service.close()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/search?q=a+red+star",
        "/v1/search?q=a+red+star&modality=both&relevant=true",
        "/v1/search?q=a+red+star&min_width=60&limit=1",
        "/v1/search?q=a+red+star&path=below/**",
        "/v1/items",
        "/v1/items?sort=size&order=asc&orientation=landscape",
        "/v1/items?kind=text",
        "/v1/items/1",
        "/v1/facets",
        "/v1/similar/1",
    ],
)
def test_the_answers_are_those_of_the_folder(there: Client, client: Client, path: str) -> None:
    here, other = client.get(path), there.get(path)
    assert other.status_code == here.status_code == 200
    assert without_states(other.json()) == pytest.approx(without_states(here.json()), abs=2e-3)


def without_states(answer: Any) -> Any:
    """Flat, without the names of states, and of originals, which one of the two shows."""
    if isinstance(answer, list):
        answer = dict(enumerate(answer))
    flat: dict[str, Any] = {}
    for key, value in answer.items() if isinstance(answer, dict) else ():
        if key not in ("cursor", "version", "original", "took_ms"):
            inner = without_states(value) if isinstance(value, list | dict) else {"": value}
            flat |= {f"{key}.{name}": one for name, one in inner.items()}
    return flat


def test_pictures_are_shown_from_the_folder_that_was_given(
    there: Client, address: str, tiny: diptych.Embedder, decoding_inline: None
) -> None:
    """A server's word on where they are is not enough to read files."""
    assert there.get("/v1/thumbnails/1?width=64").headers["content-type"] == "image/jpeg"
    assert there.get("/v1/items/1/original").status_code == 200
    without = served(address, tiny, None)
    try:
        assert without.get("/v1/items/1").status_code == 200
        assert without.get("/v1/thumbnails/1?width=160").status_code == 404
        assert without.get("/v1/items/1/original").status_code == 404
    finally:
        without.service.close()


def test_what_a_server_keeps_is_not_updated_from_here(there: Client) -> None:
    answer = there.post("/v1/index/update")
    assert answer.status_code == 404
    assert "diptych index copy" in answer.json()["remedy"]
    state = there.get("/v1/index").json()
    assert (state["state"], state["pictures"], state["texts"], state["failed"]) == ("idle", 3, 2, 0)
    assert "***" in state["name"] or "milvus://" in state["name"]


def finished(client: Client, path: str, **params: Any) -> Any:
    answer = client.get(path, params=params)
    while answer.status_code == 202:
        answer = client.get(path, params=params)
    assert answer.status_code == 200, answer.json()
    return answer.json()


def test_the_map_is_that_of_the_folder(there: Client, client: Client) -> None:
    assert without_states(finished(there, "/v1/map")) == pytest.approx(
        without_states(finished(client, "/v1/map")), abs=2e-3
    )


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory, tiny: diptych.Embedder, address: str) -> tuple[Path, str]:
    """A folder of pictures some of which are copies, and the address of a copy of its index."""
    folder = tmp_path_factory.mktemp("copies") / "photos"
    folder.mkdir()
    for number, scene in enumerate(Scenes(4, size_px=120)):
        scene.image.save(folder / f"{number}.png")
    shutil.copy(folder / "0.png", folder / "same.png")
    with Image.open(folder / "1.png") as picture:
        picture.resize((240, 240), Image.Resampling.BICUBIC).save(folder / "larger.png")
    video(folder / "one.mp4", [RED, BLUE])
    shutil.copy(folder / "one.mp4", folder / "other.mp4")
    with diptych.open_index(folder, model=tiny) as index:
        index.update()
    there = server().uri() if address.startswith("postgresql") else f"milvus://{folder.parent}/items.db#photos"
    diptych.copy_index(folder, there)
    return folder, there


@pytest.mark.parametrize("with_pictures", [True, False])
def test_duplicates_are_those_of_the_folder(
    copied: tuple[Path, str], tiny: diptych.Embedder, decoding_inline: None, with_pictures: bool
) -> None:
    """Without pictures, equal bytes and nearly equal vectors decide, and the answer says of how many."""
    folder, address = copied
    client = served(address, tiny, folder if with_pictures else None)
    try:
        answer = finished(client, "/v1/duplicates", threshold=0.99)
    finally:
        client.service.close()
    groups = {frozenset(file["path"] for file in group["files"]) for group in answer["groups"]}
    assert answer["searched"] == 6
    if with_pictures:
        assert groups == {
            frozenset(pair) for pair in (("0.png", "same.png"), ("1.png", "larger.png"), ("one.mp4", "other.mp4"))
        }
        assert answer["unread"] == 0
    else:
        assert any({"0.png", "same.png"} <= group for group in groups)
        assert any({"1.png", "larger.png"} <= group for group in groups)
        assert {"one.mp4", "other.mp4"} in groups
        assert answer["unread"] > 0


def test_a_servers_index_may_be_too_large_for_an_overview(
    there: Client, monkeypatch: pytest.MonkeyPatch, address: str, tiny: diptych.Embedder, decoding_inline: None
) -> None:
    monkeypatch.setattr("diptych.serve.library.overview.sizes.MOST", 2)
    client = served(address, tiny, None)
    try:
        for path in ("/v1/map", "/v1/duplicates"):
            answer = client.get(path)
            while answer.status_code == 202:
                answer = client.get(path)
            assert answer.status_code == 422
            assert "at most 2 pictures" in answer.json()["detail"]
    finally:
        client.service.close()


def test_what_is_added_there_is_found_without_a_restart(
    address: str, indexed: Path, tiny: diptych.Embedder, decoding_inline: None
) -> None:
    client = served(address, tiny, None)
    try:
        before = client.get("/v1/index").json()["version"]
        with StoreIndex.at(address, model=tiny) as index:
            last = list(index.store.blocks())[-1]
            index.store.remove([last.items[-1].item.id])
            assert client.get("/v1/index").json()["version"] != before
            index.store.put(last)
        assert len(client.get("/v1/items?kind=text").json()["items"]) == 1
    finally:
        client.service.close()
