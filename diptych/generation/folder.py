"""A generator's folder: a Stable Diffusion pipeline of diffusers whose pictures are pixels.

`unet/`, `scheduler/`, `text_encoder/` and `tokenizer/` are what their names say. `vae/` is an AutoencoderTiny without
layers between its first and its last, whose weights are chosen so that it changes nothing: the denoiser works on
pixels, and every part of the pipeline that expects an autoencoder finds one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from diptych.checkpoint.pipelines.text_encoder import TextTower, read_text_encoder, save_text_encoder
from diptych.errors import CheckpointError
from diptych.extras import require
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel

INDEX = "model_index.json"
PIPELINE = "StableDiffusionPipeline"
WEIGHTS = "diffusion_pytorch_model.safetensors"
_SCALE = 32.0  # keeps latents where the autoencoder's tanh(x / 3) * 3 is x, to 4e-5 of it
_MOST_JSON = 1 << 20
_PARTS = {
    "scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
}  # fmt: skip
_ABSENT = ("feature_extractor", "image_encoder", "safety_checker")


class Parts(NamedTuple):
    """What a generator's folder holds."""

    denoiser: UNet2DConditionModel
    scheduler: DDIMScheduler
    words: TextTower


def write_generator(folder: Path, parts: Parts, *, dtype: torch.dtype | None = None, pad_id: int | None = None) -> Path:
    """Write a generator that `StableDiffusionPipeline.from_pretrained` opens. `dtype` is that of the weights in the
    files; None keeps theirs."""
    import diffusers

    folder.mkdir(parents=True, exist_ok=True)
    denoiser = parts.denoiser if dtype is None else _copy(parts.denoiser, dtype)
    denoiser.save_pretrained(str(folder / "unet"))
    parts.scheduler.save_pretrained(str(folder / "scheduler"))
    _unchanging().save_pretrained(str(folder / "vae"))
    save_text_encoder(folder, parts.words, dtype=dtype, pad_id=pad_id)
    index: dict[str, Any] = {"_class_name": PIPELINE, "_diffusers_version": diffusers.__version__}
    index |= {name: [None, None] for name in _ABSENT} | _PARTS | {"requires_safety_checker": False}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return folder


def read_generator(folder: Path) -> Parts:
    """Read a folder of `write_generator`. Raises CheckpointError with what is wrong with it: another pipeline, one that
    works on latents, or a tensor that is missing, unexpected or of another shape."""
    require("a generator", "torch", "diffusers")
    from diffusers import DDIMScheduler

    check_form(folder)
    words = read_text_encoder(folder)
    return Parts(_denoiser(folder), _scheduler(folder, DDIMScheduler), words)


def check_form(folder: Path) -> None:
    """Raise CheckpointError unless a folder is a generator's."""
    if not folder.is_dir() or not (folder / INDEX).is_file():
        raise CheckpointError(
            f"{folder} is no generator; wanted a folder with {INDEX}, as `diptych generate train` makes."
        )
    index = _json(folder / INDEX)
    if index.get("_class_name") != PIPELINE:
        raise CheckpointError(f"{folder} is a {index.get('_class_name')!s:.60}; wanted a {PIPELINE} that draws pixels.")
    autoencoder, size = _json(folder / "vae" / "config.json"), _json(folder / "unet" / "config.json")
    if autoencoder.get("decoder_block_out_channels") != [3] or size.get("in_channels") != 3:
        raise CheckpointError(
            f"{folder} draws latents, of which its autoencoder makes pictures; wanted a generator of pixels. diffusers "
            "opens it."
        )


def _denoiser(folder: Path) -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel
    from safetensors.torch import load_file

    source = folder / "unet"
    config = {name: value for name, value in _json(source / "config.json").items() if not name.startswith("_")}
    try:
        with torch.device("meta"):
            network = UNet2DConditionModel.from_config(config)
    except (TypeError, ValueError, KeyError, NotImplementedError) as error:
        raise CheckpointError(f"{source / 'config.json'} describes no denoiser: {error}") from error
    try:
        state = load_file(source / WEIGHTS)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{source / WEIGHTS} cannot be read: {error}") from error
    _check_tensors(network, state, source / WEIGHTS)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    return network.eval().requires_grad_(False)


def _check_tensors(network: torch.nn.Module, state: dict[str, torch.Tensor], source: Path) -> None:
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | state.keys()):
        if name not in state:
            raise CheckpointError(f"{source} has no tensor {name}; the configuration beside it wants one.")
        if name not in wanted:
            raise CheckpointError(f"{source} has a tensor {name:.100} that the configuration beside it does not want.")
        if state[name].shape != wanted[name].shape:
            shapes = f"{tuple(state[name].shape)}; the configuration beside it wants {tuple(wanted[name].shape)}"
            raise CheckpointError(f"{source}: {name} has the shape {shapes}.")


def _scheduler(folder: Path, kind: type[DDIMScheduler]) -> DDIMScheduler:
    config = {k: v for k, v in _json(folder / "scheduler" / "scheduler_config.json").items() if not k.startswith("_")}
    try:
        return kind.from_config(config)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{folder / 'scheduler'} describes no noise schedule: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(path.read_bytes(), max_bytes=_MOST_JSON)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is no JSON object.")
    return found


def _copy(network: UNet2DConditionModel, dtype: torch.dtype) -> UNet2DConditionModel:
    same = type(network).from_config(network.config)
    same.load_state_dict(network.state_dict())
    return same.to(dtype)


@torch.no_grad()
def _unchanging() -> AutoencoderTiny:
    """An autoencoder whose latents are the pixels, and whose pixels are the latents within [-1, 1]."""
    from diffusers import AutoencoderTiny

    network = AutoencoderTiny(
        encoder_block_out_channels=(3,), decoder_block_out_channels=(3,), num_encoder_blocks=(0,),
        num_decoder_blocks=(0,), latent_channels=3, scaling_factor=_SCALE,
    )  # fmt: skip
    # Pixels come in 0 to 1 and leave so; the decoder's ReLU lies between its two layers.
    steps = {"encoder.layers.0": (1.0, 0.0), "encoder.layers.1": (2 / _SCALE, -1 / _SCALE)}
    steps |= {"decoder.layers.0": (_SCALE / 2, 0.5), "decoder.layers.2": (1.0, 0.0)}
    for name, (factor, offset) in steps.items():
        layer = network.get_submodule(name)
        layer.weight.zero_()
        layer.weight[range(3), range(3), 1, 1] = factor
        layer.bias.fill_(offset)
    return network.eval()
