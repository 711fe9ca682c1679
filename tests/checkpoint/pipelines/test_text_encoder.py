"""A text tower written as Stable Diffusion's text encoder is what transformers computes, and is read back as it was."""

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
from diptych.checkpoint.formats.bert import read_text_tower
from diptych.checkpoint.formats.text_tower import TextTower
from diptych.checkpoint.pipelines.text_encoder import read_text_encoder, save_text_encoder
from diptych.embedder import Embedder
from diptych.errors import ArgumentError, CheckpointError, TokenizerError
from diptych.text.cleaning import PLAIN

TEXTS = ["a RED circle", "a blue star, left of 2 squares!", "", "Café   ☕"]
GOLDEN = Path(__file__).parents[2] / "golden"
WEIGHTS = Path("text_encoder") / "model.safetensors"


@pytest.fixture(scope="module")
def transformers() -> Any:
    module = pytest.importorskip("transformers")
    module.logging.set_verbosity_error()
    module.logging.disable_progress_bar()
    return module


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Embedder:
    """Biases and norms are random as well, so that none can be left out unseen."""
    model = diptych.load(tiny_model, engine="pytorch", device="cpu")
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.network.text.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter += 0.3 * torch.randn_like(parameter)
    return model


@pytest.fixture
def pipeline(model: Embedder, tmp_path: Path) -> Path:
    return model.save_text_encoder(tmp_path / "pipeline")


def edit(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content | changes))


def rewrite(pipeline: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(change(load_file(pipeline / WEIGHTS)), pipeline / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("pad", ["own", "end"])
def test_states_are_those_of_transformers(
    skip: int, pad: str, model: Embedder, transformers: Any, tmp_path: Path
) -> None:
    """At every position, padding too, in the last and the last but one layer, from the texts on."""
    end_id = model.config.text.end_id
    folder = model.save_text_encoder(tmp_path / "pipeline", pad_id=end_id if pad == "end" else None)
    theirs, report = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    texts = [text.replace("!", "") for text in TEXTS]  # "!" is the token that pads, as in Stable Diffusion 2
    ids = tokenizer(
        texts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids
    tower = read_text_encoder(folder)
    tokens = tower.tokenizer()(texts, fill_context=True)
    assert tokens.ids.tolist() == ids.tolist()
    assert (tokens.ids[~tokens.mask] == (end_id if pad == "end" else 0)).all()
    with torch.no_grad():
        output = theirs.eval()(ids, output_hidden_states=True)
        wanted = theirs.final_layer_norm(output.hidden_states[-(skip + 1)])
        for text in (model.network.text, tower.network()):
            torch.testing.assert_close(text.states(torch.from_numpy(tokens.ids), skip=skip), wanted, rtol=0, atol=1e-5)
    if not skip:
        torch.testing.assert_close(wanted, output.last_hidden_state)


def test_layers_that_are_not_there_cannot_be_left_out(model: Embedder) -> None:
    ids = torch.zeros(1, 3, dtype=torch.int64)
    for skip in (-1, 2):
        with pytest.raises(ArgumentError, match=f"skip={skip} .*wanted 0 to 1, for this tower has 2"):
            model.network.text.states(ids, skip=skip)


def test_what_is_read_is_what_was_saved(model: Embedder, pipeline: Path) -> None:
    tower, state = read_text_encoder(pipeline), model.network.state_dict()
    assert tower.config == model.config.text
    names = {name for name in state if name.startswith("text.")}
    assert tower.state.keys() == names
    assert all(torch.equal(tower.state[name], state[name]) for name in names - {"text.proj.weight"})
    assert torch.equal(tower.state["text.proj.weight"], torch.eye(tower.config.width))
    ours = model.tokenize(TEXTS, fill_context=True)
    assert ours.ids.shape == (len(TEXTS), 40)
    assert np.array_equal(ours.ids, tower.tokenizer()(TEXTS, fill_context=True).ids)


def test_both_spellings_of_keys_are_read(pipeline: Path) -> None:
    wanted = read_text_encoder(pipeline).state
    rewrite(pipeline, lambda tensors: {f"text_model.{name}": tensor for name, tensor in tensors.items()})
    came = read_text_encoder(pipeline).state
    assert all(torch.equal(came[name], tensor) for name, tensor in wanted.items())


def test_a_text_encoder_with_its_projection_keeps_it(pipeline: Path) -> None:
    """Stable Diffusion XL's second: CLIPTextModelWithProjection."""
    projection = torch.randn(24, 64)
    rewrite(
        pipeline,
        lambda tensors: {f"text_model.{k}": v for k, v in tensors.items()} | {"text_projection.weight": projection},
    )
    (pipeline / "text_encoder").rename(pipeline / "text_encoder_2")
    (pipeline / "tokenizer").rename(pipeline / "tokenizer_2")
    tower = read_text_encoder(pipeline, "text_encoder_2")
    assert tower.network()(torch.tensor([[598, 5, 599]])).shape == (1, 24)
    assert torch.equal(tower.state["text.proj.weight"], projection)
    with pytest.raises(ArgumentError, match=r"part='unet' is no text encoder .*'text_encoder' or 'text_encoder_2'"):
        read_text_encoder(pipeline, "unet")


def test_padding_is_read_where_stable_diffusion_2_has_it(pipeline: Path, transformers: Any) -> None:
    edit(pipeline / "tokenizer" / "tokenizer_config.json", pad_token="<|endoftext|>")
    edit(pipeline / "tokenizer" / "special_tokens_map.json", pad_token="#")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(pipeline / "tokenizer")
    assert read_text_encoder(pipeline).config.pad_id == tokenizer.pad_token_id == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {f"model.{k}x": v for k, v in t.items()}, r"text_encoder: \d+ of its tensors do not fit"),
        (
            lambda t: {k: v for k, v in t.items() if ".layers.1." not in k},
            r"text_model\.encoder\.layers\.1\.layer_norm1\.bias \(64\) is missing",
        ),
        (
            lambda t: t | {"final_layer_norm.weight": torch.ones(32)},
            r"text_model\.final_layer_norm\.weight is \(32\), wanted \(64\)",
        ),
        (lambda t: t | {"more.weight": torch.ones(2)}, r"more\.weight \(2\) is not expected"),
        (
            lambda t: t | {"final_layer_norm.weight": torch.full((64,), torch.nan)},
            r"text\.norm_post\.weight has NaN or infinity",
        ),
    ],
    ids=["names", "layer", "shape", "more", "nan"],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str, pipeline: Path
) -> None:
    rewrite(pipeline, change)
    with pytest.raises(CheckpointError, match=message):
        read_text_encoder(pipeline)


def test_other_folders_are_refused(pipeline: Path) -> None:
    with pytest.raises(CheckpointError, match="has no folder text_encoder; wanted the folder of a Stable Diffusion"):
        read_text_encoder(pipeline / "tokenizer")
    edit(pipeline / "text_encoder" / "config.json", model_type="t5")
    with pytest.raises(CheckpointError, match=r"model_type='t5' is not supported; 'clip_text_model' is"):
        read_text_encoder(pipeline)


def test_a_width_that_the_unet_does_not_read_is_refused(model: Embedder, pipeline: Path, tmp_path: Path) -> None:
    edit(pipeline / "unet" / "config.json", cross_attention_dim=64)
    assert model.save_text_encoder(pipeline) == pipeline
    edit(pipeline / "unet" / "config.json", cross_attention_dim=[64, 64])
    assert read_text_encoder(pipeline).config.width == 64
    edit(pipeline / "unet" / "config.json", cross_attention_dim=768)
    message = r"its UNet reads states of width 768 \(cross_attention_dim .* gives 64 of text_encoder"
    with pytest.raises(CheckpointError, match=message):
        read_text_encoder(pipeline)
    before = (pipeline / WEIGHTS).stat()
    with pytest.raises(CheckpointError, match=message):
        model.save_text_encoder(pipeline)
    assert (pipeline / WEIGHTS).stat() == before
    edit(pipeline / "text_encoder_2" / "config.json", hidden_size=704)  # the states of both are concatenated
    assert read_text_encoder(pipeline).config.width == 64
    edit(pipeline / "unet" / "config.json", encoder_hid_dim=32)
    with pytest.raises(CheckpointError, match=r"width 32 \(encoder_hid_dim .* 64 of text_encoder \+ 704 of text_enc"):
        read_text_encoder(pipeline)


def test_a_pipeline_keeps_its_other_folders_and_no_old_weights(model: Embedder, pipeline: Path) -> None:
    (pipeline / "vae").mkdir()
    edit(pipeline / "model_index.json", vae=[None, None], text_encoder=[None, None])
    (pipeline / "text_encoder" / "pytorch_model.bin").write_bytes(b"old")
    model.save_text_encoder(pipeline)
    assert {path.name for path in pipeline.iterdir()} == {"text_encoder", "tokenizer", "vae", "model_index.json"}
    assert {path.name for path in (pipeline / "text_encoder").iterdir()} == {"config.json", "model.safetensors"}
    classes = {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    assert json.loads((pipeline / "model_index.json").read_text()) == {"vae": [None, None]} | classes


@pytest.mark.parametrize("name", ["text_encoder", "tokenizer"])
def test_a_folder_with_other_files_is_not_replaced(name: str, model: Embedder, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "letter.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="a folder with other files in it; nothing was written"):
        model.save_text_encoder(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [name, f"{name}/letter.txt"]


def test_towers_of_another_form_are_refused(tmp_path: Path) -> None:
    """The bundled model's and sentence encoders', and SigLIP's."""
    siglip = read(GOLDEN / "hf_siglip")
    towers = {
        "a sentence encoder in BERT's form": read_text_tower(GOLDEN / "hf_bert"),
        "bidirectional, as SigLIP's": TextTower(siglip.config.text, dict(siglip.state), "", PLAIN),
    }
    for found, tower in towers.items():
        with pytest.raises(CheckpointError, match=f"^it cannot be Stable Diffusion's .*{found}.*clip-vit-b-32"):
            save_text_encoder(tmp_path / "pipeline", tower, source="it")
    assert not (tmp_path / "pipeline").exists()


def test_a_tokenizer_must_belong_to_the_tower(model: Embedder, tiny_model: Path, tmp_path: Path) -> None:
    golden = read(GOLDEN / "openai_vit" / "openai_vit.pt")
    network = build(golden)
    tower = TextTower(golden.config.text, network.state_dict(), "", golden.text_preprocessing)
    with pytest.raises(TokenizerError, match=r"the model has no tokenizer\.json"):
        save_text_encoder(tmp_path / "pipeline", tower)
    with pytest.raises(CheckpointError, match=r"makes the ids \[598, 599\] of an empty text and has 600 tokens; its"):
        save_text_encoder(tmp_path / "pipeline", tower._replace(tokenizer_json=model.tokenizer_json or ""))
    assert not (tmp_path / "pipeline").exists()
