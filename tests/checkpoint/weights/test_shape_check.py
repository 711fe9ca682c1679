"""Tensors that are not those of the configuration are refused by both engines in the same words, and a model is found
under whatever its tensors were wrapped in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import diptych
from diptych.checkpoint import build, read
from diptych.errors import CheckpointError
from diptych.nets.config import ResNetConfig
from tests.checkpoint.test_checkpoint import GOLDEN, HF_CLIP, HF_SIGLIP, OPEN_CLIP, expected, varied
from tests.checkpoint.test_saving import saved

Tensors = dict[str, Tensor]
FC = "text_model.encoder.layers.1.mlp.fc1"


def folder_of(source: Path, folder: Path, change: Callable[[Tensors, dict[str, Any]], object]) -> Path:
    """A model folder with its tensors and its config.json changed."""
    folder.mkdir()
    tensors, settings = load_file(source / "model.safetensors"), json.loads((source / "config.json").read_text())
    change(tensors, settings)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(settings))
    for name in ("preprocessor_config.json", "tokenizer.json"):
        if (source / name).is_file():
            (folder / name).write_bytes((source / name).read_bytes())
    return folder


def put(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Callable[[Tensors, dict[str, Any]], None]:
    return lambda tensors, _: tensors.update({name: torch.ones(shape, dtype=dtype)})


def of_int8(tensors: Tensors, _: dict[str, Any]) -> None:
    """As quantisers keep them: the numbers of a weight in 8 bits, and their scale beside."""
    tensors[f"{FC}.weight"] = (tensors[f"{FC}.weight"] * 100).to(torch.int8)
    tensors[f"{FC}.SCB"] = torch.ones(len(tensors[f"{FC}.weight"]))


REFUSED: dict[str, tuple[Callable[[Tensors, dict[str, Any]], object], str]] = {
    "fewer layers": (lambda _, c: c["text_config"].update(num_hidden_layers=1), "16 of its tensors do not fit"),
    "more layers": (lambda _, c: c["vision_config"].update(num_hidden_layers=3), "layers.2.* is missing"),
    "no bias": (lambda t, _: t.pop(f"{FC}.bias"), f"{FC}.bias .* is missing"),
    "adapters": (put(f"{FC}.lora_A.default.weight", 4, 64), f"{FC}.lora_A.default.weight .4, 64. is not expected"),
    "adapters' remedy": (
        put(f"{FC}.lora_B.weight", 4, 64),
        "The file has adapters beside the weights: merge both first",
    ),
    "8 bits' remedy": (of_int8, "in bitsandbytes' 8 bits: save them again"),
    "registers": (put("vision_model.embeddings.register_tokens", 4, 128), "register_tokens .4, 128. is not expected"),
    "another head": (put("classifier.weight", 10, 32), r"classifier.weight .10, 32. is not expected"),
    "8 bits": (of_int8, f"{FC}.SCB .* is not expected; {FC}.weight is .* int8, wanted"),
    "transposed": (lambda t, _: t.update({f"{FC}.weight": t[f"{FC}.weight"].t().contiguous()}), f"{FC}.weight is"),
    "a vector for a scale": (put("logit_scale", 2), r"logit_scale is \(2\), wanted \(\)"),
}


@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
@pytest.mark.parametrize("fault", REFUSED)
def test_what_does_not_fit_is_refused_by_name(fault: str, engine: Any, tmp_path: Path) -> None:
    change, says = REFUSED[fault]
    with pytest.raises(CheckpointError, match=says) as error:
        diptych.load(folder_of(HF_CLIP, tmp_path / "model", change), engine=engine, device="cpu")
    assert "not fit its configuration" in str(error.value)


def resnet(folder: Path) -> Path:
    from dataclasses import replace

    return saved(replace(varied(), image=ResNetConfig(64, (1, 1, 1, 1), 8, heads=4)), folder)


def without_counters(tensors: Tensors, _: Any) -> None:
    for name in [name for name in tensors if name.endswith("num_batches_tracked")]:
        del tensors[name]


@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
@pytest.mark.parametrize(
    ("change", "said"),
    [(lambda tensor: tensor.to("meta"), "without its numbers"), (Tensor.to_sparse, "of layout torch.sparse_coo")],
    ids=["meta", "sparse"],
)
def test_tensors_that_hold_no_numbers_or_not_all(change: Any, said: str, engine: Any, tmp_path: Path) -> None:
    tensors = load_file(HF_CLIP / "model.safetensors")
    for name in ("config.json", "preprocessor_config.json"):
        if (HF_CLIP / name).is_file():
            (tmp_path / name).write_bytes((HF_CLIP / name).read_bytes())
    tensors["text_projection.weight"] = change(tensors["text_projection.weight"])
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=f"text_projection.weight is .* {said}, wanted"):
        diptych.load(tmp_path, engine=engine, device="cpu")


@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_what_is_no_weight_may_be_there_or_not(engine: Any, tmp_path: Path) -> None:
    def more(tensors: Tensors, _: Any) -> None:
        tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        tensors["text_model.attn_mask"] = torch.ones(77, 77)
        tensors["n_averaged"] = torch.tensor(3)

    clip = folder_of(HF_CLIP, tmp_path / "clip", more)
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    options: dict[str, Any] = {"engine": engine, "device": "cpu", "precision": "float32"}
    wanted = diptych.load(HF_CLIP, **options).embed_pixels(pixels)
    np.testing.assert_array_equal(diptych.load(clip, **options).embed_pixels(pixels), wanted)
    source = resnet(tmp_path / "source")
    counterless = folder_of(source, tmp_path / "resnet", without_counters)
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    model = diptych.load(counterless, **options)
    np.testing.assert_array_equal(model.embed_pixels(pixels), diptych.load(source, **options).embed_pixels(pixels))
    assert model.network.state_dict()["image.bn1.num_batches_tracked"] == 0


def test_a_coca_s_decoder_is_left_out(tmp_path: Path) -> None:
    tensors = load_file(OPEN_CLIP / "open_clip_model.safetensors")
    save_file(tensors | {"text_decoder.ln_final.weight": torch.ones(8)}, tmp_path / "open_clip_model.safetensors")
    settings = json.loads((OPEN_CLIP / "open_clip_config.json").read_text())
    settings["model_cfg"]["multimodal_cfg"] = {"layers": 1, "width": 8, "heads": 1}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    assert read(tmp_path).state.keys() == read(OPEN_CLIP).state.keys()


PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "model.", "clip.", "clip_model.", "net.")


@pytest.mark.parametrize("prefix", [*PREFIXES, "module._orig_mod.", "model.clip_model.module."])
@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_what_a_model_was_wrapped_in_is_stripped(prefix: str, engine: Any, tmp_path: Path) -> None:
    def wrap(tensors: Tensors, _: Any) -> None:
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    folder = folder_of(HF_CLIP, tmp_path / "model", wrap)
    assert diptych.load(folder, engine=engine, device="cpu").fingerprint == diptych.load(HF_CLIP).fingerprint


def test_blocks_that_were_wrapped_one_by_one(tmp_path: Path) -> None:
    """FSDP, torch.compile and activation checkpointing wrap each block; their names stand in the middle."""

    def wrap(tensors: Tensors, _: Any) -> None:
        for name in list(tensors):
            inner = "_fsdp_wrapped_module._checkpoint_wrapped_module._orig_mod."
            tensors["_fsdp_wrapped_module." + name.replace("layers.1.", f"layers.1.{inner}")] = tensors.pop(name)

    folder = folder_of(HF_SIGLIP, tmp_path / "model", wrap)
    state, wanted = read(folder).state, read(HF_SIGLIP).state
    assert all(torch.equal(state[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_in_shards_as_well(engine: Any, tmp_path: Path) -> None:
    tensors = {f"module.{name}": tensor for name, tensor in load_file(HF_CLIP / "model.safetensors").items()}
    names = sorted(tensors)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, tmp_path / file)
        index |= dict.fromkeys(part, file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (tmp_path / "config.json").write_bytes((HF_CLIP / "config.json").read_bytes())
    assert diptych.load(tmp_path, engine=engine, device="cpu").fingerprint == diptych.load(HF_CLIP).fingerprint


@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_two_models_in_one_file(engine: Any, tmp_path: Path) -> None:
    folder = folder_of(HF_CLIP, tmp_path / "model", put("module.logit_scale"))
    with pytest.raises(CheckpointError, match=r"logit_scale and module.logit_scale|module.logit_scale and logit_scale"):
        diptych.load(folder, engine=engine, device="cpu")


@pytest.mark.parametrize(
    "path",
    [
        "state_dict",
        "model_state_dict",
        "model",
        "net",
        "module",
        "params",
        "weights",
        "ema",
        "checkpoint.model",
        "model.net",
    ],
)
def test_under_the_names_of_training_scripts(path: str, tmp_path: Path) -> None:
    tensors = torch.load(GOLDEN / "openai_vit" / "openai_vit_state_dict.pt", weights_only=True)
    content: Any = {f"module.{name}": tensor for name, tensor in tensors.items()} | {"n_averaged": torch.tensor(7)}
    for key in reversed(path.split(".")):
        content = {"epoch": 3, "optimizer": {"state": {}}, "params": {"lr": 1e-4}, key: content}
    torch.save(content, tmp_path / "model.pt")
    if path.startswith("checkpoint"):
        with pytest.raises(CheckpointError, match="contains more than tensors: epoch, optimizer"):
            read(tmp_path / "model.pt")
        return
    network, wanted = build(read(tmp_path / "model.pt")), expected("openai_vit")
    torch.testing.assert_close(network.encode_image(wanted["images"]), wanted["image_features"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "preprocessor_config.json"])
@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_pointers_of_git_lfs_are_named(name: str, engine: Any, tiny_model: Path, tmp_path: Path) -> None:
    for path in tiny_model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605157884\n"
    (tmp_path / name).write_text(pointer)
    with pytest.raises(CheckpointError, match=rf"{name} is a Git LFS pointer, not the file itself; run `git lfs pull`"):
        diptych.load(tmp_path, engine=engine, device="cpu")
