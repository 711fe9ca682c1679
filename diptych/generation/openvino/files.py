"""The files of a generator's folder, read without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from diptych.checkpoint.weights.files import checked_head, read_json
from diptych.checkpoint.weights.shape_check import FLOAT, TensorSpec
from diptych.errors import CheckpointError

INDEX, PIPELINE = "model_index.json", "StableDiffusionPipeline"
_FLOATS = ("F64", "F32", "F16")  # numpy has no bfloat16


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of weights. Raises CheckpointError for a damaged file, and for numbers that NumPy lacks."""
    try:
        checked_head(path)
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            for name in names:
                if (kind := file.get_slice(name).get_dtype()) not in _FLOATS:
                    raise CheckpointError(f"{path}: {name:.100} is of {kind}; wanted {', '.join(_FLOATS)}.")
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def array_specs(arrays: Mapping[str, np.ndarray]) -> dict[str, TensorSpec]:
    """The specs of arrays of floats, by name."""
    return {name: TensorSpec(array.shape, FLOAT) for name, array in arrays.items()}


def check_generator(folder: Path) -> None:
    """Raise CheckpointError unless a folder is a generator's: a pipeline of words that draws pixels."""
    if not folder.is_dir() or not (folder / INDEX).is_file():
        raise CheckpointError(f"{folder} is no generator; wanted a folder with {INDEX}, as a training run makes.")
    kind = read_json(folder / INDEX).get("_class_name")
    if kind != PIPELINE:
        raise CheckpointError(f"{folder} is a {kind!s:.60}; wanted a {PIPELINE} that draws pixels.")
    if read_json(folder / "vae" / "config.json").get("decoder_block_out_channels") != [3]:
        raise CheckpointError(
            f"{folder} draws latents, which its autoencoder makes a picture; wanted a generator of pixels. diffusers "
            "opens it."
        )
