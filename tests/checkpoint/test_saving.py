"""What is saved is what was read: in the model folder, for transformers, and from format to format, to the bit."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from diptych.checkpoint import Checkpoint, build, convert, read, save_folder
from diptych.checkpoint.formats import huggingface, open_clip, open_clip_config, openai
from diptych.checkpoint.replacement import json_text
from diptych.checkpoint.settings import from_fields, to_fields
from diptych.checkpoint.state import differences
from diptych.errors import CheckpointError
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, EfficientNetConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.nets.presets import PRESETS, preset
from tests.checkpoint.test_checkpoint import (
    GOLDEN,
    HF_CLIP,
    HF_SIGLIP,
    OPEN_CLIP,
    OPENAI_RESNET,
    OPENAI_VIT,
    SOURCES,
    SQUASHED,
    assert_gives,
    assert_same_state,
    expected,
    varied,
)


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
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode
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
        text_preprocessing=checkpoint.text_preprocessing,
        card="# A model",
        dtype=None,
    )
    again = read(folder, dtype=None)
    assert_same_state(again.state, checkpoint.state)
    assert again == checkpoint._replace(
        state=again.state, preprocess=SQUASHED, tokenizer_json=tokenizer_json, source=str(folder),
        notes=(), ignored_keys=again.ignored_keys,
    )  # fmt: skip
    assert (folder / "README.md").read_text() == "# A model"


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

    config = PRESETS[name]
    if huggingface.holds(config):
        assert not differences(config, huggingface.config_from_json(huggingface.config_to_json(config), name))
    else:
        assert isinstance(config.image, ResNetConfig | EfficientNetConfig)
        assert from_fields(json.loads(json_text(to_fields(config))), name) == config


def test_a_state_that_does_not_fit_is_not_saved(tmp_path: Path) -> None:
    checkpoint = read(HF_CLIP)
    del checkpoint.state["logit_scale"]
    with pytest.raises(CheckpointError, match=r"logit_scale \(\) is missing"):
        save_folder(tmp_path / "m", (checkpoint.config, checkpoint.state), tokenizer_json=None, preprocess=SQUASHED)
    assert not list(tmp_path.iterdir())


# Conversion -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:transformers has no class")
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


@pytest.mark.parametrize("to", ["openai", "open_clip"])
def test_a_finer_map_is_our_own_forms_alone(to: Any, tmp_path: Path) -> None:
    text = TextConfig(16, 100, 64, 2, 1, 256, activation="quick_gelu", end_id=99)
    config = CLIPConfig(32, ResNetConfig(64, (1, 1, 1, 1), 8, heads=4, stride=16), text)
    folder = saved(config, tmp_path / "model")
    assert read(folder).config == config
    with pytest.raises(CheckpointError, match=r"image\.stride=16 would be read as 32"):
        convert(folder, tmp_path / "other", to=to)


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


def test_an_efficientnet_is_saved_in_our_form_and_in_no_other(tmp_path: Path) -> None:
    network = CLIP(preset("efficientnet-tiny"))
    spec = Preprocess(64).to_hugging_face()
    read_back = read(save_folder(tmp_path / "model", network, tokenizer_json=None, preprocess=spec))
    assert read_back.config == network.config
    assert_same_state(dict(read_back.state), network.state_dict())
    assert json.loads((tmp_path / "model" / "config.json").read_text())["image"]["tower"] == "efficientnet"
    for write in (open_clip.write, openai.write):
        with pytest.raises(CheckpointError, match="cannot hold this model: its image tower is an EfficientNet"):
            write(read_back)


def test_a_checkpoint_is_a_plain_value() -> None:
    config, _, preprocess, tokenizer_json, source, *_ = read(OPENAI_VIT)
    assert isinstance(Checkpoint(config, {}, preprocess, tokenizer_json, source).config.image, ViTConfig)


# As OpenAI's, but small; then up to three fields are changed.
TEXT = TextConfig(9, 20, 64, 1, 1, 99, "quick_gelu", end_id=19)
TOWERS = [ViTConfig(16, 8, 64, 1, 1, 99, "quick_gelu"), ResNetConfig(32, (1, 2, 1, 1), 4, heads=2)]
CHANGES = {
    "image": {"width": [128], "layers": [2], "heads": [2], "activation": ["gelu", "gelu_tanh"], "pool": ["mean"],
              "norm_pre": [False], "patch_bias": [True], "norm_eps": [1e-6], "image_size": [24, 33]},
    "text": {"width": [128], "heads": [2], "layers": [2], "activation": ["gelu"], "pool": ["end", "last"],
             "pad_id": [3], "causal": [False], "end_id": [2, 18], "proj_bias": [True], "norm_eps": [1e-6],
             "mlp_width": [7]},
    "": {"embed_dim": [64], "loss": ["sigmoid"]},
}  # fmt: skip
ONE_CHANGE = st.sampled_from(
    [(tower, field, value) for tower, fields in CHANGES.items() for field in fields for value in fields[field]]
)


@st.composite
def configurations(draw: st.DrawFn) -> CLIPConfig:
    config: Any = CLIPConfig(8, draw(st.sampled_from(TOWERS)), TEXT)
    for tower, field, value in draw(st.lists(ONE_CHANGE, max_size=3)):
        part: Any = getattr(config, tower) if tower else config
        if isinstance(part, ResNetConfig):
            continue
        part = replace(part, **{field: value})
        config = replace(config, **{tower: part}) if tower else part
    return config


@settings(max_examples=100)
@given(configurations())
def test_a_format_holds_a_model_whole_or_says_that_it_cannot(config: CLIPConfig) -> None:
    checkpoint = Checkpoint(config, CLIP(config).state_dict(), None, None, "a model")
    if huggingface.holds(config):
        written = huggingface.config_to_json(config)
        tensors = huggingface.write_state(checkpoint.state, written)
        assert_same_state(huggingface.read_state(tensors, written, config, "again"), checkpoint.state)
        assert not differences(config, huggingface.config_from_json(json.loads(json.dumps(written)), "again"))
    for through in (through_open_clip, through_openai):
        try:
            again = through(checkpoint)
        except CheckpointError:
            continue
        assert_same_state(again.state, checkpoint.state)
        assert not differences(config, again.config)


def through_open_clip(checkpoint: Checkpoint) -> Checkpoint:
    return open_clip.read(*open_clip.write(checkpoint), "again")


def through_openai(checkpoint: Checkpoint) -> Checkpoint:
    return openai.read(openai.write(checkpoint), "again")
