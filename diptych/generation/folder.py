"""A generator's folder: a Stable Diffusion pipeline of diffusers whose pictures are pixels.

`unet/`, `scheduler/`, `text_encoder/` and `tokenizer/` are what their names say. `vae/` is an AutoencoderTiny without
layers between its first and its last, whose weights are chosen so that it changes nothing: the denoiser works on
pixels, and every part of the pipeline that expects an autoencoder finds one.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from diptych.checkpoint.pipelines.layout import INDEX
from diptych.checkpoint.pipelines.text_encoder import TextTower, save_text_encoder
from diptych.checkpoint.weights.files import read_json

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel

PIPELINE = "StableDiffusionPipeline"
_SCALE = 32.0  # keeps latents where the autoencoder's tanh(x / 3) * 3 is x, to 4e-5 of it
_PARTS = {
    "scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
}  # fmt: skip
_ABSENT = ("feature_extractor", "image_encoder", "safety_checker")


def write_generator(
    folder: Path,
    denoiser: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    words: TextTower,
    *,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a generator that `StableDiffusionPipeline.from_pretrained` opens. `dtype` is that of the
    denoiser's weights in the file; None keeps theirs. The text encoder keeps its own: transformers 5 computes in what a
    file has, diffusers in float32, and a pipeline of both fails."""
    import diffusers

    folder.mkdir(parents=True, exist_ok=True)
    network = denoiser if dtype is None else _copy(denoiser, dtype)
    network.save_pretrained(str(folder / "unet"))
    _forget_origin(folder / "unet" / "config.json")
    scheduler.save_pretrained(str(folder / "scheduler"))
    _unchanging().save_pretrained(str(folder / "vae"))
    save_text_encoder(folder, words)
    index: dict[str, Any] = {"_class_name": PIPELINE, "_diffusers_version": diffusers.__version__}
    index |= {name: [None, None] for name in _ABSENT} | _PARTS | {"requires_safety_checker": False}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return folder


def _forget_origin(config: Path) -> None:
    """diffusers notes the path that a network was read from, which says where its maker keeps files."""
    settings = read_json(config)
    if settings.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _copy(network: UNet2DConditionModel, dtype: torch.dtype) -> UNet2DConditionModel:
    same = copy.deepcopy(network)
    nn.Module.to(same, dtype)
    return same


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
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        layer.weight.zero_()
        layer.weight[range(3), range(3), 1, 1] = factor
        layer.bias.fill_(offset)
    return network.eval()
