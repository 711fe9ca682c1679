"""What weights and configurations ask for is bounded by what their file holds; each ends in one sentence."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from diptych.checkpoint import read, settings
from diptych.checkpoint.formats import huggingface, open_clip_config
from diptych.checkpoint.formats.open_clip_preprocessing import preprocess_from_json
from diptych.checkpoint.state import cast_all
from diptych.checkpoint.weights import claims, files
from diptych.checkpoint.weights.shape_check import expected_specs
from diptych.errors import ArgumentError, CheckpointError
from diptych.nets import shapes
from diptych.nets.config import CLIPConfig, TextConfig, ViTConfig

GOLDEN = Path(__file__).parents[2] / "golden"
STATE_DICT = GOLDEN / "openai_vit" / "openai_vit_state_dict.pt"
HF_CLIP, OPEN_CLIP = GOLDEN / "hf_clip", GOLDEN / "openclip_odd_heads"


def tensors() -> dict[str, Tensor]:
    return torch.load(STATE_DICT, weights_only=True)


def test_a_stretched_tensor_is_refused_before_it_is_filled_up(tmp_path: Path) -> None:
    width = tensors()["token_embedding.weight"].shape[1]
    stretched = torch.zeros(1, 1).half().expand(200_000, width)  # two bytes in the file
    torch.save({**tensors(), "token_embedding.weight": stretched}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="they share the same numbers many times"):
        read(tmp_path / "a.pt")


def test_numbers_that_many_tensors_share_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = torch.zeros(1000)
    torch.save({f"layers.{at}.weight": shared for at in range(20)}, tmp_path / "a.pt")
    monkeypatch.setattr(claims, "_SMALL", 0)
    with pytest.raises(CheckpointError, match="have 80,000 bytes, and 4,000 are stored"):
        files.read_tensors(tmp_path / "a.pt")
    torch.save({"a": shared, "tied": shared, "b": torch.ones(10)}, tmp_path / "b.pt")
    assert set(files.read_tensors(tmp_path / "b.pt")) == {"a", "tied", "b"}


def test_a_tensor_under_two_names_stays_one_in_another_precision() -> None:
    whole = torch.arange(6.0).half()
    cast = cast_all({"a": whole, "tied": whole, "part": whole[:3], "count": torch.tensor(1)}, torch.float32)
    assert cast["a"] is cast["tied"]
    assert torch.equal(cast["part"], torch.arange(3.0))
    assert (cast["a"].dtype, cast["count"].dtype) == (torch.float32, torch.int64)


def test_entries_of_an_archive_that_lie_upon_each_other_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(300_000)}, tmp_path / "sound.pt")
    files.read_tensors(tmp_path / "sound.pt")
    out = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "sound.pt") as sound, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sound.namelist():
            archive.writestr(name, sound.read(name))
        first = archive.getinfo(next(name for name in sound.namelist() if "/data/" in name))
        for at in range(1, 50):
            again = copy.copy(first)
            again.filename = f"{first.filename}{at}"
            archive.filelist.append(again)
    (tmp_path / "upon.pt").write_bytes(out.getvalue())
    with pytest.raises(CheckpointError, match=r"its entries claim 6\d,\d{3},\d{3}: it is damaged"):
        files.read_tensors(tmp_path / "upon.pt")


def test_a_shard_that_is_listed_many_times_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "one.safetensors")
    listed = {f"t{at}": f"{'../' * at}one.safetensors" for at in range(50)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    assert files.shards_of(tmp_path / "model.safetensors.index.json") == [tmp_path / "one.safetensors"]


@pytest.mark.parametrize(
    "change", [{"shape": [3000]}, {"data_offsets": [0, 1200]}, {"dtype": "F64"}, {"shape": [2**62]}]
)
def test_a_header_that_lies_is_damaged(change: dict[str, Any], tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["a"] |= change
    told = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(told).to_bytes(8, "little") + told + content[8 + length :])
    with pytest.raises(CheckpointError, match="is cut off or damaged"):
        files.read_tensors(tmp_path / "a.safetensors")


def test_a_configuration_too_long_to_be_one_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"a": "b" * 100}))
    monkeypatch.setattr(files, "MOST_TEXT", 100)
    with pytest.raises(CheckpointError, match="at most 100 are read"):
        files.read_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    "config",
    [
        CLIPConfig(text=TextConfig(layers=10**9)),
        CLIPConfig(text=TextConfig(context=10**7)),
        CLIPConfig(text=TextConfig(vocab_size=2**40)),
        CLIPConfig(image=ViTConfig(image_size=10**6, patch_size=10**5)),
        CLIPConfig(image=ViTConfig(image_size=4096, patch_size=4)),
        CLIPConfig(embed_dim=10**30),
    ],
)
def test_sizes_that_no_network_has_are_refused_before_its_tensors_are_listed(config: CLIPConfig) -> None:
    with pytest.raises(ArgumentError, match=r"wanted [\d,]+ or less"):
        shapes.shapes(config)


# For each number of a configuration: what JSON can hold in its place
ODD = (None, -1, 0, 2.5, float("inf"), 10**9, 10**30, "x", [], {}, [[1]], True)


def places(said: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(said, dict):
        return [path]
    return [*([path] if path else []), *(place for key in said for place in places(said[key], (*path, key)))]


def replaced(said: dict[str, Any], path: tuple[str, ...], value: object) -> str:
    said = json.loads(json.dumps(said))
    inner = said
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(said)


def of_hub(said: dict[str, Any]) -> None:
    expected_specs(huggingface.config_from_json(said, "a"), "a")
    huggingface.ignored_keys(said, "a")


def from_open_clip(said: dict[str, Any]) -> None:
    expected_specs(open_clip_config.config_from_json(said, "a"), "a")
    open_clip_config.ignored_keys(said, "a")
    preprocess_from_json(said.get("preprocess_cfg") or {}, 32, "a")


def of_ours(said: dict[str, Any]) -> None:
    expected_specs(settings.from_fields(said, "a"), "a")


OURS = json.dumps(settings.to_fields(CLIPConfig()))


@pytest.mark.parametrize(
    ("text", "read_config"),
    [
        ((HF_CLIP / "config.json").read_text(encoding="utf-8"), of_hub),
        ((OPEN_CLIP / "open_clip_config.json").read_text(encoding="utf-8"), from_open_clip),
        (OURS, of_ours),
    ],
    ids=["hub", "open_clip", "ours"],
)
def test_no_value_of_a_configuration_is_more_than_an_error(
    text: str, read_config: Callable[[dict[str, Any]], None]
) -> None:
    said, refused = json.loads(text), 0
    read_config(said)
    for path in places(said):
        for value in ODD:
            try:
                read_config(json.loads(replaced(said, path, value)))
            except CheckpointError:
                refused += 1
    assert refused > 100
