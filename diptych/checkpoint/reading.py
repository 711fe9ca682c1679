"""Reads a model from a folder, a file or a hub id."""

import os
from pathlib import Path

import torch
from torch import Tensor

from diptych.checkpoint.finding import ModelLocation, find, is_model
from diptych.checkpoint.folder import load_folder
from diptych.checkpoint.formats import efficientnet_lite, open_clip, openai, tokenization
from diptych.checkpoint.settings import READABLE, read_search_files
from diptych.checkpoint.state import Checkpoint, cast_all, with_note
from diptych.checkpoint.weights.files import (
    WEIGHTS,
    first_of,
    read_json,
    read_tensors,
    read_text,
    read_weights,
    weights_of,
)
from diptych.errors import CheckpointError, Setting

OPEN_CLIP_CONFIG = "open_clip_config.json"
OTHERS = ("vision_model.", "image.")  # prefixes of Hugging Face's names and ours
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def read(
    source: str | os.PathLike[str],
    *,
    activation: str | None = None,
    revision: str | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> Checkpoint:
    """Read a model: "bundled", a folder (ours, Hugging Face's, open_clip's, or one that contains only such a folder), a
    file (OpenAI's TorchScript archive, a pickled state dict, .safetensors) or a hub id, at a `revision` if given. A
    file is read with the tokenizer.json beside it and, if it does not contain its sizes, the configuration beside it.
    No code in a file is ever run.

    `activation` ("gelu" or "quick_gelu") is required if a file does not contain it, and must not contradict one that
    does. Weights become `dtype`; None keeps theirs. Raises CheckpointError (HubError for the hub) with what was found,
    what was expected and a remedy.
    """
    return read_location(find(source, revision=revision), activation=activation, dtype=dtype)


def read_location(
    found: ModelLocation, *, activation: str | None = None, dtype: torch.dtype | None = torch.float32
) -> Checkpoint:
    """`read`, for a location from `find`."""
    path, source, note = found
    checkpoint = (_read_folder if path.is_dir() else _read_beside)(path, source, activation)
    return with_note(checkpoint._replace(state=cast_all(checkpoint.state, dtype)), note)


def _read_folder(folder: Path, source: str, activation: str | None) -> Checkpoint:
    """Beside open_clip's configuration, another one takes precedence if it is supported and its weights are there."""
    ours, theirs = folder / "config.json", folder / OPEN_CLIP_CONFIG
    readable = ours.is_file() and read_json(ours).get("model_type") in READABLE
    if not theirs.is_file() or (readable and (first_of(folder, WEIGHTS) or not first_of(folder, OPEN_CLIP_WEIGHTS))):
        return load_folder(folder, source, activation=activation)
    return _read_open_clip(folder, weights_of(folder, (*OPEN_CLIP_WEIGHTS, *WEIGHTS)), source, activation)


def _read_open_clip(folder: Path, weights: Path, source: str, activation: str | None) -> Checkpoint:
    tensors = read_weights(weights)
    settings = read_json(folder / OPEN_CLIP_CONFIG)
    checkpoint = open_clip.with_texts(
        open_clip.read(tensors, settings, source, activation=activation), settings, folder
    )
    return checkpoint._replace(search_files=read_search_files(folder))


def _read_beside(path: Path, source: str, activation: str | None) -> Checkpoint:
    """A file of weights, with the configuration beside it if its tensors are not enough."""
    tensors, folder = read_tensors(path), path.parent
    if not tensors.keys() >= set(openai.MARKS):
        if any(name.startswith("visual.") for name in tensors) and (folder / OPEN_CLIP_CONFIG).is_file():
            checkpoint = _read_open_clip(folder, path, source, activation)
            return with_note(checkpoint, f"used {OPEN_CLIP_CONFIG} beside it")
        if any(name.startswith(OTHERS) for name in tensors) and (folder / "config.json").is_file() and is_model(folder):
            checkpoint = load_folder(folder, source, activation=activation, weights=path)
            return with_note(checkpoint, "used config.json beside it")
    checkpoint, tokenizer_json = _read_file(tensors, source, activation), read_text(folder / "tokenizer.json")
    return checkpoint._replace(tokenizer_json=tokenizer_json, text_preprocessing=tokenization.from_file(folder, source))


def _read_file(tensors: dict[str, Tensor], source: str, activation: str | None) -> Checkpoint:
    """A file without a configuration, recognised by its tensors' names."""
    if tensors.keys() >= set(openai.MARKS):
        return openai.read(tensors, source, activation=activation)
    if any(name.startswith("visual.") for name in tensors):
        return open_clip.read_bare(tensors, source, activation=activation)
    if efficientnet_lite.MARK in tensors:
        raise CheckpointError(
            f"{source} has an EfficientNet-Lite's weights, an image tower without a text tower.",
            remedy=["Start training from it with ", Setting("image_weights", source), "."],
        )
    if any(name.startswith(OTHERS) for name in tensors):
        raise CheckpointError(f"{source}: this model's sizes are in its config.json; pass the folder with both.")
    names = ", ".join(list(tensors)[:4])
    raise CheckpointError(f"{source} has {len(tensors)} tensors, of no known CLIP model: {names} ...")
