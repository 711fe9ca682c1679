"""The folder of a diffusers pipeline: the names of its text encoders and tokenizers, and the widths that its network
reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.checkpoint.replacement import json_text
from diptych.checkpoint.weights.files import read_json
from diptych.errors import ArgumentError, CheckpointError
from diptych.storage.atomic import atomic_write_text

INDEX = "model_index.json"
TEXT_ENCODER, TOKENIZER = "text_encoder", "tokenizer"
ENCODERS = {TEXT_ENCODER: TOKENIZER, f"{TEXT_ENCODER}_2": f"{TOKENIZER}_2"}  # Stable Diffusion XL has both


def tokenizer_of(part: str) -> str:
    """The folder of the tokenizer that belongs to a text encoder's. Raises ArgumentError for another name."""
    if part not in ENCODERS:
        known = " or ".join(map(repr, ENCODERS))
        raise ArgumentError(f"part={part!r} is no text encoder of a pipeline; wanted {known}.", argument="part")
    return ENCODERS[part]


def name_classes(folder: Path, classes: Mapping[str, str]) -> None:
    """Have the pipeline's model_index.json, if it has one, name the classes of transformers that open its parts."""
    index = folder / INDEX
    if index.is_file():
        entries = {name: ["transformers", kind] for name, kind in classes.items()}
        atomic_write_text(index, json_text(read_json(index) | entries))


def check_width(folder: Path, part: str, width: int) -> None:
    """Raise CheckpointError if the pipeline in `folder` has a UNet that reads states of another width than `width` from
    its text encoder `part`. Several text encoders' states are concatenated, as Stable Diffusion XL does."""
    config = folder / "unet" / "config.json"
    if not config.is_file():
        return
    settings = read_json(config)
    key = "encoder_hid_dim" if settings.get("encoder_hid_dim") is not None else "cross_attention_dim"
    wanted = settings.get(key)
    widths = {part: width} | {name: found for name in ENCODERS if name != part and (found := _width(folder / name))}
    total = sum(widths.values())
    if wanted is None or all(each == total for each in (wanted if isinstance(wanted, list) else [wanted])):
        return
    parts = " + ".join(f"{each} of {name}" for name, each in sorted(widths.items()))
    raise CheckpointError(
        f"{folder}: its UNet reads states of width {wanted} ({key} in unet/config.json), "
        f"its text encoder gives {parts}. "
        "Take a text tower of that width, or a UNet trained with this one."
    )


def _width(folder: Path) -> int | None:
    """The width of the states of a text encoder beside; None if the pipeline has none."""
    settings: dict[str, Any] = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    width = settings.get("hidden_size")
    return width if isinstance(width, int) else None
