"""What stands where a model is written: what is replaced, what is not, and what a failure leaves."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diptych
from diptych.checkpoint import check_replaceable, convert, read, save_folder
from diptych.checkpoint.replacement import replace_folder
from diptych.errors import CheckpointError
from diptych.scoring.reference_pictures import ReferencePictures
from tests.checkpoint.test_checkpoint import HF_CLIP, OPEN_CLIP, OPENAI_VIT, SQUASHED


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
    with pytest.raises(CheckpointError, match="a folder with other files in it; nothing was written"):
        save_folder(tmp_path / "work", (checkpoint.config, checkpoint.state), tokenizer_json=None, preprocess=SQUASHED)
    with pytest.raises(CheckpointError, match="is a file; nothing was written"):
        convert(HF_CLIP, tmp_path / "work" / name)
    assert (tmp_path / "work" / name).read_text() == "{}"
    for place in (tmp_path / "work", tmp_path / "work" / name):
        with pytest.raises(CheckpointError, match="nothing was written"):
            check_replaceable(place)
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "new", tmp_path / "empty", str(HF_CLIP)):
        check_replaceable(place)


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


def test_what_a_killed_save_left_is_put_right(tmp_path: Path) -> None:
    """Killed between its renames: the former model returns. Killed after them: it goes, and a user's notes stay."""
    folder = convert(HF_CLIP, tmp_path / "model")
    (folder / "notes.txt").write_text("mine")
    folder.rename(tmp_path / ".model.old-0123abcd")
    with pytest.raises(ZeroDivisionError):
        replace_folder(folder, lambda _: print(1 / 0))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (folder / "notes.txt").read_text() == "mine"
    folder.rename(tmp_path / ".model.old-0123abcd")
    convert(OPENAI_VIT, tmp_path / "other").rename(folder)
    convert(OPEN_CLIP, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (folder / "notes.txt").read_text() == "mine"
    assert read(folder).config == read(OPEN_CLIP).config


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        convert(HF_CLIP, tmp_path / "model.pt", to="openai")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["hf", "open_clip", "openai"])
def test_the_source_is_no_target(to: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder, file = convert(HF_CLIP, tmp_path / "model"), convert(HF_CLIP, tmp_path / "model.pt", to="openai")
    for source, target, what in [
        (folder, "./model", "the source itself"),
        (file, "model/../model.pt", "the source itself"),
        (folder / "model.safetensors", folder, "the folder that contains model.safetensors"),
    ]:
        with pytest.raises(CheckpointError, match=f"is {what}; nothing was written"):
            convert(source, target, to=to)
    assert read(folder).config.embed_dim == read(file).config.embed_dim == 32


def test_the_files_of_searches_go_along_and_may_be_damaged(tiny_model: Path, tmp_path: Path) -> None:
    """Copies and conversions keep them. Words that cannot be read are as if they were not there; pictures are named."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "words.txt").write_text("dog\nred\n", encoding="utf-8")
    pictures = ReferencePictures.of(np.eye(diptych.load(model).dim), -0.5)
    (model / "reference_pictures.safetensors").write_bytes(pictures.to_bytes())
    opened = diptych.load(model)
    assert opened.known_words is not None
    assert opened.known_words.words == {"dog", "red"}
    assert opened.reference_pictures is not None
    assert opened.reference_pictures.threshold == -0.5
    for copy in (
        opened.save(tmp_path / "saved"),
        convert(model, tmp_path / "hf"),
        convert(model, tmp_path / "oc", to="open_clip"),
    ):
        assert (copy / "words.txt").read_bytes() == (model / "words.txt").read_bytes()
        assert (copy / "reference_pictures.safetensors").read_bytes() == pictures.to_bytes()
        assert diptych.load(copy).search_files == opened.search_files
    assert opened.fingerprint == diptych.load(tiny_model).fingerprint
    (model / "words.txt").write_bytes(b"\xff\xfe" * 9)
    with (model / "reference_pictures.safetensors").open("wb") as file:
        file.truncate(17 << 20)
    damaged = diptych.load(model)
    assert damaged.known_words is None
    with pytest.raises(CheckpointError, match=r"its reference_pictures\.safetensors cannot be read"):
        _ = damaged.reference_pictures
    assert diptych.load(tiny_model).known_words is None
    assert diptych.load(tiny_model).reference_pictures is None


def test_reference_pictures_are_no_weights(tiny_model: Path, tmp_path: Path) -> None:
    """Weights under a name of their own are found beside them, and they are replaced with the model."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "reference_pictures.safetensors").write_bytes(ReferencePictures.of(np.eye(2), 0.0).to_bytes())
    (model / "model.safetensors").rename(model / "best.safetensors")
    assert diptych.load(model).fingerprint == diptych.load(tiny_model).fingerprint
    convert(HF_CLIP, model)
    assert not (model / "reference_pictures.safetensors").exists()
