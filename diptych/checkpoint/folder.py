"""The model folder: config.json, model.safetensors, tokenizer.json, preprocessor_config.json.

It is Hugging Face's layout, so that `transformers` opens what is saved here wherever it has the architecture; for the
others (ResNet towers, mean pooling) config.json has model_type "diptych" and our own fields, and the tensors our names.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from diptych.checkpoint import huggingface
from diptych.checkpoint.files import read_weights
from diptych.checkpoint.fitting import check, forms_of, wanted
from diptych.checkpoint.replacing import json_text, replace_folder
from diptych.checkpoint.settings import OURS, read_settings, to_fields
from diptych.checkpoint.state import Checkpoint, CheckpointError, cast
from diptych.checkpoint.table import read_rows
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def save_folder(
    folder: str | os.PathLike[str],
    model: CLIP | tuple[CLIPConfig, Mapping[str, Tensor]],
    *,
    tokenizer_json: str | bytes | None,
    preprocess: dict[str, Any],
    card: str | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> Path:
    """Write a model folder, whole or not at all (as `replace_folder` says), and return its path.

    `model` is a network, or a configuration and its state. `preprocess` is in the form of preprocessor_config.json;
    `card` becomes README.md. `dtype` is that of the weights in the file; None keeps what they have. A model folder in
    that place is replaced; CheckpointError, and nothing is written, where another folder or a file stands there.
    """
    config, state = (model.config, model.state_dict()) if isinstance(model, CLIP) else model
    settings, tensors = _form(config, {name: cast(tensor, dtype) for name, tensor in state.items()})
    texts = {
        "config.json": json_text(settings),
        "preprocessor_config.json": json_text(preprocess),
        "tokenizer.json": tokenizer_json,
        # CLIP's tokenizer transformers finds by the model's type
        "tokenizer_config.json": tokenizer_settings(config, tokenizer_json)
        if tokenizer_json and settings["model_type"] == "siglip"
        else None,
        "README.md": card,
    }

    def fill(new: Path) -> None:
        for name, text in texts.items():
            if text is not None:
                (new / name).write_bytes(text.encode() if isinstance(text, str) else text)
        save_tensors(new / "model.safetensors", tensors)

    return replace_folder(Path(folder), fill)


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """A .safetensors file, from whatever device."""
    path.touch()
    mode = path.stat().st_mode
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(tensors, path, metadata={"format": "pt"})  # older versions of transformers ask for it
    except SafetensorError as error:  # how it tells of a full disk
        raise OSError(f"{path} could not be written ({error}).") from error
    path.chmod(mode)  # safetensors lets its owner alone read it


def _form(config: CLIPConfig, state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and the tensors: in Hugging Face's form where transformers has the architecture."""
    check(forms_of(state), wanted(config, "the model"), "the model")
    if not huggingface.holds(config):
        return to_fields(config), state
    settings = huggingface.config_to_json(config)
    dtype = str(state["text.token.weight"].dtype).removeprefix("torch.")
    return settings | {"dtype": dtype}, huggingface.write_state(state, settings)


def tokenizer_settings(config: CLIPConfig, tokenizer_json: str | bytes) -> str:
    """A tokenizer_config.json, for readers that do not know the class from the model's type: what to pad with, and how
    far. Under a causal mask the end token is as good a padding as any, and unlike 0 it is no word of its own."""
    text = tokenizer_json if isinstance(tokenizer_json, str) else tokenizer_json.decode()
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"tokenizer_json is no tokenizer.json ({error}).") from error
    token = tokenizer.id_to_token(config.text.end_id if config.text.causal else config.text.pad_id)
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.text.context}
    return json_text(said if token is None else said | {"pad_token": token})


def load_folder(folder: Path, source: str, *, activation: str | None = None) -> Checkpoint:
    """A folder with a config.json, in Hugging Face's form or ours; weights as they lie in the file."""
    said = read_settings(folder, source, activation=activation)
    tensors = read_weights(folder, WEIGHTS)
    if said.settings.get("model_type") == OURS:
        state = read_rows(None, tensors, said.config, source)
    else:
        state = huggingface.read_state(tensors, said.settings, said.config, source)
    return Checkpoint(said.config, state, said.preprocess, said.tokenizer_json, source)
