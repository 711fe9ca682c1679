"""Any source of a model, read: a folder, a file or a hub id."""

import os
from pathlib import Path

import torch
from torch import Tensor

from diptych.checkpoint.finding import ModelLocation, find, is_model
from diptych.checkpoint.folder import load_folder
from diptych.checkpoint.formats import open_clip, openai, tokenization
from diptych.checkpoint.settings import READABLE
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
from diptych.errors import CheckpointError

OPEN_CLIP_CONFIG = "open_clip_config.json"
OTHERS = ("vision_model.", "image.")  # names of Hugging Face's and ours
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def read(
    source: str | os.PathLike[str],
    *,
    activation: str | None = None,
    revision: str | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> Checkpoint:
    """Read a model: "bundled", a folder (ours, Hugging Face's, open_clip's, or one that holds such a folder alone), a
    file (OpenAI's TorchScript archive, a pickled state dict, .safetensors; with the tokenizer.json and, where it does
    not tell its sizes, the configuration that lie beside it) or a hub id, at a `revision` if given. Nothing in a file
    is ever run.

    `activation` ("gelu" or "quick_gelu") must be said where a file does not tell, and may not contradict one that does.
    Weights become `dtype`; None keeps what the file has. Raises CheckpointError (HubError for the hub) that says what
    came, what was wanted and what to do.
    """
    return read_location(find(source, revision=revision), activation=activation, dtype=dtype)


def read_location(
    found: ModelLocation, *, activation: str | None = None, dtype: torch.dtype | None = torch.float32
) -> Checkpoint:
    """`read`, of what `find` has found."""
    place, source, note = found
    checkpoint = (_read_folder if place.is_dir() else _read_beside)(place, source, activation)
    return with_note(checkpoint._replace(state=cast_all(checkpoint.state, dtype)), note)


def _read_folder(folder: Path, source: str, activation: str | None) -> Checkpoint:
    """Where open_clip's configuration lies beside another, the other is taken if it is one that can be read and its
    weights are there."""
    ours, theirs = folder / "config.json", folder / OPEN_CLIP_CONFIG
    readable = ours.is_file() and read_json(ours).get("model_type") in READABLE
    if not theirs.is_file() or (readable and (first_of(folder, WEIGHTS) or not first_of(folder, OPEN_CLIP_WEIGHTS))):
        return load_folder(folder, source, activation=activation)
    return _read_open_clip(folder, weights_of(folder, (*OPEN_CLIP_WEIGHTS, *WEIGHTS)), source, activation)


def _read_open_clip(folder: Path, weights: Path, source: str, activation: str | None) -> Checkpoint:
    tensors = read_weights(weights)
    settings = read_json(folder / OPEN_CLIP_CONFIG)
    return open_clip.with_texts(open_clip.read(tensors, settings, source, activation=activation), settings, folder)


def _read_beside(path: Path, source: str, activation: str | None) -> Checkpoint:
    """A file of weights, with the configuration that lies beside it where it does not tell all of itself."""
    tensors, folder = read_tensors(path), path.parent
    if not tensors.keys() >= set(openai.MARKS):
        if any(name.startswith("visual.") for name in tensors) and (folder / OPEN_CLIP_CONFIG).is_file():
            checkpoint = _read_open_clip(folder, path, source, activation)
            return with_note(checkpoint, f"took {OPEN_CLIP_CONFIG}, which lies beside")
        if any(name.startswith(OTHERS) for name in tensors) and (folder / "config.json").is_file() and is_model(folder):
            checkpoint = load_folder(folder, source, activation=activation, weights=path)
            return with_note(checkpoint, "took config.json, which lies beside")
    checkpoint, tokenizer_json = _read_file(tensors, source, activation), read_text(folder / "tokenizer.json")
    return checkpoint._replace(tokenizer_json=tokenizer_json, text_preprocessing=tokenization.from_file(folder, source))


def _read_file(tensors: dict[str, Tensor], source: str, activation: str | None) -> Checkpoint:
    """Whose names a file without a configuration has."""
    if tensors.keys() >= set(openai.MARKS):
        return openai.read(tensors, source, activation=activation)
    if any(name.startswith("visual.") for name in tensors):
        return open_clip.read_bare(tensors, source, activation=activation)
    if any(name.startswith(OTHERS) for name in tensors):
        raise CheckpointError(f"{source}: the sizes of this model stand in its config.json; pass the folder with both.")
    names = ", ".join(list(tensors)[:4])
    raise CheckpointError(f"{source} holds {len(tensors)} tensors of no CLIP model that is known here: {names} ...")
