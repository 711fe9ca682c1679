"""Hugging Face's model folders (transformers, models/clip and models/siglip): names, and config.json both ways."""

import json
import re
from typing import Any

from torch import Tensor

from diptych.checkpoint.state import CheckpointError, require_same
from diptych.checkpoint.table import QKV, VECTOR, Row, Rows, read_rows, write_rows
from diptych.nets.clip import CLIPConfig
from diptych.nets.text import TextConfig
from diptych.nets.vision import ViTConfig

FORMAT = "the Hugging Face form"
IGNORED = re.compile(r".*\bposition_ids")  # counts from 0, which older versions saved
LEGACY_END = 2  # transformers pools at the highest id where eos_token_id is this, at the first end token otherwise
LEGACY_PAD = 1  # stands in every CLIP configuration by default, and is no padding of any CLIP tokenizer


def tower_rows(ours: str, theirs: str) -> Rows:
    """What both towers of both families have."""
    layer, block = f"{theirs}.encoder.layers.N", f"{ours}.transformer.blocks.N"
    return (
        Row(f"{ours}.positions", f"{theirs}.embeddings.position_embedding.weight"),
        Row(f"{block}.norm_1.*", f"{layer}.layer_norm1.*"),
        Row(f"{block}.attention.qkv.*", tuple(f"{layer}.self_attn.{part}_proj.*" for part in "qkv"), QKV),
        Row(f"{block}.attention.out.*", f"{layer}.self_attn.out_proj.*"),
        Row(f"{block}.norm_2.*", f"{layer}.layer_norm2.*"),
        Row(f"{block}.mlp.fc.*", f"{layer}.mlp.fc1.*"),
        Row(f"{block}.mlp.proj.*", f"{layer}.mlp.fc2.*"),
    )


TOWERS: Rows = (
    *tower_rows("image", "vision_model"),
    *tower_rows("text", "text_model"),
    Row("image.patch.*", "vision_model.embeddings.patch_embedding.*"),
    Row("image.norm_post.*", "vision_model.post_layernorm.*"),
    Row("text.token.weight", "text_model.embeddings.token_embedding.weight"),
    Row("text.norm_post.*", "text_model.final_layer_norm.*"),
)
CLIP: Rows = (
    *TOWERS,
    Row("image.class_token", "vision_model.embeddings.class_embedding"),
    Row("image.norm_pre.*", "vision_model.pre_layrnorm.*"),  # spelt so
    Row("image.proj.weight", "visual_projection.weight"),
    Row("text.proj.weight", "text_projection.weight"),
    Row("logit_scale", "logit_scale"),
)
SIGLIP: Rows = (
    *TOWERS,
    Row("image.head.probe", "vision_model.head.probe"),
    Row("image.head.attention.qkv.*", "vision_model.head.attention.in_proj_*"),
    Row("image.head.attention.out.*", "vision_model.head.attention.out_proj.*"),
    Row("image.head.norm.*", "vision_model.head.layernorm.*"),
    Row("image.head.mlp.fc.*", "vision_model.head.mlp.fc1.*"),
    Row("image.head.mlp.proj.*", "vision_model.head.mlp.fc2.*"),
    Row("text.proj.*", "text_model.head.*"),
    Row("logit_scale", "logit_scale", VECTOR),
    Row("logit_bias", "logit_bias", VECTOR),
)
ROWS = {"clip": CLIP, "siglip": SIGLIP}
# A version that saves a tower by itself leaves its prefix out; at most one can be left out without a clash.
TOWER_PARTS = {
    "text_model": r"(embeddings|encoder|final_layer_norm|head)\..*",
    "vision_model": r"(embeddings|encoder|pre_layrnorm|post_layernorm|head)\..*",
}

# config.json: their key, our field. DEFAULTS is what transformers assumes where a key is absent.
SIZES = {
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "mlp_width",
    "layer_norm_eps": "norm_eps",
}
IMAGE_KEYS = SIZES | {"image_size": "image_size", "patch_size": "patch_size"}
TEXT_KEYS = SIZES | {"max_position_embeddings": "context", "vocab_size": "vocab_size"}
ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh"}
DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "clip": {
        "text_config": dict(
            vocab_size=49408, hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8,
            max_position_embeddings=77, hidden_act="quick_gelu", layer_norm_eps=1e-5, pad_token_id=1, eos_token_id=49407,
        ),
        "vision_config": dict(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=224,
            patch_size=32, hidden_act="quick_gelu", layer_norm_eps=1e-5,
        ),
    },
    "siglip": {
        "text_config": dict(
            vocab_size=32000, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
            max_position_embeddings=64, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6, pad_token_id=1,
            eos_token_id=49407,
        ),
        "vision_config": dict(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=224,
            patch_size=16, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6,
        ),
    },
}  # fmt: skip
# What each family is, beyond its sizes.
IMAGE_FORM: dict[str, dict[str, Any]] = {
    "clip": {"pool": "class", "norm_pre": True, "patch_bias": False},
    "siglip": {"pool": "map", "norm_pre": False, "patch_bias": True},
}
TEXT_FORM: dict[str, dict[str, Any]] = {
    "clip": {"causal": True, "proj_bias": False},
    "siglip": {"pool": "last", "causal": False, "proj_bias": True},
}
LOSSES: dict[str, Any] = {"clip": "softmax", "siglip": "sigmoid"}
FIXED = {"num_channels": 3, "vision_use_head": True}
