"""The short names of pretrained models: every row can be run, a name stands for its model, a typo finds the nearest."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
from hub import NOWHERE, Hub, commit_of, point_to, standing_in

import diptych
from diptych.checkpoint import convert, read
from diptych.checkpoint.finding import find
from diptych.checkpoint.hub import HubId
from diptych.checkpoint.pretrained.names import pretrained_models, similar_names
from diptych.errors import ArgumentError, CheckpointError, HubError
from diptych.nets.presets import PRESETS
from diptych.nets.shapes import shapes
from tests.conftest import GOLDEN

NAME = "clip-vit-b-32"
REPOSITORY = pretrained_models()[NAME].hub_id
FILES = {path.name: path.read_bytes() for path in (GOLDEN / "hf_clip").iterdir()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with standing_in(monkeypatch, tmp_path / "cache") as server:
        server.repositories[REPOSITORY] = FILES
        yield server


def test_every_row_agrees_with_its_architecture() -> None:
    for name, model in pretrained_models().items():
        config = PRESETS[model.architecture]
        config = replace(config, image=replace(config.image, image_size=model.image_size_px))
        assert (model.dimensions, model.image_size_px) == (config.embed_dim, config.image.image_size), name
        weights_mb = sum(4 * prod(shape) for shape in shapes(config).values()) / 1e6
        assert weights_mb < model.download_mb < weights_mb + 40, name  # a tokenizer of SigLIP 2 has 34
        assert HubId.parse(model.hub_id) == model.hub_id
        assert model.imagenet_top1 is None or 50 < model.imagenet_top1 < 90, name
        assert model.license
        assert "at commit" in model.source
        assert name == name.lower()
        assert "-" in name


def test_no_two_names_are_of_one_model() -> None:
    ids = [model.hub_id for model in pretrained_models().values()]
    assert len(set(ids)) == len(ids)


def test_a_name_stands_for_its_hub_id(hub: Hub) -> None:
    found = find(NAME)
    assert (found.source, found.source.revision) == (REPOSITORY, commit_of(REPOSITORY))  # type: ignore[attr-defined]
    assert find("CLIP-ViT-B-32").path == found.path == find(REPOSITORY).path
    model = diptych.load(NAME, device="cpu")
    assert model.source == REPOSITORY
    assert model.fingerprint == diptych.load(GOLDEN / "hf_clip", device="cpu").fingerprint


def test_a_name_needs_no_network_twice(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = find(NAME).path
    point_to(NOWHERE, monkeypatch)
    assert find(NAME).path == folder


def test_a_model_of_a_name_is_converted(hub: Hub, tmp_path: Path) -> None:
    convert(NAME, tmp_path / "mine")
    assert read(tmp_path / "mine").config == read(GOLDEN / "hf_clip").config


def test_a_local_folder_of_the_name_comes_first(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(GOLDEN / "hf_siglip", tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    found = read(NAME)
    assert found.config == read(GOLDEN / "hf_siglip").config
    assert found.notes[0] == f"the local {NAME}, not the pretrained model of that name, which is {REPOSITORY}"
    assert find(REPOSITORY).source == REPOSITORY
    assert len(hub.requests) == len([path for path in hub.requests if REPOSITORY in path])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("clip-vit-b-23", NAME), ("clip-vitb32", NAME), ("siglip2-b-16", "siglip2-vit-b-16"), ("sigclip-vit-b-16", None)],
)
def test_a_typo_is_told_the_nearest_name(typed: str, meant: str | None) -> None:
    with pytest.raises(CheckpointError, match=f"^{typed} is not a file, a folder or a hub id.* Did you mean ") as error:
        find(typed)
    assert meant is None or f" {meant}" in str(error.value)


def test_what_resembles_no_name_is_told_none() -> None:
    assert similar_names("nonsense") == similar_names("photos") == []


def test_a_pretrained_model_is_no_architecture() -> None:
    from diptych.training.architectures import architecture

    with pytest.raises(ArgumentError, match=r"pretrained model, of the architecture ViT-B/32\..* init='clip-vit-b-32'"):
        architecture(NAME)
    assert architecture("ViT-B/32") == PRESETS["ViT-B/32"]


# --- revisions


def test_a_revision_may_follow_the_id(hub: Hub) -> None:
    hub.repositories[f"{REPOSITORY}@v1"] = {name: FILES[name] for name in ("config.json", "model.safetensors")}
    found = find(f"{REPOSITORY}@v1")
    assert found.source == REPOSITORY
    assert found.path.name == commit_of(f"{REPOSITORY}@v1") != find(REPOSITORY).path.name
    assert find(f"{REPOSITORY}@{found.path.name}").path == found.path
    assert find(HubId(REPOSITORY, "v1")).path == find(REPOSITORY, revision="v1").path == found.path
    with pytest.raises(CheckpointError, match=r"@v1 names a revision; leave revision='v2' out"):
        find(f"{REPOSITORY}@v1", revision="v2")
    with pytest.raises(HubError, match="has no revision 'v9'"):
        find(f"{REPOSITORY}@v9")


@pytest.mark.parametrize(
    "source", ["a/b@", "a/b@../c", "a/b@x/../y", "a/b@.", "a@b", "a/b.bin@v1", "a/b@c d", "@a/b", ""]
)
def test_what_is_no_id_with_a_revision(source: str) -> None:
    assert HubId.parse(source) is None


def test_an_id_keeps_its_revision_in_copies() -> None:
    import copy
    import pickle

    source = HubId.parse("a/b@refs/pr/3")
    assert source == "a/b"
    assert {copy.copy(source).revision, pickle.loads(pickle.dumps(source)).revision} == {"refs/pr/3"}  # type: ignore[union-attr]
