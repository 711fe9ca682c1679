"""Any source of a model, read: a folder, a file or a hub id."""

import os
from pathlib import Path

import torch
from torch import Tensor

from diptych.checkpoint import open_clip, openai, texts
from diptych.checkpoint.files import read_json, read_tensors, read_text, read_weights
from diptych.checkpoint.folder import load_folder
from diptych.checkpoint.hub import fetch, is_repo_id
from diptych.checkpoint.settings import READABLE
from diptych.checkpoint.state import Checkpoint, CheckpointError, cast
from diptych.nets.presets import PRESETS

OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def read(
    source: str | os.PathLike[str],
    *,
    activation: str | None = None,
    revision: str | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> Checkpoint:
    """Read a model: a folder (ours, Hugging Face's, open_clip's), a file (OpenAI's TorchScript archive, a pickled state
    dict, .safetensors; with the tokenizer.json that lies beside it, if one does) or a hub id, at a `revision` if given.
    Nothing in a file is ever run.

    `activation` ("gelu" or "quick_gelu") must be said where a file does not tell, and may not contradict one that does.
    Weights become `dtype`; None keeps what the file has. Raises CheckpointError (HubError for the hub) that says what
    came, what was wanted and what to do.
    """
    path = Path(source)
    if revision is not None and path.exists():
        raise CheckpointError(
            f"{source} is on this machine, where nothing has revisions; leave revision={revision!r} out."
        )
    if path.is_dir():
        checkpoint = _read_folder(path, str(source), activation)
    elif path.is_file():
        checkpoint = _read_file(read_tensors(path), str(source), activation)
        words = {"tokenizer_json": read_text(path.parent / "tokenizer.json")}
        checkpoint = checkpoint._replace(**words, reading=texts.of_file(path.parent, str(source)))
    elif str(source) in PRESETS:
        raise CheckpointError(
            f"{source} is the name of an architecture, which has no weights; `diptych train --model {source}` trains "
            "one. Pass a model folder, a file or a hub id."
        )
    elif is_repo_id(str(source)):
        checkpoint = _read_folder(fetch(str(source), revision=revision), str(source), activation)
    else:
        raise CheckpointError(f"{source} is no file, no folder and no hub id (which looks like owner/name).")
    return checkpoint._replace(state={name: cast(tensor, dtype) for name, tensor in checkpoint.state.items()})


def _read_folder(folder: Path, source: str, activation: str | None) -> Checkpoint:
    """Where open_clip's configuration lies beside another, the other is taken if it is one that can be read."""
    config, theirs = folder / "config.json", folder / "open_clip_config.json"
    if not config.is_file() and not theirs.is_file():
        raise CheckpointError(f"{source} holds neither config.json nor open_clip_config.json; it is no model folder.")
    if not theirs.is_file() or (config.is_file() and read_json(config).get("model_type") in READABLE):
        return load_folder(folder, source, activation=activation)
    tensors, settings = read_weights(folder, OPEN_CLIP_WEIGHTS), read_json(theirs)
    return open_clip.with_texts(open_clip.read(tensors, settings, source, activation=activation), settings, folder)


def _read_file(tensors: dict[str, Tensor], source: str, activation: str | None) -> Checkpoint:
    """Whose names a file without a configuration has."""
    if tensors.keys() >= set(openai.MARKS):
        return openai.read(tensors, source, activation=activation)
    if any(name.startswith("visual.") for name in tensors):
        return open_clip.read_bare(tensors, source, activation=activation)
    if any(name.startswith(("vision_model.", "image.")) for name in tensors):
        raise CheckpointError(f"{source}: the sizes of this model stand in its config.json; pass the folder with both.")
    names = ", ".join(list(tensors)[:4])
    raise CheckpointError(f"{source} holds {len(tensors)} tensors of no CLIP model that is known here: {names} ...")
