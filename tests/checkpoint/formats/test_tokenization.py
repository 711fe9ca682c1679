"""How a folder's texts are read: which cleaning its files ask for, and that it stays with the model in every format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diptych
from diptych.checkpoint import convert, read, save_folder
from diptych.errors import CheckpointError
from diptych.exporting import export
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, TextConfig, ViTConfig
from diptych.text.cleaning import OPENAI, SIMPLE, TextPreprocessing, cleaned
from tests.text.test_cleaning import EXPECTED, GOLDEN, STRINGS, rows

VOCABULARY = {"clip": 1400, "t5": 600, "gemma": 1100}
LIKE_SIGLIP: dict[str, Any] = {"pool": "last", "causal": False, "proj_bias": True, "activation": "gelu_tanh"}


def vocabulary(name: str) -> str:
    return (GOLDEN / name / "tokenizer.json").read_text(encoding="utf-8")


def tiny(kind: str) -> CLIP:
    """A model around one of the golden vocabularies: CLIP's, or SigLIP's, whose image tower open_clip has no place
    for at this size."""
    torch.manual_seed(0)
    if kind == "clip":
        image = ViTConfig(16, 8, 64, 1, 1, 128, "quick_gelu")
        text = TextConfig(77, 1400, 64, 1, 1, 128, "quick_gelu", pool="argmax", end_id=1399)
        return CLIP(CLIPConfig(16, image, text)).eval()
    image = ViTConfig(16, 8, 64, 1, 1, 128, "gelu_tanh", pool="map", norm_pre=False, patch_bias=True, norm_eps=1e-6)
    ids = {"end_id": 1, "pad_id": 1 if kind == "t5" else 0}
    text = TextConfig(64, VOCABULARY[kind], 64, 1, 1, 128, norm_eps=1e-6, **LIKE_SIGLIP, **ids)
    return CLIP(CLIPConfig(64, image, text, loss="sigmoid")).eval()


def hub_folder(folder: Path, kind: str, **said: object) -> Path:
    """Hugging Face's layout, with a tokenizer_config.json that says this."""
    spec = Preprocess(16).to_hugging_face()
    save_folder(folder, tiny(kind), tokenizer_json=vocabulary(kind), preprocess=spec)
    place = folder / "tokenizer_config.json"
    place.write_text(json.dumps(said), encoding="utf-8") if said else place.unlink(missing_ok=True)
    return folder


def open_clip_folder(folder: Path, kind: str, text: dict[str, object], **said: object) -> Path:
    """open_clip's layout around CLIP's text tower (or one that reads both ways), with these words in its text_cfg."""
    model = tiny("clip")
    convert(save_folder(folder / "hf", model, tokenizer_json=None, preprocess=Preprocess(16).to_hugging_face()),
            folder / "oc", to="open_clip")  # fmt: skip
    place = folder / "oc" / "open_clip_config.json"
    settings = json.loads(place.read_text(encoding="utf-8"))
    settings["model_cfg"]["text_cfg"] |= text
    place.write_text(json.dumps(settings), encoding="utf-8")
    (folder / "oc" / "tokenizer.json").write_text(vocabulary(kind), encoding="utf-8")
    (folder / "oc" / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
    return folder / "oc"


NAMED = {"hf_tokenizer_name": "some/where", "no_causal_mask": True, "pool_type": "last", "context_length": 77}
CLIP_SAYS = {"tokenizer_class": "CLIPTokenizerFast", "do_lower_case": False, "add_bos_token": False}
T5 = {"tokenizer_class": "T5Tokenizer", "pad_token": "</s>", "extra_ids": 0}
GEMMA = {"tokenizer_class": "GemmaTokenizerFast", "pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>",
         "padding_side": "right"}  # fmt: skip
MARKS = {"add_bos_token": False, "add_eos_token": True}


@pytest.mark.parametrize(
    ("kind", "said", "source"),
    [
        ("clip", {}, "clip/transformers/CLIPTokenizer"),
        ("clip", CLIP_SAYS, "clip/transformers/CLIPTokenizer"),
        ("t5", {}, "t5/transformers/SiglipTokenizer"),
        ("t5", {"tokenizer_class": "SiglipTokenizer", "pad_token": "</s>"}, "t5/transformers/SiglipTokenizer"),
        ("t5", T5, "t5/transformers/T5Tokenizer"),
        ("gemma", GEMMA | MARKS, "gemma/transformers/GemmaTokenizer"),
        ("gemma", {**GEMMA, "tokenizer_class": "Siglip2Tokenizer"}, "gemma/transformers/Siglip2Tokenizer"),
    ],
)  # fmt: skip
def test_a_hub_folder_is_read_as_transformers_reads_it(
    tmp_path: Path, kind: str, said: dict[str, Any], source: str
) -> None:
    model = diptych.load(hub_folder(tmp_path / "model", kind, **said))
    tokenizer = model.tokenizer
    assert tokenizer
    tokenizer.fill_context = True  # which CLIP's tower, blind to padding, does not ask for
    if kind == "clip":
        tokenizer.pad_id = 1399
    assert rows(tokenizer, STRINGS) == EXPECTED["ids"][source]


def test_siglip_2_pads_before_the_text_where_its_folder_does_not_say(tmp_path: Path) -> None:
    """transformers' classes of Gemma do; the folders on the hub say otherwise."""
    folder = hub_folder(tmp_path / "model", "gemma", tokenizer_class="Siglip2Tokenizer", pad_token="<pad>")
    tokens = diptych.load(folder).tokenize(["A DOG"])
    assert tokens.ids[0, -1] == 1
    assert not tokens.mask[0, 0]
    again = diptych.load(diptych.load(folder, engine="pytorch").save(tmp_path / "again"))
    assert (again.tokenize(["A DOG"]).ids == tokens.ids).all()


@pytest.mark.parametrize(
    ("kind", "text", "said", "source"),
    [
        ("clip", {}, {}, "clip/open_clip"),
        ("clip", {"tokenizer_kwargs": {"clean": "canonicalize"}}, {}, "clip/open_clip/canonicalize"),
        ("t5", NAMED | {"tokenizer_kwargs": {"clean": "canonicalize"}}, T5, "t5/open_clip/canonicalize"),
        ("t5", NAMED, T5, "t5/open_clip/whitespace"),
        ("t5", NAMED | {"tokenizer_kwargs": {"clean": "lower", "strip_sep_token": False}}, T5, "t5/open_clip/lower"),
        ("gemma", NAMED | {"tokenizer_kwargs": {"clean": "canonicalize"}}, GEMMA, "gemma/open_clip/canonicalize"),
    ],
)  # fmt: skip
def test_an_open_clip_folder_is_read_as_open_clip_reads_it(
    tmp_path: Path, kind: str, text: dict[str, object], said: dict[str, object], source: str
) -> None:
    """Padding included, which a tower that reads both ways reads: the tokenizer's own, whatever the configuration."""
    tokenizer = diptych.load(open_clip_folder(tmp_path, kind, text, **said)).tokenizer
    assert tokenizer
    assert tokenizer.fill_context == (kind != "clip")
    tokenizer.fill_context = True
    if kind != "clip":
        tokenizer.context = 64
    assert rows(tokenizer, STRINGS) == EXPECTED["ids"][source]


def test_a_single_file_is_read_as_openai_s_own_package_reads_it(tmp_path: Path) -> None:
    folder = save_folder(
        tmp_path / "hf", tiny("clip"), tokenizer_json=None, preprocess=Preprocess(16).to_hugging_face()
    )
    path = convert(folder, tmp_path / "clip.pt", to="openai")
    (tmp_path / "tokenizer.json").write_text(vocabulary("clip"), encoding="utf-8")
    checkpoint = read(path, activation="quick_gelu")
    assert checkpoint.text_preprocessing == OPENAI
    (tmp_path / "tokenizer_config.json").write_text('{"diptych": {"cleaning": []}}')
    assert read(path, activation="quick_gelu").text_preprocessing == TextPreprocessing()


@pytest.mark.parametrize(
    ("kind", "cleaning"),
    [("clip", ()), ("clip", ("lower", SIMPLE)), ("t5", ("SiglipTokenizer",)), ("gemma", ("canonicalize",)),
     ("gemma", ("Siglip2Tokenizer",))],
)  # fmt: skip
def test_saving_and_converting_keep_the_cleaning(tmp_path: Path, kind: str, cleaning: tuple[str, ...]) -> None:
    spec = Preprocess(16).to_hugging_face()
    words: dict[str, Any] = {"tokenizer_json": vocabulary(kind), "text_preprocessing": TextPreprocessing(cleaning)}
    first = save_folder(tmp_path / "first", tiny(kind), preprocess=spec, **words)
    folders = [first, convert(first, tmp_path / "again")]
    folders.append(export(first, tmp_path / "fast", to="openvino").path)
    if kind == "clip":  # open_clip has no SigLIP of this size
        folders.append(convert(first, tmp_path / "oc", to="open_clip"))
        folders.append(convert(folders[-1], tmp_path / "back"))
    models = [diptych.load(folder, precision="float32") for folder in folders]
    texts = ["It’s a DOG &amp; a cat!", "a_dog"]
    for model in models:
        assert model.text_preprocessing.cleaning == cleaning
        np.testing.assert_array_equal(model.tokenize(texts).ids, models[0].tokenize(texts).ids)
    assert len({model.fingerprint for model in models}) == 1


def test_open_clip_is_told_the_nearest_that_it_has(tmp_path: Path) -> None:
    spec = Preprocess(16).to_hugging_face()
    for name, cleaning in (("lower", ("lower", SIMPLE)), ("canonicalize", ("SiglipTokenizer",)), (None, ())):
        words: dict[str, Any] = {
            "tokenizer_json": vocabulary("clip"),
            "text_preprocessing": TextPreprocessing(cleaning),
        }
        folder = save_folder(tmp_path / f"{name}", tiny("clip"), preprocess=spec, **words)
        place = convert(folder, tmp_path / f"oc-{name}", to="open_clip") / "open_clip_config.json"
        said = json.loads(place.read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]
        assert said.get("tokenizer_kwargs", {}).get("clean") == name


@pytest.mark.parametrize(
    ("kind", "said", "message"),
    [
        ("clip", {"padding_side": "left"}, "padding_side='left' is not supported; only 'right' is"),
        ("clip", {"truncation_side": "left"}, "truncation_side='left'"),
        ("clip", {"auto_map": {"AutoTokenizer": ["a.B", None]}}, r"auto_map=.* a model's own code"),
        ("t5", {"tokenizer_class": "SiglipTokenizer", "do_lower_case": False}, "do_lower_case=False .*only True is"),
        ("gemma", GEMMA | {"add_bos_token": True}, "add_bos_token=True .*; its tokenizer.json adds nothing there"),
        ("gemma", GEMMA | {"add_bos_token": False}, "add_eos_token=None .*; its tokenizer.json adds '<eos>' there"),
        ("clip", {"diptych": {"cleaning": ["shout"]}}, "is not a list of cleaning steps"),
        ("clip", {"diptych": 1}, "tokenizer_config.json: diptych"),
    ],
)  # fmt: skip
def test_what_would_change_ids_and_nothing_reads_is_refused(
    tmp_path: Path, kind: str, said: dict[str, Any], message: str
) -> None:
    folder = hub_folder(tmp_path / "model", kind, **said)
    with pytest.raises(CheckpointError, match=message):
        diptych.load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"tokenizer_kwargs": {"clean": "shout"}}, "tokenizer_kwargs.clean='shout' is not supported; 'lower' and"),
        ({"tokenizer_kwargs": {"reduction_mask": "shuffle"}}, "tokenizer_kwargs.reduction_mask='shuffle'"),
        ({"hf_tokenizer_name": "a/b", "tokenizer_kwargs": {"strip_sep_token": True}}, "strip_sep_token=True"),
        ({"hf_tokenizer_name": "a/b", "tokenizer_kwargs": {"language": "deu_Latn"}}, "language='deu_Latn'"),
        ({"hf_tokenizer_name": "a/b", "tokenizer_mode": "clips"}, "tokenizer_mode='clips'"),
    ],
)
def test_what_open_clip_would_do_and_nothing_here_does_is_refused(
    tmp_path: Path, text: dict[str, object], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        diptych.load(open_clip_folder(tmp_path, "clip", text))


def test_keys_that_change_no_id_are_passed_over(tmp_path: Path) -> None:
    """Folders on the hub carry dozens."""
    said = {
        "clean_up_tokenization_spaces": True,
        "model_max_length": 77,
        "errors": "replace",
        "add_prefix_space": False,
    }
    marks = {
        "bos_token": {"content": "<|startoftext|>"},
        "added_tokens_decoder": {"1398": {"content": "<|startoftext|>"}},
    }
    folder = hub_folder(tmp_path / "model", "clip", tokenizer_class="CLIPTokenizer", **said, **marks)
    assert diptych.load(folder).text_preprocessing.cleaning == ()


@pytest.mark.parametrize("kind", ["clip", "t5", "gemma"])
def test_transformers_opens_what_is_written_and_gives_the_same_ids(tmp_path: Path, kind: str) -> None:
    """Of texts that are clean: its classes do not clean as open_clip does."""
    from transformers import AutoTokenizer

    words: dict[str, Any] = {"tokenizer_json": vocabulary(kind), "text_preprocessing": TextPreprocessing(("lower",))}
    folder = save_folder(tmp_path / "model", tiny(kind), preprocess=Preprocess(16).to_hugging_face(), **words)
    texts = [text for text in STRINGS if text == cleaned(text, ["lower"])]
    assert len(texts) > 50
    mine = diptych.load(folder).tokenize(texts, truncate=True)
    theirs = AutoTokenizer.from_pretrained(folder)
    context = mine.ids.shape[1] if kind == "clip" else 64
    ids = theirs(texts, padding="max_length", truncation=True, max_length=context, return_tensors="np").input_ids
    if kind == "clip":  # which pads with the end token there, and none of it is read
        assert (ids[mine.mask] == mine.ids[mine.mask]).all()
    else:
        np.testing.assert_array_equal(ids, mine.ids)
