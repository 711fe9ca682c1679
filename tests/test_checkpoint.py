"""Models of every format give the reference's vectors, and pass from format to format without losing a bit."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diptych.checkpoint import Checkpoint, CheckpointError, build, convert, open_clip_config, read, save_folder
from diptych.checkpoint.state import differences
from diptych.images import Preprocess
from diptych.nets.clip import CLIP, CLIPConfig
from diptych.nets.presets import PRESETS, preset
from diptych.nets.resnet import ResNetConfig
from diptych.nets.text import TextConfig
from diptych.nets.vision import ViTConfig

GOLDEN = Path(__file__).parent / "golden"
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


# Saving ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformers() -> Iterator[Any]:
    module = pytest.importorskip("transformers")
    module.logging.set_verbosity_error()
    module.logging.disable_progress_bar()
    return module


@pytest.mark.parametrize("source", [HF_CLIP, OPENAI_VIT, OPEN_CLIP, HF_SIGLIP], ids=lambda path: path.stem)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_transformers_opens_what_was_saved(source: Path, dtype: torch.dtype, transformers: Any, tmp_path: Path) -> None:
    checkpoint = read(source)
    folder = save_folder(
        tmp_path / "model",
        (checkpoint.config, checkpoint.state),
        tokenizer_json=None,
        preprocess=SQUASHED,
        dtype=dtype,
    )
    kind = transformers.SiglipModel if source == HF_SIGLIP else transformers.CLIPModel
    model, report = kind.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.dtype == dtype
    wanted = expected(source.relative_to(GOLDEN).parts[0])
    with torch.no_grad():
        output = model.float().eval()(input_ids=wanted["ids"].long(), pixel_values=wanted["images"])
    for name in ("image", "text"):
        torch.testing.assert_close(output[f"{name}_embeds"], wanted[f"{name}_unit"], rtol=0, atol=1e-5)


def test_transformers_prepares_texts_and_pictures_from_what_was_saved(
    transformers: Any, tiny_model: Path, tmp_path: Path
) -> None:
    tiny = read(tiny_model)
    text = "a RED circle, left of 2 squares!"
    ids = transformers.AutoProcessor.from_pretrained(tiny_model)(text=text).input_ids
    siglip = read(HF_SIGLIP)
    config = replace(siglip.config, text=replace(siglip.config.text, pad_id=3))
    folder = save_folder(
        tmp_path / "model", (config, siglip.state), tokenizer_json=tiny.tokenizer_json, preprocess=SQUASHED
    )
    processor = transformers.AutoProcessor.from_pretrained(folder)
    padded = processor(text=text, padding="max_length", max_length=30).input_ids
    assert padded == ids + [3] * (30 - len(ids))
    assert read(folder).config.text.pad_id == 3


@pytest.mark.parametrize("source", SOURCES)
def test_a_model_folder_keeps_everything(source: str, tiny_model: Path, tmp_path: Path) -> None:
    checkpoint, tokenizer_json = read(GOLDEN / source, dtype=None), read(tiny_model).tokenizer_json
    folder = save_folder(
        tmp_path / "model",
        (checkpoint.config, checkpoint.state),
        tokenizer_json=tokenizer_json and tokenizer_json.encode(),
        preprocess=SQUASHED,
        card="# A model",
        dtype=None,
    )
    again = read(folder, dtype=None)
    assert_same_state(again.state, checkpoint.state)
    assert again == (checkpoint.config, again.state, SQUASHED, tokenizer_json, str(folder))
    assert (folder / "README.md").read_text() == "# A model"


def varied(**changes: Any) -> CLIPConfig:
    """vit-tiny with fields of its towers changed, as image__pool="mean"."""
    config = preset("vit-tiny")
    for tower in ("image", "text"):
        fields = {
            key.removeprefix(f"{tower}__"): value for key, value in changes.items() if key.startswith(f"{tower}__")
        }
        config = replace(config, **{tower: replace(getattr(config, tower), **fields)})
    return replace(config, **{key: value for key, value in changes.items() if "__" not in key})


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (preset("vit-tiny"), "clip"),
        (varied(text__pool="argmax", text__end_id=500), "clip"),
        (varied(text__pool="end", text__end_id=500, text__pad_id=7, image__norm_eps=1e-6), "clip"),
        (varied(image__activation="gelu_tanh", text__activation="quick_gelu"), "clip"),
        (varied(text__end_id=2), "diptych"),  # transformers would take it for the mark of pooling by the highest id
        (varied(image__pool="mean"), "diptych"),
        (varied(loss="sigmoid"), "diptych"),
        (varied(image__norm_pre=False), "diptych"),
        (preset("resnet-tiny"), "diptych"),
    ],
)
def test_every_architecture_has_a_folder(config: CLIPConfig, kind: str, tmp_path: Path) -> None:
    network = CLIP(config).eval()
    folder = save_folder(tmp_path / "model", network, tokenizer_json=None, preprocess=SQUASHED)
    assert json.loads((folder / "config.json").read_text())["model_type"] == kind
    again = read(folder)
    assert again.config == config
    assert_same_state(again.state, dict(network.state_dict()))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_s_configuration_comes_back(name: str) -> None:
    from diptych.checkpoint import folder, huggingface

    config = PRESETS[name]
    if huggingface.holds(config):
        assert not differences(config, huggingface.config_from_json(huggingface.config_to_json(config), name))
    else:
        assert isinstance(config.image, ResNetConfig)
        assert folder._from_fields(json.loads(folder.json_text(folder._to_fields(config))), name) == config


def test_a_saved_folder_replaces_a_model_and_keeps_what_is_no_part_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "old").mkdir(parents=True)
    for name in ("config.json", "pytorch_model.bin", "tokenizer.json", "notes.txt", "README.md"):
        (folder / name).write_text('{"model_type": "clip"}')
    checkpoint = read(HF_CLIP)
    save_folder(folder, (checkpoint.config, checkpoint.state), tokenizer_json=None, preprocess=SQUASHED)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json", "notes.txt", "README.md", "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["thesis.txt", "config.json"])
def test_a_folder_that_is_no_model_s_is_not_destroyed(name: str, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / name).write_text("{}")
    checkpoint = read(HF_CLIP)
    with pytest.raises(CheckpointError, match="a folder with other things in it; nothing was written"):
        save_folder(tmp_path / "work", (checkpoint.config, checkpoint.state), tokenizer_json=None, preprocess=SQUASHED)
    with pytest.raises(CheckpointError, match="is a file; nothing was written"):
        convert(HF_CLIP, tmp_path / "work" / name)
    assert (tmp_path / "work" / name).read_text() == "{}"


def test_a_save_that_fails_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = convert(HF_CLIP, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("diptych.checkpoint.folder.save_file", full)
    with pytest.raises(OSError, match="No space"):
        convert(OPENAI_VIT, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_state_that_does_not_fit_is_not_saved(tmp_path: Path) -> None:
    checkpoint = read(HF_CLIP)
    del checkpoint.state["logit_scale"]
    with pytest.raises(CheckpointError, match=r"logit_scale \(\) is missing"):
        save_folder(tmp_path / "m", (checkpoint.config, checkpoint.state), tokenizer_json=None, preprocess=SQUASHED)
    assert not list(tmp_path.iterdir())


# Conversion -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "formats"),
    [
        (HF_CLIP, ("openai", "open_clip", "hf")),
        (OPENAI_VIT, ("hf", "open_clip", "openai")),
        (OPENAI_RESNET, ("hf", "open_clip", "openai")),
        (OPEN_CLIP, ("hf", "open_clip", "hf")),
        (HF_SIGLIP, ("hf", "hf")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else value.stem,
)
def test_there_and_back_bit_for_bit(source: Path, formats: tuple[Any, ...], tmp_path: Path) -> None:
    first = read(source, dtype=None)
    place = source
    for step, form in enumerate(formats):
        place = convert(place, tmp_path / (f"{step}.pt" if form == "openai" else str(step)), to=form)
    last = read(place, dtype=None)
    assert_same_state(last.state, first.state)
    assert not differences(first.config, last.config)
    assert Preprocess.from_hugging_face(last.preprocess or {}) == Preprocess(first.config.image.image_size)


def test_openai_s_own_loader_would_find_its_marks(tmp_path: Path) -> None:
    tensors = torch.load(convert(HF_CLIP, tmp_path / "model.pt", to="openai"), weights_only=True)
    marks = {name: int(tensors[name]) for name in ("input_resolution", "context_length", "vocab_size")}
    assert marks == {"input_resolution": 32, "context_length": 12, "vocab_size": 64}
    theirs = torch.load(GOLDEN / "openai_vit" / "openai_vit_state_dict.pt", weights_only=True)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {name: t.shape for name, t in theirs.items()}


def test_siglip_passes_through_open_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's names and its split query; a tower as small as the reference's is added to those that timm has."""
    trunk = open_clip_config.Trunk(8, 128, 2, 2, 512, "gelu_tanh")
    monkeypatch.setitem(open_clip_config.TRUNKS, "vit_tiny_patch8_siglip_32", trunk)
    folder = convert(HF_SIGLIP, tmp_path / "open_clip", to="open_clip")
    names = load_file(folder / "open_clip_model.safetensors").keys()
    assert {"visual.trunk.attn_pool.kv.weight", "text_projection.bias", "logit_bias"} <= names
    assert_gives(build(read(folder)), expected("hf_siglip"))
    first, last = read(HF_SIGLIP, dtype=None), read(convert(folder, tmp_path / "hf"), dtype=None)
    assert_same_state(last.state, first.state)
    assert not differences(first.config, last.config)


def test_the_tokenizer_goes_along(tiny_model: Path, tmp_path: Path) -> None:
    first = read(tiny_model)
    folder = convert(tiny_model, tmp_path / "open_clip", to="open_clip")
    assert json.loads((folder / "tokenizer_config.json").read_text())["pad_token"] == "<|endoftext|>"
    assert read(folder).tokenizer_json == first.tokenizer_json
    assert read(convert(folder, tmp_path / "hf")).tokenizer_json == first.tokenizer_json


def saved(config: CLIPConfig, folder: Path, preprocess: dict[str, Any] | None = None) -> Path:
    settings = preprocess or Preprocess(config.image.image_size).to_hugging_face()
    return save_folder(folder, CLIP(config), tokenizer_json=None, preprocess=settings)


QUICK = {"image__activation": "quick_gelu", "text__activation": "quick_gelu"}


@pytest.mark.parametrize(
    ("config", "to", "why"),
    [
        (varied(), "openai", "image.activation='gelu' would be read as 'quick_gelu'"),
        (varied(**QUICK), "openai", "image.heads=2 would be read as 1"),
        (varied(**QUICK, image__heads=1, text__end_id=9), "openai", "text.pool='end' would be read as 'argmax'"),
        (
            varied(**QUICK, image__heads=1, image__norm_eps=1e-6),
            "openai",
            "image.norm_eps=1e-06 would be read as 1e-05",
        ),
        (varied(**QUICK, image__heads=1, image__pool="mean"), "openai", "image.pool='mean' would be read as 'class'"),
        (varied(loss="sigmoid"), "openai", "it has no name for logit_bias."),
        (varied(image__width=80, image__heads=4), "openai", "80 wide, which does not divide into heads of 64"),
        (varied(image__activation="quick_gelu"), "open_clip", "image.activation='quick_gelu' would be read as 'gelu'"),
        (varied(image__patch_bias=True), "open_clip", "it has no name for image.patch.bias."),
        (read(HF_SIGLIP).config, "open_clip", "timm has no SigLIP tower of"),
        (read(HF_SIGLIP).config, "openai", "it has no name for logit_bias, image.patch.bias, image.head.probe"),
    ],
)
def test_what_a_format_cannot_hold(config: CLIPConfig, to: Any, why: str, tmp_path: Path) -> None:
    source = saved(config, tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"cannot hold this model|heads of 64") as error:
        convert(source, tmp_path / "other", to=to)
    assert why in str(error.value)
    assert not (tmp_path / "other").exists()


def test_openai_s_format_has_one_preprocessing(tmp_path: Path) -> None:
    source = saved(read(OPENAI_VIT).config, tmp_path / "model", SQUASHED)
    with pytest.raises(CheckpointError, match=r"prepare pictures as OpenAI does, not with .*mode='squash'"):
        convert(source, tmp_path / "model.pt", to="openai")


def test_an_unknown_format() -> None:
    with pytest.raises(CheckpointError, match=r"to='onnx' is not known; choose one of hf, open_clip, openai"):
        convert(HF_CLIP, "x", to="onnx")  # type: ignore[arg-type]


def test_half_precision_on_request(tmp_path: Path) -> None:
    folder = convert(OPEN_CLIP, tmp_path / "half", dtype=torch.float16)
    assert {tensor.dtype for tensor in read(folder, dtype=None).state.values()} == {torch.float16}


def test_a_checkpoint_is_a_plain_value() -> None:
    config, _, preprocess, tokenizer_json, source = read(OPENAI_VIT)
    assert isinstance(Checkpoint(config, {}, preprocess, tokenizer_json, source).config.image, ViTConfig)
