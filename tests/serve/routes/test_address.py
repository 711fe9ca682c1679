"""An index that a server keeps, served as a folder's is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import diptych
from diptych.index.remote import StoreIndex
from diptych.serve.app import create_app
from diptych.serve.service import open_service
from diptych.serve.settings import ServeSettings
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


def test_duplicates_are_found_in_folders(there: Client) -> None:
    answer = there.get("/v1/duplicates")
    while answer.status_code == 202:
        answer = there.get("/v1/duplicates")
    assert answer.status_code == 404


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
