"""Writes a text tower as what diffusers' pipelines load as Stable Diffusion's text encoder, and reads one out of such a
pipeline. `transformers.CLIPTextModel` has the tower without its projection."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.checkpoint.folder import save_tensors
from diptych.checkpoint.formats import huggingface
from diptych.checkpoint.formats.name_table import look_up, renamed, write_mapped
from diptych.checkpoint.formats.text_tower import PREFIX, TextTower, text_specs
from diptych.checkpoint.pipelines.layout import TEXT_ENCODER, check_width, name_classes, tokenizer_of
from diptych.checkpoint.pipelines.tokenizer_files import (
    class_of,
    is_tokenizer_folder,
    read_tokenizer_files,
    tokenizer_files,
)
from diptych.checkpoint.replacement import check_replaceable, json_text, replace_folder
from diptych.checkpoint.state import cast
from diptych.checkpoint.weights.files import WEIGHTS, read_json, read_weights, weights_of
from diptych.checkpoint.weights.finite import check_finite
from diptych.checkpoint.weights.shape_check import TensorSpec, check, specs_of
from diptych.errors import CheckpointError
from diptych.nets.config import TextConfig
from diptych.text.tokenizer import missing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

THEIR_PREFIX = "text_model."  # of the keys in most folders; diffusers 0.42 with transformers 5 writes them without it
PROJECTION = "text_projection.weight"  # of CLIPTextModelWithProjection, Stable Diffusion XL's second
WANTED = (
    "A text tower of CLIP's form loads there: causal, normalised before each branch and pooled at the end token, as in "
    "clip-vit-b-32 or in a model trained here from scratch"
)


def save_text_encoder(
    folder: str | os.PathLike[str],
    tower: TextTower,
    *,
    pad_id: int | None = None,
    dtype: torch.dtype | None = None,
    source: str = "the model",
) -> Path:
    """Write `text_encoder/` (transformers' CLIPTextModel) and `tokenizer/` into `folder`, which may be a pipeline's:
    its other folders stay, and its model_index.json names both. Each of the two is replaced completely or not at all.
    Return the path of `folder`.

    The projection and tensors of an image tower are left out. Texts are padded with `pad_id`, by default the tower's
    own: Stable Diffusion 1 pads with the end token, Stable Diffusion 2 with 0, and padding is part of what their
    networks see. `dtype` is that of the weights in the file; None keeps theirs. Raises CheckpointError, and writes
    nothing, for a tower of another form than CLIP's, a tokenizer that does not belong to it, a width that the
    pipeline's UNet does not read, or a folder with other files where one of the two is to be written."""
    folder = Path(folder)
    config = tower.config if pad_id is None else replace(tower.config, pad_id=pad_id)
    check_form(config, source)
    if not tower.tokenizer_json:
        raise missing(config, source)
    words = tokenizer_files(tower.tokenizer_json, config, tower.text_preprocessing, source)
    check_width(folder, TEXT_ENCODER, config.width)
    specs = text_specs(config, source)
    state = {name: tensor for name, tensor in tower.state.items() if name in specs}
    check(specs_of(state), specs, source)
    check_finite(state, source)
    theirs = write_mapped(huggingface.CLIP, {name: cast(tensor, dtype) for name, tensor in state.items()}, source)
    tensors = {name.removeprefix(THEIR_PREFIX): tensor for name, tensor in theirs.items()}
    settings = huggingface.text_config_to_json(config) | {"dtype": _dtype_name(tensors)}
    encoder, tokenizer = folder / TEXT_ENCODER, folder / tokenizer_of(TEXT_ENCODER)
    check_replaceable(encoder)
    replace_folder(tokenizer, lambda new: _write_texts(new, words), replaceable=is_tokenizer_folder)

    def fill(new: Path) -> None:
        _write_texts(new, {"config.json": json_text(settings)})
        save_tensors(new / "model.safetensors", tensors)

    replace_folder(encoder, fill)
    name_classes(folder, {TEXT_ENCODER: "CLIPTextModel", tokenizer.name: class_of(words)})
    return folder.resolve()


def read_text_encoder(folder: str | os.PathLike[str], part: str = TEXT_ENCODER) -> TextTower:
    """Read a text encoder and its tokenizer out of the folder of a Stable Diffusion pipeline: `part` is "text_encoder",
    or "text_encoder_2" (Stable Diffusion XL's). Its keys may have the prefix "text_model." or not.

    The tower's padding is the tokenizer's, and its weights are float32. Raises CheckpointError with what is wrong: a
    missing folder, another architecture, a tensor that is missing, not expected or of another shape, numbers that are
    not finite, and a width that the pipeline's UNet does not read. (diffusers fills such gaps with random numbers.)"""
    folder, tokenizer = Path(folder), tokenizer_of(part)
    encoder, source = folder / part, f"{os.fspath(folder)}/{part}"
    for each in (encoder, folder / tokenizer):
        if not each.is_dir():
            raise CheckpointError(
                f"{folder} has no folder {each.name}; wanted the folder of a Stable Diffusion pipeline."
            )
    words = read_tokenizer_files(folder / tokenizer, f"{os.fspath(folder)}/{tokenizer}")
    config = huggingface.text_config_from_json(read_json(encoder / "config.json"), source, pad_id=words.pad_id)
    check_width(folder, part, config.width)
    state = _state(read_weights(weights_of(encoder, WEIGHTS)), config, source)
    check_finite(state, source)
    return TextTower(config, state, words.tokenizer_json, words.text_preprocessing)


def check_form(config: TextConfig, source: str) -> None:
    """Raise CheckpointError, with what loads instead, unless CLIPTextModel computes the same states."""
    if config.pool == "mean" or config.norm_position == "post":
        found = "a sentence encoder in BERT's form, which averages its tokens"
    elif not config.causal:
        found = "bidirectional, as SigLIP's"
    elif config.pool not in ("end", "argmax"):
        found = f"pooled at the {config.pool} position"
    else:
        return
    raise CheckpointError(
        f"{source} cannot be Stable Diffusion's text encoder (CLIPTextModel): its text tower is {found}. {WANTED}."
    )


def _state(tensors: dict[str, Tensor], config: TextConfig, source: str) -> dict[str, Tensor]:
    """Their tensors under our names, in float32, with a projection: the identity if they have none."""
    import torch

    found = huggingface.normalised_keys(tensors)
    ours = text_specs(config, source)
    wanted = renamed(huggingface.CLIP, ours, source)
    if PROJECTION in found:
        size = found[PROJECTION].shape[0] if found[PROJECTION].ndim else 0
        wanted[PROJECTION] = TensorSpec((size, config.width))
    check(specs_of(found), wanted, source)
    state = {f"{PREFIX}proj.weight": found.get(PROJECTION, torch.eye(config.width)).float()}
    for name in ours:
        names, transform = look_up(huggingface.CLIP, name)
        state[name] = transform.read([found[their] for their in names]).float()
    return state


def _write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())


def _dtype_name(tensors: Mapping[str, Tensor]) -> str:
    return str(next(iter(tensors.values())).dtype).removeprefix("torch.")
