"""open_clip's checkpoints (https://github.com/mlfoundations/open_clip, version 3): OpenAI's names, and timm's for the
image tower of SigLIP."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.checkpoint.formats import openai, tokenization
from diptych.checkpoint.formats.huggingface import padding_id
from diptych.checkpoint.formats.name_table import BATCHED, Q_KV, KeyMapping, KeyMappings, read_mapped, write_mapped
from diptych.checkpoint.formats.open_clip_config import config_from_json, config_to_json, ignored_keys
from diptych.checkpoint.formats.open_clip_preprocessing import (
    default_preprocessing,
    preprocess_from_json,
    preprocess_to_json,
)
from diptych.checkpoint.state import Checkpoint, check_activation, preprocessing, require_same, with_note
from diptych.checkpoint.weights.files import read_text
from diptych.errors import CheckpointError, Setting
from diptych.nets.config import ACTIVATIONS, CLIPConfig, ViTConfig

FORMAT = "open_clip's format"
KEY_MAPPINGS: KeyMappings = (*openai.KEY_MAPPINGS, KeyMapping("logit_bias", "logit_bias"))
BIASED_PROJECTION: KeyMappings = (KeyMapping("text.proj.*", "text_projection.*"),)  # a Linear, so not transposed
TIMM: KeyMappings = (
    KeyMapping("image.patch.*", "visual.trunk.patch_embed.proj.*"),
    KeyMapping("image.positions", "visual.trunk.pos_embed", BATCHED),
    KeyMapping("image.transformer.blocks.N.norm_1.*", "visual.trunk.blocks.N.norm1.*"),
    KeyMapping("image.transformer.blocks.N.attention.qkv.*", "visual.trunk.blocks.N.attn.qkv.*"),
    KeyMapping("image.transformer.blocks.N.attention.out.*", "visual.trunk.blocks.N.attn.proj.*"),
    KeyMapping("image.transformer.blocks.N.norm_2.*", "visual.trunk.blocks.N.norm2.*"),
    KeyMapping("image.transformer.blocks.N.mlp.fc.*", "visual.trunk.blocks.N.mlp.fc1.*"),
    KeyMapping("image.transformer.blocks.N.mlp.proj.*", "visual.trunk.blocks.N.mlp.fc2.*"),
    KeyMapping("image.norm_post.*", "visual.trunk.norm.*"),
    KeyMapping("image.head.probe", "visual.trunk.attn_pool.latent"),
    KeyMapping("image.head.attention.qkv.*", ("visual.trunk.attn_pool.q.*", "visual.trunk.attn_pool.kv.*"), Q_KV),
    KeyMapping("image.head.attention.out.*", "visual.trunk.attn_pool.proj.*"),
    KeyMapping("image.head.norm.*", "visual.trunk.attn_pool.norm.*"),
    KeyMapping("image.head.mlp.fc.*", "visual.trunk.attn_pool.mlp.fc1.*"),
    KeyMapping("image.head.mlp.proj.*", "visual.trunk.attn_pool.mlp.fc2.*"),
)


def read(
    tensors: dict[str, Tensor], settings: dict[str, Any], source: str, *, activation: str | None = None
) -> Checkpoint:
    """A model with its `open_clip_config.json` (as parsed)."""
    config = config_from_json(settings, source)
    check_activation(config, activation, source)
    ignored, stored, note = ignored_keys(settings, source), settings.get("preprocess_cfg"), ""
    if not stored:
        stored, note = default_preprocessing(
            config.image, settings.get("model_cfg", settings)["vision_cfg"].get("timm_model_name") or ""
        )
    spec = preprocess_from_json(stored, config.image.image_size, source)
    state = read_mapped(key_mappings(config), _normalised_keys(tensors), config, source)
    checkpoint = Checkpoint(config, state, spec.to_hugging_face(), None, source, ignored_keys=tuple(ignored))
    return with_note(checkpoint, note)


def with_texts(checkpoint: Checkpoint, settings: dict[str, Any], folder: Path) -> Checkpoint:
    """The model with its folder's tokenizer, text preprocessing and padding, which open_clip does not take from the
    configuration."""
    asked = settings.get("model_cfg", settings)["text_cfg"]
    tokenizer_json, tokenizer = read_text(folder / "tokenizer.json"), tokenization.settings_of(folder)
    config, text_preprocessing = (
        checkpoint.config,
        tokenization.from_open_clip(asked, tokenizer, tokenizer_json, checkpoint.source),
    )
    if not config.text.causal and asked.get("hf_tokenizer_name"):
        pad_id = padding_id(tokenizer_json, {**tokenizer, **(asked.get("tokenizer_kwargs") or {})})
        config = config if pad_id is None else replace(config, text=replace(config.text, pad_id=pad_id))
    return checkpoint._replace(config=config, tokenizer_json=tokenizer_json, text_preprocessing=text_preprocessing)


def read_bare(tensors: dict[str, Tensor], source: str, *, activation: str | None = None) -> Checkpoint:
    """Weights without a configuration. They do not contain the activation, and a wrong one would go unnoticed."""
    if activation not in ACTIVATIONS:
        unknown = "" if activation is None else f"activation={activation!r} is not known; "
        raise CheckpointError(
            f"{source}: {unknown}the file has OpenAI's names but not its marks, so it may have been trained with "
            "either activation.",
            remedy=[
                "Pass ", Setting("activation", "quick_gelu"), " or ", Setting("activation", "gelu"),
                ", or a folder with its configuration.",
            ],
            argument="activation",
        )  # fmt: skip
    tensors = _normalised_keys(tensors)
    if any(name.startswith("visual.trunk.") for name in tensors):
        raise CheckpointError(
            f"{source}: a timm image tower's weights do not contain its sizes; pass the folder with its configuration."
        )
    config = openai.config_from_shapes(tensors, activation, source)
    if isinstance(config.image, ViTConfig):
        config = replace(config, image=replace(config.image, norm_pre="visual.ln_pre.weight" in tensors))
    config = replace(config, loss="sigmoid" if "logit_bias" in tensors else "softmax")
    state = read_mapped(key_mappings(config), tensors, config, source)
    if config.loss == "sigmoid":  # these models differ in preprocessing
        return Checkpoint(config, state, None, None, source)
    stored, note = default_preprocessing(config.image)
    spec = preprocess_from_json(stored, config.image.image_size, source)
    return Checkpoint(config, state, spec.to_hugging_face(), None, source, notes=(note,))


def write(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Their tensors and their configuration. Raises CheckpointError if they cannot represent the model."""
    config, asked = checkpoint.config, preprocessing(checkpoint, FORMAT)
    settings = {"model_cfg": config_to_json(config), "preprocess_cfg": preprocess_to_json(asked)}
    tensors = write_mapped(key_mappings(config), checkpoint.state, FORMAT)
    require_same(config, config_from_json(settings, FORMAT), FORMAT)
    return tensors, settings


def key_mappings(config: CLIPConfig) -> KeyMappings:
    """The names for this model; the first row that matches a tensor applies."""
    timm = TIMM if getattr(config.image, "pool", "") == "map" else ()
    return (*(BIASED_PROJECTION if config.text.proj_bias else ()), *timm, *KEY_MAPPINGS)


def _normalised_keys(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their names without the prefix of the text tower, which models with custom_text have."""
    names = {name: re.sub(r"^text\.", "", name) for name in tensors}
    return {names[name]: tensor for name, tensor in tensors.items()}
