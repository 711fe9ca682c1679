"""What a model folder says of its tokenizer where it has no tokenizer.json."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import diptych
from diptych.checkpoint import read
from diptych.errors import CheckpointError, TokenizerError
from diptych.media.preprocessing import Preprocess
from diptych.nets.presets import PRESETS
from diptych.text.tokenizer import Tokenizer, missing
from tests.checkpoint.test_checkpoint import HF_CLIP, HF_SIGLIP, varied
from tests.checkpoint.test_saving import saved

TEXTS = ["a red star", "It's  two\tdogs, É", "ﬁne 日本 12", "<|endoftext|>", ""]


def older(model: Path, folder: Path) -> Path:
    """The same folder as older versions of transformers wrote it."""
    shutil.copytree(model, folder)
    said = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(said["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in said["merges"]))
    return folder


@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_a_tokenizer_is_made_of_its_vocabulary(engine: str, tiny_model: Path, tmp_path: Path) -> None:
    model = diptych.load(older(tiny_model, tmp_path / "older"), engine=engine, device="cpu")  # type: ignore[arg-type]
    assert model.notes == ("no tokenizer.json: made one from vocab.json and merges.txt",)
    wanted = Tokenizer.open(tiny_model / "tokenizer.json", context=40)
    assert (model.tokenize(TEXTS).ids == wanted(TEXTS).ids).all()


@pytest.mark.parametrize(
    ("name", "content"), [("vocab.json", "[1]"), ("merges.txt", "#version: 0.2\na b c\n"), ("merges.txt", "zz yy\n")]
)
def test_a_vocabulary_that_is_none(name: str, content: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = older(tiny_model, tmp_path / "older")
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=r"older: vocab\.json and merges\.txt are not those of a CLIP tokenizer"):
        read(folder)


def test_a_model_of_sentencepiece_says_how_it_is_made(tmp_path: Path) -> None:
    shutil.copytree(HF_SIGLIP, tmp_path / "siglip")
    (tmp_path / "siglip" / "spiece.model").write_bytes(b"\0")
    said = json.dumps(Preprocess(32, mode="squash").to_hugging_face())
    (tmp_path / "siglip" / "preprocessor_config.json").write_text(said)
    for notes in (read(tmp_path / "siglip").notes, diptych.load(tmp_path / "siglip").notes):
        assert "no tokenizer.json: transformers makes one from spiece.model: AutoTokenizer.from_pretrained(" in notes[0]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ViT-B/32", "openai/clip-vit-base-patch32 has OpenAI's"),
        ("SigLIP-B/16", "google/siglip-base-patch16-224 has SigLIP's"),
        ("SigLIP2-B/16", "google/siglip2-base-patch16-224 has SigLIP 2's"),
        ("vit-tiny", "that it was trained with."),
    ],
)
def test_nobody_is_told_to_take_another_model_s_tokenizer(name: str, says: str) -> None:
    said = str(missing(PRESETS[name].text, "a model"))
    assert said.startswith("a model has no tokenizer.json")
    assert says in said
    assert ("OpenAI" in said) == (name == "ViT-B/32")


def test_where_a_file_s_tokenizer_goes(tmp_path: Path) -> None:
    folder = saved(replace(varied(), loss="sigmoid"), tmp_path / "model")
    with pytest.raises(TokenizerError, match=r"Put there the tokenizer\.json that it was trained with\.$"):
        diptych.load(folder).embed_texts(["a dog"])
    with pytest.raises(TokenizerError, match="Put beside it the"):
        diptych.load(HF_CLIP / "model.safetensors").embed_texts(["a dog"])


def test_what_is_wrong_with_a_model_s_pictures_is_an_error_of_the_model(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    said = json.loads((folder / "preprocessor_config.json").read_text())
    for change in ({"do_normalize": 3}, {"do_pad": True}, {"image_mean": [0.5]}, {"size": 64, "crop_size": 64}):
        (folder / "preprocessor_config.json").write_text(json.dumps(said | change))
        with pytest.raises(diptych.CheckpointError, match=r"model: .*(preprocessor_config|mean)"):
            diptych.load(folder, device="cpu")
