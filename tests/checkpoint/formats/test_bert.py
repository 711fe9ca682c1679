"""A BERT's folder is read as a text tower: its vectors are the original's, and what would change them is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import diptych
from diptych.checkpoint import convert, save_folder
from diptych.checkpoint.formats.bert import read_text_tower, with_smaller_vocabulary
from diptych.checkpoint.formats.text_tower import TextTower
from diptych.engines import EngineName
from diptych.errors import ArgumentError, CheckpointError, TokenizerError
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig
from diptych.nets.presets import preset

HF_BERT = Path(__file__).parents[2] / "golden" / "hf_bert"
TEXTS = ["a photo of the cat", "dogs", "unreal blueberries running, and the black dog of a cat!", "Café?"]  # as make.py
MODULES = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "bert"
    target.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(HF_BERT / name, target)
    return target


def edit(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | changes))


def as_sentence_transformer(folder: Path, *kinds: str, **pooling: bool) -> None:
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": MODULES.get(kind, kind)} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    edit(folder / "1_Pooling" / "config.json", word_embedding_dimension=32, **pooling)


def test_vectors_are_the_original_s() -> None:
    wanted = load_file(HF_BERT / "expected.safetensors")
    tower = read_text_tower(HF_BERT)
    tokens = tower.tokenizer()(TEXTS)
    assert tokens.ids.tolist() == wanted["ids"].tolist()
    assert tokens.mask.tolist() == wanted["mask"].bool().tolist()
    with torch.no_grad():
        came = tower.network()(wanted["ids"])
    assert (came - wanted["text_features"]).abs().max() < 1e-5 * wanted["text_features"].abs().max()


def test_what_beside_the_encoder_is_in_a_file_is_left_out(folder: Path) -> None:
    """A whole BERT with its training heads, in half precision, as other programs save it."""
    tensors = {f"bert.{name}": tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors |= {"cls.predictions.bias": torch.zeros(105), "bert.embeddings.position_ids": torch.arange(40)[None]}
    save_file(tensors, folder / "model.safetensors")
    came, wanted = read_text_tower(folder).state, read_text_tower(HF_BERT).state
    assert came.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(came[name], tensor, rtol=2e-3, atol=2e-3)


def test_a_sentence_transformers_folder_says_how_much_it_reads(folder: Path) -> None:
    as_sentence_transformer(folder, "Transformer", "Pooling", "Normalize", pooling_mode_mean_tokens=True)
    edit(folder / "sentence_bert_config.json", max_seq_length=30)
    assert read_text_tower(folder).config.context == 30
    tower = read_text_tower(folder, context=10)
    assert tower.state["text.positions"].shape == (10, 32)
    with pytest.raises(TokenizerError, match=r"tokens in text 0 .*this model reads 10"):
        tower.tokenizer()(TEXTS[2:3])
    cut = tower.tokenizer()(TEXTS[2:3], truncate=True)
    assert cut.truncated == 1
    assert cut.ids.shape == (1, 10)
    assert cut.ids[0, -1] == tower.config.end_id


def test_marks_that_are_typed_stay_text() -> None:
    tower = read_text_tower(HF_BERT)
    ids = tower.tokenizer()(["a [SEP] cat [PAD]"]).ids[0].tolist()
    assert ids.count(tower.config.end_id) == 1
    assert ids.index(tower.config.end_id) == len(ids) - 1
    assert tower.config.pad_id not in ids


def test_ids_become_text_again() -> None:
    read = read_text_tower(HF_BERT).tokenizer()
    assert [read.decode(row) for row in read(["a photo of the cat", "Unreal berry"]).ids] == [
        "a photo of the cat",
        "unreal berry",
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: edit(f / "config.json", model_type="roberta"), "model_type='roberta'; only bert"),
        (lambda f: edit(f / "config.json", is_decoder=True), "is_decoder=True is not supported"),
        (lambda f: edit(f / "config.json", position_embedding_type="relative_key"), "position_embedding_type"),
        (lambda f: edit(f / "config.json", hidden_act="relu"), "hidden_act='relu' is not supported; gelu"),
        (lambda f: edit(f / "config.json", intermediate_size=64), "tensors do not fit its configuration"),
        (lambda f: edit(f / "config.json", num_attention_heads=5), "width 32 does not divide into 5 heads"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda f: edit(f / "tokenizer.json", post_processor=None), "puts no tokens around a text"),
        (lambda f: edit(f / "tokenizer_config.json", do_lower_case=False), "tokenizer_config.json says do_lower_case"),
        (lambda f: edit(f / "tokenizer_config.json", padding_side="left"), "padding_side='left' is not supported"),
        (
            lambda f: as_sentence_transformer(f, "Transformer", "Pooling", "Dense"),
            "modules Transformer, Pooling, Dense",
        ),
        (
            lambda f: as_sentence_transformer(f, "Transformer", "Pooling", pooling_mode_cls_token=True),
            "its pooling is pooling_mode_cls_token; only the mean",
        ),
    ],
)
def test_what_would_give_other_vectors_is_refused(folder: Path, change: Callable[[Path], object], says: str) -> None:
    change(folder)
    with pytest.raises(CheckpointError, match=says):
        read_text_tower(folder)


@pytest.mark.parametrize("most", ["9", -5, 0, 1.5, [9]])
def test_a_number_of_tokens_that_is_none(folder: Path, most: object) -> None:
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": most}))
    with pytest.raises(CheckpointError, match=r"sentence_bert_config.json: max_seq_length=.*; wanted a number of tok"):
        read_text_tower(folder)


def test_a_context_without_tokens_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"context is 0; wanted a number of tokens, 1 or more"):
        read_text_tower(HF_BERT, context=0)


def model_of(tower: TextTower) -> CLIP:
    """A whole model with this text tower and a small vision transformer of random weights."""
    torch.manual_seed(0)
    made = CLIP(CLIPConfig(tower.config.width, preset("vit-tiny").image, tower.config))
    made.load_state_dict(made.state_dict() | tower.state)
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole model with a BERT as its text tower."""
    tower = read_text_tower(HF_BERT)
    folder, preprocess = tmp_path_factory.mktemp("whole") / "model", Preprocess(32).to_hugging_face()
    return save_folder(folder, model_of(tower), tokenizer_json=tower.tokenizer_json, preprocess=preprocess)


@pytest.mark.parametrize("engine", ["pytorch", "openvino"])
def test_a_whole_model_with_such_a_tower_is_saved_and_read(whole: Path, engine: EngineName) -> None:
    """In both engines, texts of any length together and each alone."""
    wanted = load_file(HF_BERT / "expected.safetensors")["text_features"]
    model = diptych.load(whole, engine=engine, device="cpu", precision="float32")
    assert model.config.text == read_text_tower(HF_BERT).config
    vectors = torch.nn.functional.normalize(wanted, dim=-1).numpy()
    assert model.embed_texts(TEXTS) == pytest.approx(vectors, abs=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert model.embed_texts(text)[0] == pytest.approx(vector, abs=1e-5)


@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("to", ["open_clip", "openai"])
def test_formats_without_such_a_tower_say_so(norm_position: str, to: str, tmp_path: Path) -> None:
    tower = read_text_tower(HF_BERT)
    config = replace(tower.config, norm_position=norm_position)
    model = CLIP(CLIPConfig(32, preset("vit-tiny").image, config))
    folder = save_folder(tmp_path / "m", model, tokenizer_json=None, preprocess=Preprocess(32).to_hugging_face())
    with pytest.raises(CheckpointError, match=r"^(OpenAI|open_clip)'s format(:| cannot hold this model)"):
        convert(folder, tmp_path / "out", to=to)


def test_a_smaller_vocabulary_gives_the_same_vectors() -> None:
    tower = read_text_tower(HF_BERT)
    smaller = with_smaller_vocabulary(tower, dict.fromkeys(TEXTS[:2], 1.0), 101)
    assert smaller.config.vocab_size < tower.config.vocab_size
    assert smaller.state["text.token.weight"].shape == (smaller.config.vocab_size, 32)
    with torch.no_grad():
        came, wanted = (each.network()(torch.from_numpy(each.tokenizer()(TEXTS[:2]).ids)) for each in (smaller, tower))
    assert torch.equal(came, wanted)
