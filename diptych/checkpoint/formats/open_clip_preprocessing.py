"""The preprocessing of open_clip's models: its preprocess_cfg both ways, and a default by architecture without one.
open_clip itself then uses OpenAI's, even for models that were trained with another (open_clip 3.3, pretrained.py, lists
them)."""

from __future__ import annotations

import re
from typing import Any, Literal

from diptych.errors import CheckpointError
from diptych.media.preprocessing import OPENAI_MEAN, OPENAI_STD, Preprocess
from diptych.nets.config import ImageConfig, ViTConfig

RESIZE_MODES: dict[str, Literal["crop", "squash"]] = {"shortest": "crop", "squash": "squash"}
READ = {"mean", "std", "interpolation", "resize_mode", "mode"}  # the size is always the tower's
_HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "resize_mode": "squash"}
_PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1), "interpolation": "bilinear"}
# By the name of timm's tower; all of open_clip's weights of an architecture agree in these.
TIMM: dict[str, tuple[str, dict[str, Any]]] = {
    ".*siglip.*": ("SigLIP", _HALVES),
    "fastvit_mci[012]|vit_base_mci.*": ("MobileCLIP", _PLAIN),
    "fastvit_mci[34]": ("MobileCLIP 2", {"interpolation": "bilinear"}),
    "vit_pe_.*": ("Perception Encoder", _HALVES | {"interpolation": "bilinear"}),
}
SQUASHED_PX = 378  # DFN's and MetaCLIP's own large towers, the only ones of that size with patches of 14 px


def preprocess_from_json(settings: dict[str, Any], size_px: int, source: str) -> Preprocess:
    """The preprocessing of their preprocess_cfg, with open_clip's defaults for absent keys."""
    if not isinstance(settings, dict):
        raise CheckpointError(f"{source}: open_clip_config.json: preprocess_cfg={settings!r:.80} is not an object.")
    mode, mean, std = settings.get("resize_mode") or "shortest", settings.get("mean"), settings.get("std")
    if not isinstance(mode, str) or mode not in RESIZE_MODES:
        raise CheckpointError(
            f"{source}: open_clip_config.json: resize_mode={mode!r} is not supported; {' and '.join(RESIZE_MODES)} are."
        )
    if (colours := settings.get("mode") or "RGB") != "RGB":
        raise CheckpointError(f"{source}: open_clip_config.json: mode={colours!r} is not supported; only 'RGB' is.")
    filter_name = settings.get("interpolation") or "bicubic"
    try:
        return Preprocess(size_px, mean or OPENAI_MEAN, std or OPENAI_STD, RESIZE_MODES[mode], filter_name)
    except ValueError as error:
        raise CheckpointError(f"{source}: open_clip_config.json: {error}") from error


def preprocess_to_json(asked: Preprocess) -> dict[str, Any]:
    """Their preprocess_cfg; the size is the model's."""
    mode = next(theirs for theirs, ours in RESIZE_MODES.items() if ours == asked.mode)
    return {"mean": asked.mean, "std": asked.std, "interpolation": asked.interpolation, "resize_mode": mode}


def default_preprocessing(image: ImageConfig, timm_name: str = "") -> tuple[dict[str, Any], str]:
    """The default preprocess_cfg of an architecture, and a note on it."""
    for pattern, (name, settings) in TIMM.items():
        if re.fullmatch(pattern, timm_name):
            return settings, _note(f"{name}'s models", settings)
    if isinstance(image, ViTConfig) and (image.image_size, image.patch_size) == (SQUASHED_PX, 14):
        settings = {"resize_mode": "squash"}
        return settings, _note(f"the published models of {SQUASHED_PX} px", settings)
    return {}, _note("OpenAI's models", {})


def _note(models: str, settings: dict[str, Any]) -> str:
    spec = preprocess_from_json(settings, 1, "")
    resized = {"crop": "centre crop", "squash": "squashed to a square"}[spec.mode]
    mean = " ".join(f"{value:.3g}" for value in spec.mean)
    return f"no preprocess_cfg: pictures are prepared as for {models} ({spec.interpolation}, {resized}, mean {mean})"
