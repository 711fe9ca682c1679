"""The model folder: config.json, model.safetensors, tokenizer.json, preprocessor_config.json.

The layout is Hugging Face's, so that `transformers` opens the folder if it has the architecture. For others (ResNet
towers, mean pooling) config.json has model_type "diptych" and our own fields, and the tensors have our names.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from diptych.checkpoint.formats import huggingface, tokenization
from diptych.checkpoint.formats.name_table import read_mapped
from diptych.checkpoint.replacement import json_text, replace_folder
from diptych.checkpoint.settings import OURS, read_settings, to_fields, write_search_files
from diptych.checkpoint.state import Checkpoint, cast
from diptych.checkpoint.weights import int8
from diptych.checkpoint.weights.files import WEIGHTS, read_weights, weights_of
from diptych.checkpoint.weights.finite import check_finite
from diptych.checkpoint.weights.shape_check import check, expected_specs, specs_of
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig
from diptych.text.cleaning import PLAIN, TextPreprocessing


def save_folder(
    folder: str | os.PathLike[str],
    model: CLIP | tuple[CLIPConfig, Mapping[str, Tensor]],
    *,
    tokenizer_json: str | bytes | None,
    preprocess: dict[str, Any],
    text_preprocessing: TextPreprocessing = PLAIN,
    search_files: Mapping[str, bytes] = MappingProxyType({}),
    card: str | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> Path:
    """Write a model folder, completely or not at all (see `replace_folder`), and return its path.

    `model` is a network, or a configuration and its state. `preprocess` is in the form of preprocessor_config.json;
    `text_preprocessing` is applied to texts beside the tokenizer; `search_files` are those of a Checkpoint; `card`
    becomes README.md. `dtype` is that of the weights in the file; None keeps theirs, and torch.int8 writes 8 bits with
    a scale for each row (see `weights.int8`), in our own form. An existing model folder is replaced. Raises
    CheckpointError, and writes nothing, if `folder` is a file or another folder."""
    config, state = (model.config, model.state_dict()) if isinstance(model, CLIP) else model
    if dtype == torch.int8:
        settings, tensors = _int8_spec(config, state)
    else:
        settings, tensors = _spec(config, {name: cast(tensor, dtype) for name, tensor in state.items()})
    words = tokenizer_json.decode() if isinstance(tokenizer_json, bytes) else tokenizer_json
    files = {
        "config.json": json_text(settings),
        "preprocessor_config.json": json_text(preprocess),
        "tokenizer.json": words,
        # transformers finds CLIP's tokenizer by the model's type
        "tokenizer_config.json": tokenization.tokenizer_settings(
            config.text, words, text_preprocessing, needed=settings["model_type"] == "siglip"
        ),
        "README.md": card,
    }

    def fill(new: Path) -> None:
        for name, text in files.items():
            if text is not None:
                (new / name).write_bytes(text.encode())
        write_search_files(new, search_files)
        save_tensors(new / "model.safetensors", tensors)

    return replace_folder(Path(folder), fill)


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a .safetensors file, from tensors on any device."""
    path.touch()
    mode = path.stat().st_mode
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(tensors, path, metadata={"format": "pt"})  # required by older versions of transformers
    except SafetensorError as error:  # raised if the disk is full
        raise OSError(f"{path} could not be written ({error}).") from error
    path.chmod(mode)  # safetensors makes it readable by its owner alone


def _spec(config: CLIPConfig, state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and the tensors: in Hugging Face's form if transformers has the architecture."""
    check(specs_of(state), expected_specs(config, "the model"), "the model")
    if not huggingface.holds(config):
        return to_fields(config), state
    settings = huggingface.config_to_json(config)
    dtype = str(state["text.token.weight"].dtype).removeprefix("torch.")
    return settings | {"dtype": dtype}, huggingface.write_state(state, settings)


def _int8_spec(config: CLIPConfig, state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and the tensors in our own form, in 8 bits."""
    check(specs_of(state), expected_specs(config, "the model"), "the model")
    check_finite(state, "the model")
    return to_fields(config), int8.stored(state)


def load_folder(folder: Path, source: str, *, activation: str | None = None, weights: Path | None = None) -> Checkpoint:
    """Read a folder with a config.json, in Hugging Face's form or ours. Weights keep the file's dtype; the file is
    `weights` if given."""
    found = read_settings(folder, source, activation=activation)
    tensors = read_weights(weights or weights_of(folder, WEIGHTS))
    if found.settings.get("model_type") == OURS:
        state = read_mapped(None, int8.read(tensors, source), found.config, source)
    else:
        state = huggingface.read_state(tensors, found.settings, found.config, source)
    rest = (found.preprocess, found.tokenizer_json, source, found.text_preprocessing, found.notes, found.ignored_keys)
    return Checkpoint(found.config, state, *rest, search_files=found.search_files)
