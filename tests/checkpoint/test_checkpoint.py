"""Models of every format give the reference's vectors, and pass from format to format without losing a bit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diptych.checkpoint import build, read
from diptych.errors import CheckpointError
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, ResNetConfig, TextConfig
from diptych.nets.presets import preset

GOLDEN = Path(__file__).parents[1] / "golden"
# Measured: 7e-7 of the largest number at worst (the reference sums in another order).
TOLERANCE = 1e-5
SOURCES = [
    "hf_clip",
    "hf_siglip",
    "openai_vit/openai_vit.pt",
    "openai_vit/openai_vit_state_dict.pt",
    "openai_resnet/openai_resnet.pt",
    "openai_resnet/openai_resnet_state_dict.pt",
    "openclip_odd_heads",
]
OPENAI_VIT = GOLDEN / "openai_vit" / "openai_vit.pt"
OPENAI_RESNET = GOLDEN / "openai_resnet" / "openai_resnet.pt"
HF_CLIP, HF_SIGLIP, OPEN_CLIP = GOLDEN / "hf_clip", GOLDEN / "hf_siglip", GOLDEN / "openclip_odd_heads"
SQUASHED = Preprocess(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "squash").to_hugging_face()


def expected(source: str | Path) -> dict[str, Tensor]:
    folder = GOLDEN / source
    return load_file((folder if folder.is_dir() else folder.parent) / "expected.safetensors")


def assert_gives(network: CLIP, wanted: dict[str, Tensor]) -> None:
    with torch.no_grad():
        output = network(wanted["images"], wanted["ids"])
        came = {"image_unit": output.image, "text_unit": output.text}
        came |= {"image_features": network.encode_image(wanted["images"])}
        came |= {"text_features": network.encode_text(wanted["ids"])}
        bias = 0 if output.bias is None else output.bias
        came |= {"logits_per_image": output.scale * output.image @ output.text.T + bias}
    for name in came.keys() & wanted.keys():
        error = (came[name] - wanted[name]).abs().max() / wanted[name].abs().max()
        assert error < TOLERANCE, f"{name} is {error:.1e} off"


def assert_same_state(came: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert came.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert came[name].dtype == tensor.dtype, name
        assert torch.equal(came[name], tensor), name


def rewritten(folder: Path, target: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """A Hugging Face folder whose tensors went through `change`."""
    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file(change(load_file(folder / "model.safetensors")), target / "model.safetensors")
    return target


def varied(**changes: Any) -> CLIPConfig:
    """vit-tiny with fields of its towers changed, as image__pool="mean"."""
    config = preset("vit-tiny")
    for tower in ("image", "text"):
        fields = {
            key.removeprefix(f"{tower}__"): value for key, value in changes.items() if key.startswith(f"{tower}__")
        }
        config = replace(config, **{tower: replace(getattr(config, tower), **fields)})
    return replace(config, **{key: value for key, value in changes.items() if "__" not in key})


@pytest.mark.parametrize("source", SOURCES)
def test_vectors_are_the_reference_s(source: str) -> None:
    assert_gives(build(read(GOLDEN / source)), expected(source))


def test_text_states_are_the_reference_s_up_to_the_end_token() -> None:
    """Beyond it the reference has masked padding out, which a causal tower need not do."""
    wanted = expected("hf_clip")
    with torch.no_grad():
        states = build(read(HF_CLIP)).text.states(wanted["ids"])
    inside = wanted["mask"].bool()
    torch.testing.assert_close(states[inside], wanted["text_hidden"][inside], rtol=1e-5, atol=1e-5)


def test_weights_are_float32_unless_asked_otherwise() -> None:
    assert {t.dtype for t in read(HF_CLIP).state.values()} == {torch.float32}
    assert {t.dtype for t in read(HF_CLIP, dtype=None).state.values()} == {torch.float16}
    counters = [t for name, t in read(OPENAI_RESNET).state.items() if name.endswith("num_batches_tracked")]
    assert {t.dtype for t in counters} == {torch.int64}


def test_the_network_is_ready_to_use_and_to_train() -> None:
    network = build(read(HF_SIGLIP))
    assert not network.training
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in network.parameters())


def test_what_openai_s_archive_says_of_itself() -> None:
    checkpoint = read(OPENAI_RESNET)
    assert checkpoint.config.image == ResNetConfig(64, (1, 2, 1, 1), 8, heads=4)
    assert checkpoint.config.text == TextConfig(12, 64, 64, 2, 1, 256, "quick_gelu", end_id=63)
    assert checkpoint.preprocess == Preprocess(64).to_hugging_face()
    assert checkpoint.tokenizer_json is None


# Spellings ------------------------------------------------------------------------------------------------------------


def without(prefix: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def with_counters(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {
        f"{tower}.embeddings.position_ids": torch.arange(12)[None] for tower in ("text_model", "vision_model")
    }


@pytest.mark.parametrize("change", [without("text_model."), without("vision_model."), with_counters])
@pytest.mark.parametrize("source", ["hf_clip", "hf_siglip"])
def test_other_versions_spellings(source: str, change: Any, tmp_path: Path) -> None:
    assert_gives(build(read(rewritten(GOLDEN / source, tmp_path / "model", change))), expected(source))


def test_weights_in_several_files(tmp_path: Path) -> None:
    tensors = load_file(HF_CLIP / "model.safetensors")
    shards = {f"model-0000{i + 1}-of-00003.safetensors": list(tensors)[i::3] for i in range(3)}
    for shard, names in shards.items():
        save_file({name: tensors[name] for name in names}, tmp_path / shard)
    index = {"weight_map": {name: shard for shard, names in shards.items() for name in names}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_bytes((HF_CLIP / "config.json").read_bytes())
    assert_gives(build(read(tmp_path)), expected("hf_clip"))
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003.safetensors is missing; .* lists it among 3"):
        read(tmp_path)


def test_pickled_weights_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((HF_CLIP / "config.json").read_bytes())
    torch.save(load_file(HF_CLIP / "model.safetensors"), tmp_path / "pytorch_model.bin")
    assert_gives(build(read(tmp_path)), expected("hf_clip"))


def test_open_clip_s_training_checkpoint_with_a_text_tower_of_its_own(tmp_path: Path) -> None:
    """custom_text, DistributedDataParallel, and a training script's wrapping, all at once."""
    tensors = load_file(OPEN_CLIP / "open_clip_model.safetensors")
    spelt = {name if name.startswith(("visual.", "logit_")) else f"text.{name}": t for name, t in tensors.items()}
    weights = {f"module.{name}": tensor for name, tensor in spelt.items()}
    torch.save({"epoch": 3, "state_dict": weights}, tmp_path / "open_clip_pytorch_model.bin")
    (tmp_path / "open_clip_config.json").write_bytes((OPEN_CLIP / "open_clip_config.json").read_bytes())
    assert_gives(build(read(tmp_path)), expected("openclip_odd_heads"))


def test_a_list_of_one_is_a_number(tmp_path: Path) -> None:
    folder = rewritten(
        HF_CLIP, tmp_path / "model", lambda tensors: tensors | {"logit_scale": tensors["logit_scale"][None]}
    )
    assert read(folder).state["logit_scale"].shape == ()


def test_settings_of_the_oldest_folders(tmp_path: Path) -> None:
    """text_config_dict, where it is not null, goes before text_config, with the class's defaults."""
    folder = rewritten(HF_CLIP, tmp_path / "model", dict)
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config_dict"], settings["text_config"] = settings["text_config"], {"hidden_size": 999}
    settings["vision_config_dict"] = None
    (folder / "config.json").write_text(json.dumps(settings))
    assert read(folder).config == read(HF_CLIP).config


# The end token and padding --------------------------------------------------------------------------------------------


def settings_with(tmp_path: Path, source: Path, **text: Any) -> Path:
    folder = rewritten(source, tmp_path / "model", dict)
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"] |= text
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_an_end_token_of_2_means_the_highest_id(tmp_path: Path) -> None:
    text = read(settings_with(tmp_path, HF_CLIP, eos_token_id=2, bos_token_id=0)).config.text
    assert (text.pool, text.end_id) == ("argmax", 63)


def test_padding_is_what_the_tokenizer_pads_with(tmp_path: Path) -> None:
    """SigLIP 2's config.json leaves 1 to be assumed; its tokenizer pads with 0."""
    vocabulary = {"<pad>": 0, "<eos>": 1, "a": 2}
    tokenizer = {"model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"}, "added_tokens": []}
    folder = settings_with(tmp_path, HF_SIGLIP)
    assert read(folder).config.text.pad_id == 1
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "<pad>"}}))
    assert read(folder).config.text.pad_id == 0
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"padding": {"pad_id": 2}}))
    assert read(folder).config.text.pad_id == 2


def test_padding_that_no_clip_tokenizer_has_is_not_believed() -> None:
    assert json.loads((HF_CLIP / "config.json").read_text())["text_config"]["pad_token_id"] == 1
    assert read(HF_CLIP).config.text.pad_id == 63
