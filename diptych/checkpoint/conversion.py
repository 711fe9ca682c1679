"""Converts models between formats, without loss or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from diptych.checkpoint.finding import find
from diptych.checkpoint.folder import save_folder, save_tensors
from diptych.checkpoint.formats import huggingface, open_clip, openai, tokenization
from diptych.checkpoint.reading import read_location
from diptych.checkpoint.replacement import check_apart, json_text, replace_folder
from diptych.checkpoint.settings import write_search_files
from diptych.checkpoint.state import EFFICIENTNET, Checkpoint, cast, differences, listing, preprocessing
from diptych.checkpoint.weights.finite import check_finite
from diptych.checkpoint.weights.shape_check import expected_specs, is_counter
from diptych.errors import ArgumentError, CheckpointError, MessageParts, Setting, warn
from diptych.nets.config import CLIPConfig, ResNetConfig, ViTConfig
from diptych.storage.atomic import atomic_write

Format = Literal["hf", "open_clip", "openai"]


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: Format = "hf",
    activation: str | None = None,
    dtype: torch.dtype | None = None,
    notice: Callable[[MessageParts], None] = warn,
) -> Path:
    """Write the model `source` (any that `read` takes) to `target`, and return its path.

    "hf" is a model folder, "open_clip" a folder with open_clip_config.json and open_clip_model.safetensors, "openai" a
    plain state dict in one .pt file. A file is written atomically, a folder as by `replace_folder`. Weights stay the
    same bit for bit, unless `dtype` differs; torch.int8, only for "hf", stores them in 8 bits (see `weights.int8`), and
    a model that is stored so is written in float32 by default. `notice` is called, before anything is written, if
    transformers will not open the model folder. Raises CheckpointError, and writes nothing, if the format cannot
    represent the model, weights are NaN or infinite, or `target` is the source itself; ArgumentError for an integer
    `dtype`.
    """
    if to not in WRITERS:
        raise CheckpointError(f"to={to!r} is not known; choose one of {', '.join(WRITERS)}.")
    _check_dtype(dtype, to)
    found = find(source)
    check_apart(found.path, Path(target))
    checkpoint = read_location(found, activation=activation, dtype=None)
    check_finite(checkpoint.state, checkpoint.source)
    if to == "hf" and (dtype == torch.int8 or not huggingface.holds(checkpoint.config)):
        notice(_ours_alone(checkpoint.config, dtype))
    if dtype == torch.int8:
        return _write_hf(checkpoint, Path(target), dtype)
    state = {name: cast(tensor, dtype) for name, tensor in checkpoint.state.items()}
    return WRITERS[to](checkpoint._replace(state=state), Path(target))


def _check_dtype(dtype: torch.dtype | None, to: Format) -> None:
    if dtype == torch.int8 and to != "hf":
        raise ArgumentError(
            f"{to} has no weights in 8 bits with scales.",
            remedy=["Pass ", Setting("to", "hf"), ", or leave ", Setting("dtype", "int8"), " out."],
            argument="dtype",
        )
    if dtype not in (None, torch.int8) and not dtype.is_floating_point:
        raise ArgumentError(f"dtype={dtype} is not a type of weights; wanted floating-point or torch.int8.")


def _ours_alone(config: CLIPConfig, dtype: torch.dtype | None) -> MessageParts:
    """Why transformers cannot open this model's folder, and the formats for other programs."""
    if dtype == torch.int8:
        why = "its weights are in 8 bits with scales"
    elif not isinstance(config.image, ViTConfig):
        why = "its image tower is a ResNet" if isinstance(config.image, ResNetConfig) else EFFICIENTNET
    else:
        why = "; ".join(differences(config, huggingface.nearest(config)))
    return [
        f"transformers has no class for this model ({why}): diptych reads the folder, transformers does not. For other "
        "programs pass ", Setting("to", "onnx"), " or ", Setting("to", "openvino"), ".",
    ]  # fmt: skip


def with_tensors(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint of arrays as one of float32 tensors. Raises CheckpointError if weights are missing."""
    forms = expected_specs(checkpoint.config, checkpoint.source)
    if missing := [name for name in forms if name not in checkpoint.state and not is_counter(name)]:
        raise CheckpointError(
            f"{checkpoint.source} lacks {listing(missing, ', ')}: it was converted for another engine. Use the "
            "original model."
        )
    state = {}
    for name, form in forms.items():
        array = np.asarray(checkpoint.state[name] if name in checkpoint.state else np.int64(0)).reshape(form.shape)
        state[name] = cast(torch.from_numpy(array), torch.float32)
    return checkpoint._replace(state=state)


def _write_hf(checkpoint: Checkpoint, target: Path, dtype: torch.dtype | None = None) -> Path:
    settings = checkpoint.preprocess or preprocessing(checkpoint, "the model folder").to_hugging_face()
    model = (checkpoint.config, checkpoint.state)
    words = {"tokenizer_json": checkpoint.tokenizer_json, "text_preprocessing": checkpoint.text_preprocessing}
    search_files = checkpoint.search_files
    return save_folder(target, model, preprocess=settings, dtype=dtype, search_files=search_files, **words)


def _write_open_clip(checkpoint: Checkpoint, target: Path) -> Path:
    tensors, settings = open_clip.write(checkpoint)
    files = {}
    if tokenizer_json := checkpoint.tokenizer_json:
        # In a local folder, open_clip expects the folder's own name.
        asked = {"hf_tokenizer_name": target.name, **tokenization.for_open_clip(checkpoint.text_preprocessing)}
        settings["model_cfg"]["text_cfg"] |= asked
        tokenizer_config = tokenization.tokenizer_settings(
            checkpoint.config.text, tokenizer_json, checkpoint.text_preprocessing, needed=True
        )
        files = {"tokenizer.json": tokenizer_json, "tokenizer_config.json": tokenizer_config}

    def fill(folder: Path) -> None:
        save_tensors(folder / "open_clip_model.safetensors", tensors)
        for name, text in {"open_clip_config.json": json_text(settings), **files}.items():
            (folder / name).write_text(text or "", encoding="utf-8")
        write_search_files(folder, checkpoint.search_files)

    return replace_folder(target, fill)


def _write_openai(checkpoint: Checkpoint, target: Path) -> Path:
    if target.is_dir():
        raise CheckpointError(f"{target} is a folder; OpenAI's format is one file, such as {target / 'model.pt'}.")
    tensors = openai.write(checkpoint)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as part:
        torch.save(tensors, part)
    return target


WRITERS = {"hf": _write_hf, "open_clip": _write_open_clip, "openai": _write_openai}
