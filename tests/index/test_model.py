"""The model that an index remembers, where it came from the hub."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import Hub, commit_of, standing_in

from diptych.checkpoint.pretrained.names import pretrained_models
from diptych.index.local import open_index
from diptych.index.model import display_name
from diptych.index.search.query import Query

NAME = "clip-vit-b-32"
REPOSITORY = pretrained_models()[NAME].hub_id
COMMIT = commit_of(REPOSITORY)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path) -> Iterator[Hub]:
    with standing_in(monkeypatch, tmp_path / "cache") as server:
        server.repositories[REPOSITORY] = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
        yield server


@pytest.fixture
def folder(pictures: Path, tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    return Path(shutil.copy(pictures / "scene-0.png", tmp_path / "pictures")).parent


def test_an_index_finds_its_commit_again_on_another_machine(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_index(folder, model=NAME) as index:
        index.update()
        assert index.catalog.facts()["model"] == f"{REPOSITORY}@{COMMIT}"
        mark = index.model.fingerprint
    # The cache is empty, and the repository has moved on: what was its state is a commit among others.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "another cache"))
    monkeypatch.setattr("hub.commit_of", lambda key: COMMIT if key.endswith("@then") else commit_of(f"new {key}"))
    hub.repositories[f"{REPOSITORY}@then"] = hub.repositories[REPOSITORY]
    hub.repositories[REPOSITORY] = {"config.json": b"another model"}
    with open_index(folder) as index:
        assert index.model.fingerprint == mark
        assert index.model.source == REPOSITORY
        assert len(index.search(Query.text("a star")).hits) == 1
    assert hub.requests
    assert all(COMMIT in path for path in hub.requests[-2:])


def test_the_same_model_by_its_name_or_its_id_fits(hub: Hub, folder: Path) -> None:
    with open_index(folder, model=REPOSITORY) as index:
        index.update()
    for name in (NAME, REPOSITORY, f"{REPOSITORY}@{COMMIT}"):
        with open_index(folder, model=name) as index:
            assert index.update().unchanged == 1


def test_messages_have_the_start_of_the_commit() -> None:
    assert display_name(f"{REPOSITORY}@{COMMIT}") == f"{REPOSITORY}@{COMMIT[:7]}"
    assert display_name("someone/model@v1") == "someone/model@v1"
