"""Reads a model folder's settings: everything but its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from diptych.checkpoint.formats import huggingface, tokenization
from diptych.checkpoint.state import check_activation
from diptych.checkpoint.weights.files import read_json, read_text
from diptych.errors import ArgumentError, CheckpointError, FileError, TokenizerError
from diptych.media.preprocessing import ignored_keys
from diptych.nets.config import CLIPConfig, EfficientNetConfig, ImageConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.scoring import reference_pictures
from diptych.text import known_words
from diptych.text.cleaning import TextPreprocessing
from diptych.text.tokenizer import json_of_vocabulary
from diptych.untrusted.regular_files import read_file

OURS = "diptych"
READABLE = (OURS, *huggingface.KEY_MAPPINGS)  # supported values of model_type in config.json
TOWERS: dict[str, type[ImageConfig]] = {"vit": ViTConfig, "resnet": ResNetConfig, "efficientnet": EfficientNetConfig}


SEARCH_FILES = {
    known_words.WORDS_FILE: known_words.MAX_BYTES,
    reference_pictures.REFERENCE_FILE: reference_pictures.MAX_BYTES,
}
SENTENCEPIECE = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
AS_OPENAI = "no preprocessor_config.json: pictures are prepared as for OpenAI's models"


class FolderSettings(NamedTuple):
    """A folder's config.json, parsed (`settings`) and as a configuration; its preprocessor_config.json and the text of
    its tokenizer.json, None if absent; and its text preprocessing. `notes` and `ignored_keys` as in a Checkpoint."""

    config: CLIPConfig
    settings: dict[str, Any]
    preprocess: dict[str, Any] | None
    tokenizer_json: str | None
    text_preprocessing: TextPreprocessing
    notes: tuple[str, ...] = ()
    ignored_keys: tuple[str, ...] = ()
    search_files: Mapping[str, bytes] = MappingProxyType({})


def read_settings(folder: Path, source: str, *, activation: str | None = None) -> FolderSettings:
    """Read a folder with a config.json, in Hugging Face's form or ours. Raises CheckpointError with what is wrong."""
    settings = read_json(folder / "config.json")
    tokenizer_json, note = tokenizer_json_of(folder, source)
    tokenizer, family = tokenization.settings_of(folder), settings.get("model_type")
    ignored: list[str] = []
    if family == OURS:
        config = from_fields(settings, source)
    else:
        pad_id = huggingface.padding_id(tokenizer_json, tokenizer)
        config = huggingface.config_from_json(settings, source, pad_id=pad_id)
        ignored += huggingface.ignored_keys(settings, source)
    check_activation(config, activation, source)
    text_preprocessing = tokenization.from_hugging_face(
        tokenizer, tokenizer_json, source, reads_padding=config.text.reads_padding, model_type=family
    )
    preprocess = _preprocess(folder)
    ignored += [f"preprocessor_config.json: {key}" for key in ignored_keys(preprocess or {})]
    notes = (note, "" if preprocess or config.loss == "sigmoid" else AS_OPENAI)
    rest = (tuple(filter(None, notes)), tuple(ignored), read_search_files(folder))
    return FolderSettings(config, settings, preprocess, tokenizer_json, text_preprocessing, *rest)


def read_search_files(folder: Path) -> dict[str, bytes]:
    """The contents of the optional files that searches use, which interpret them. One that cannot be read is empty: no
    vector depends on it."""
    found = {}
    for name, most in SEARCH_FILES.items():
        if os.path.exists(folder / name):
            found[name] = b""
            with suppress(FileError, OSError):
                found[name] = read_file(folder / name, most)
    return found


def write_search_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write what `read_search_files` read."""
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def tokenizer_json_of(folder: Path, source: str) -> tuple[str | None, str]:
    """The text of tokenizer.json, else one made from the files that older folders have instead; and a note."""
    if text := read_text(folder / "tokenizer.json"):
        return text, ""
    vocabulary, merges = read_text(folder / "vocab.json"), read_text(folder / "merges.txt")
    if vocabulary and merges:
        try:
            return json_of_vocabulary(vocabulary, merges), "no tokenizer.json: made one from vocab.json and merges.txt"
        except TokenizerError as error:
            raise CheckpointError(f"{source}: {error}") from error
    if kept := next((name for name in SENTENCEPIECE if (folder / name).is_file()), None):
        make = f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        return None, f"no tokenizer.json: transformers makes one from {kept}: {make}"
    return None, ""


def _optional_json(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None


def _preprocess(folder: Path) -> dict[str, Any] | None:
    """The picture settings; transformers 5 may write them to the file of the whole processor."""
    own = _optional_json(folder / "preprocessor_config.json")
    return own or (_optional_json(folder / "processor_config.json") or {}).get("image_processor")


def from_fields(settings: dict[str, Any], source: str) -> CLIPConfig:
    """The configuration of a config.json in our own form. Raises CheckpointError for unknown keys."""
    try:
        values = {key: value for key, value in settings.items() if key != "model_type"}
        image = dict(values["image"])
        image = _make(TOWERS[image.pop("tower")], image, "image.")
        return _make(CLIPConfig, values | {"image": image, "text": _make(TextConfig, values["text"], "text.")}, "")
    except KeyError as error:
        raise CheckpointError(f"{source}: config.json: {error} is missing or not known.") from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{source}: config.json: {error}") from error


def _make(kind: Any, values: dict[str, Any], where: str) -> Any:
    if unknown := [f"{where}{key}" for key in values if key not in {field.name for field in fields(kind)}]:
        raise ArgumentError(f"{', '.join(unknown)} is not known.")
    return kind(**values)


def to_fields(config: CLIPConfig) -> dict[str, Any]:
    """The config.json in our own form, which can represent every architecture."""
    tower = next(name for name, kind in TOWERS.items() if isinstance(config.image, kind))
    values = asdict(config)
    if config.text.norm_position == "pre":  # added later; earlier versions, and folders converted by them, lack it
        del values["text"]["norm_position"]
    return {"model_type": OURS} | values | {"image": {"tower": tower} | values["image"]}
