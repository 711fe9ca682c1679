"""Models by their hub id, from a server on this machine that speaks the hub's protocol: the client's own code runs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub import NOWHERE, Hub, commit_of, point_to, standing_in
from safetensors.torch import load_file, save_file
from terminals import Terminal, strange

from diptych.checkpoint import fetch, read
from diptych.checkpoint.hub import choose, is_repo_id
from diptych.checkpoint.progress import bars
from diptych.display.escaping import escape_streams
from diptych.errors import CheckpointError, HubError

GOLDEN = Path(__file__).parents[1] / "golden"
NAME = "someone/a-model"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with standing_in(monkeypatch, tmp_path / "cache") as server:
        yield server


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


HF = files_of(GOLDEN / "hf_clip")
OPEN_CLIP = files_of(GOLDEN / "openclip_odd_heads")
# What a repository of many formats carries besides; none of it is to be fetched.
CLUTTER: dict[str, bytes] = dict.fromkeys(
    (
        "pytorch_model.bin",
        "tf_model.h5",
        "flax_model.msgpack",
        "README.md",
        "onnx/model.onnx",
    ),
    b"no one reads this",
)
SMALL = {"preprocessor_config.json": b"{}", "tokenizer.json": b" {}", "tokenizer_config.json": b"{} "}


def test_only_what_is_needed_is_fetched_and_only_once(hub: Hub) -> None:
    hub.repositories[NAME] = HF | CLUTTER | SMALL | {"vocab.json": b"{}", "merges.txt": b""}
    folder = fetch(NAME)
    wanted = {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in folder.iterdir()} == wanted
    assert sorted(hub.asked) == sorted(wanted)
    assert fetch(NAME) == folder
    assert len(hub.asked) == len(wanted)


def test_the_model_is_that_of_the_folder(hub: Hub) -> None:
    hub.repositories[NAME] = HF
    came, local = read(NAME), read(GOLDEN / "hf_clip")
    assert came.source == NAME
    assert came.config == local.config
    assert all(torch.equal(came.state[name], tensor) for name, tensor in local.state.items())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("adapter_config.json", "but a PEFT adapter, which must be merged"),
        ("model_index.json", "but a diffusers pipeline"),
        ("config.json", "but a configuration with weights in an unsupported form"),
        ("README.md", "open_clip_config.json with weights."),
    ],
)
def test_what_a_repository_holds_instead(name: str, says: str, hub: Hub) -> None:
    hub.repositories[NAME] = {name: b"{}", "weights.gguf": b""}
    with pytest.raises(HubError, match=f"has no supported model.*{says}"):
        read(NAME)


def test_what_stands_for_a_tokenizer_in_older_repositories(hub: Hub) -> None:
    hub.repositories[NAME] = HF | {"vocab.json": b"{}", "merges.txt": b"#version: 0.2"}
    assert {path.name for path in fetch(NAME).iterdir()} == {
        "config.json", "model.safetensors", "vocab.json", "merges.txt",
    }  # fmt: skip


def test_a_model_in_the_folder_that_sentence_transformers_gives_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
    hub.repositories[NAME] = {f"0_CLIPModel/{name}": content for name, content in HF.items()} | {
        "modules.json": json.dumps(listed).encode(), "README.md": b"a card", "onnx/model.onnx": b"no one reads this",
    }  # fmt: skip
    came = read(NAME)
    assert all(torch.equal(came.state[name], tensor) for name, tensor in read(GOLDEN / "hf_clip").state.items())
    assert came.notes[0] == "opened 0_CLIPModel, the model in it"
    assert sorted(hub.asked) == ["0_CLIPModel/config.json", "0_CLIPModel/model.safetensors", "modules.json"]
    point_to(NOWHERE, monkeypatch)
    assert read(NAME).config == came.config


def test_a_revision_is_the_hub_s_alone() -> None:
    with pytest.raises(CheckpointError, match="is a local path, which has no revisions; leave revision='v1' out"):
        read(GOLDEN / "hf_clip", revision="v1")


def test_a_fetched_model_needs_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories[NAME] = HF | CLUTTER
    hub.repositories["someone/open-clip"] = OPEN_CLIP
    folder, other = fetch(NAME), fetch("someone/open-clip")
    point_to(NOWHERE, monkeypatch)
    assert fetch(NAME) == folder
    assert fetch(NAME, revision=commit_of(NAME)) == folder
    assert fetch("someone/open-clip") == other
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch(NAME) == folder
    assert read("someone/open-clip").config.embed_dim == 40


def test_without_network_and_without_a_copy(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(NOWHERE, monkeypatch)
    with pytest.raises(HubError) as error:
        read("openai/clip-vit-base-patch32", revision="main")
    assert re.fullmatch(
        r"the hub cannot be reached \(.*[Rr]efused.*\), and openai/clip-vit-base-patch32 at main is neither a local "
        rf"file or folder nor in the cache {tmp_path / 'cache'}\. Connect once to fetch it, or "
        r"use the bundled model, which needs no network\.",
        str(error.value),
    )


def test_a_cache_that_cannot_be_written(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[NAME] = HF
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(
        HubError, match=f"{NAME} cannot be written to the cache {tmp_path / 'cache'}: .* Not a directory"
    ):
        fetch(NAME)


def test_half_a_copy_is_no_copy(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories[NAME] = HF
    (fetch(NAME) / "model.safetensors").unlink()
    point_to(NOWHERE, monkeypatch)
    with pytest.raises(HubError, match="nor in the cache"):
        fetch(NAME)


def test_a_hub_that_is_down_is_as_good_as_none(hub: Hub) -> None:
    hub.repositories[NAME] = HF
    folder = fetch(NAME)
    hub.down = True
    assert fetch(NAME) == folder
    with pytest.raises(HubError, match="the hub cannot be reached"):
        fetch("someone/else")


@pytest.mark.parametrize(
    ("name", "revision", "says"),
    [
        (
            "someone/unknown",
            None,
            "someone/unknown is not a local file or folder, nor a model on the hub that you may read",
        ),
        ("someone/gated", None, "someone/gated is gated: accept its terms at http"),
        (NAME, "v9", f"{NAME} has no revision 'v9'; pass one of its branches, tags or commits"),
        ("someone/nothing", None, "someone/nothing has no supported model"),
        ("some--one/x", None, "nor a model on the hub that you may read"),
    ],
)
def test_what_the_hub_does_not_give(name: str, revision: str | None, says: str, hub: Hub) -> None:
    hub.repositories = {NAME: HF, "someone/gated": HF, "someone/nothing": CLUTTER}
    hub.gated = {"someone/gated"}
    with pytest.raises(HubError) as error:
        read(name, revision=revision)
    assert says in str(error.value)
    assert isinstance(error.value, CheckpointError)
    assert "\n" not in str(error.value)


def test_weights_in_several_files_come_all(hub: Hub, tmp_path: Path) -> None:
    tensors = load_file(GOLDEN / "hf_clip" / "model.safetensors")
    for shard in (1, 2):
        part = {name: tensors[name] for name in list(tensors)[shard - 1 :: 2]}
        save_file(part, tmp_path / f"model-0000{shard}-of-00002.safetensors")
    index = {"weight_map": {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(tensors)}}
    shards = {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    hub.repositories[NAME] = {
        "config.json": HF["config.json"],
        "model.safetensors.index.json": json.dumps(index).encode(),
        **shards,
        **CLUTTER,
    }
    assert read(NAME).config.embed_dim == 32
    assert sorted(hub.asked) == ["config.json", *sorted(shards), "model.safetensors.index.json"]


def test_a_config_json_of_another_kind_gives_way_to_open_clip_s(hub: Hub) -> None:
    """As in timm's repositories, whose model.safetensors is an image tower alone."""
    timm = {"config.json": b'{"architecture": "vit_base"}', "model.safetensors": b"a tower"}
    hub.repositories[NAME] = OPEN_CLIP | timm
    assert read(NAME).config.embed_dim == 40
    assert sorted(hub.asked) == ["config.json", "open_clip_config.json", "open_clip_model.safetensors"]


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        ("config.json pytorch_model.bin model.safetensors", "model.safetensors"),
        ("config.json pytorch_model.bin", "pytorch_model.bin"),
        (
            "config.json pytorch_model.bin open_clip_config.json open_clip_model.safetensors",
            "open_clip_model.safetensors",
        ),
        ("config.json pytorch_model.bin open_clip_config.json open_clip_pytorch_model.bin", "pytorch_model.bin"),
        ("open_clip_config.json open_clip_pytorch_model.bin model.safetensors", "open_clip_pytorch_model.bin"),
        ("open_clip_config.json model.safetensors pytorch_model.bin", "model.safetensors"),
        ("open_clip_config.json pytorch_model.bin", "pytorch_model.bin"),
    ],
)
def test_weights_come_once_and_pickles_last(names: str, weights: str) -> None:
    chosen = choose(names.split())
    assert chosen[1:] == [weights]
    theirs = weights.startswith("open_clip") or "config.json" not in names.split()
    assert chosen[0] == ("open_clip_config.json" if theirs else "config.json")


def test_the_files_of_searches_come_along() -> None:
    names = ["config.json", "model.safetensors", "words.txt", "reference_pictures.safetensors", "notes.txt"]
    assert set(choose(names)) == {*names} - {"notes.txt"}


@pytest.mark.parametrize(
    "source", ["RN50.pt", "runs/RN50.pt", "a/b/c", "./model", "/model", "model", "a b/c", "../x", ""]
)
def test_what_is_no_hub_id(source: str) -> None:
    assert not is_repo_id(source)


def test_an_architecture_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, trained in (("vit-tiny", "."), ("ViT-H/14", ", or the name of a pretrained one: laion2b-vit-h-14, ")):
        with pytest.raises(CheckpointError) as error:
            read(name)
        assert str(error.value).startswith(
            f"{name} is the name of an architecture, which has no weights; `diptych train --model {name}` trains one. "
            f"Pass a model folder, a file or a hub id{trained}"
        )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit-tiny").symlink_to(GOLDEN / "hf_clip")
    assert read("vit-tiny").config.embed_dim == 32  # a folder of that name is one


def test_the_environment_s_hub_is_asked(tmp_path: Path) -> None:
    """HF_ENDPOINT and HF_HOME as a user sets them, in a process of its own."""
    server = Hub()
    server.repositories[NAME] = HF
    code = f"from diptych.checkpoint import read; print(read({NAME!r}).config.embed_dim)"
    environment = os.environ | {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", code], env=environment | root, capture_output=True, text=True)
    server.shutdown()
    assert result.stdout.strip() == "32", result.stderr
    assert sorted(server.asked) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("folder", ["..", ".", "", "C:", "\\\\host", "a\0b"])
def test_names_that_lead_out_of_the_repository_are_none_of_its_files(folder: str, hub: Hub, tmp_path: Path) -> None:
    assert not choose([f"{folder}/{name}" for name in HF])
    hub.repositories[NAME] = {f"{folder}/{name}": content for name, content in HF.items()}
    with pytest.raises(HubError, match="has no supported model"):
        fetch(NAME)
    assert not hub.asked


def test_the_bar_of_what_is_fetched_says_nothing_of_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import enable_progress_bars

    enable_progress_bars()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    escape_streams()
    with bars()(desc="\x1b[2Jmodel\u202e.bin", total=3) as bar:
        bar.update(3)
    said = terminal.getvalue()
    assert r"\x1b[2Jmodel\u202e.bin: 100%" in said
    assert not strange(said)
