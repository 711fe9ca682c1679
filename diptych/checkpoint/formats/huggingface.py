"""Hugging Face's model folders (transformers, models/clip and models/siglip): names, and config.json both ways."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from diptych.checkpoint.formats.name_table import QKV, VECTOR, KeyMapping, KeyMappings, read_mapped, write_mapped
from diptych.checkpoint.formats.unread_keys import unread
from diptych.checkpoint.state import differences
from diptych.checkpoint.weights.shape_check import NO_WEIGHT
from diptych.errors import ArgumentError, CheckpointError
from diptych.nets.config import CLIPConfig, TextConfig, ViTConfig
from diptych.text.tokenizer_file import open_tokenizer
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")
FORMAT = "the Hugging Face form"
LEGACY_END = 2  # transformers pools at the highest id where eos_token_id is this, at the first end token otherwise
TEXT_MODEL = "clip_text_model"  # the type of a text tower alone
LEGACY_PAD = 1  # the default of CLIP configurations, which no CLIP tokenizer pads with


def tower_mappings(ours: str, theirs: str) -> KeyMappings:
    """The mappings of both towers of both families."""
    layer, block = f"{theirs}.encoder.layers.N", f"{ours}.transformer.blocks.N"
    return (
        KeyMapping(f"{ours}.positions", f"{theirs}.embeddings.position_embedding.weight"),
        KeyMapping(f"{block}.norm_1.*", f"{layer}.layer_norm1.*"),
        KeyMapping(f"{block}.attention.qkv.*", tuple(f"{layer}.self_attn.{part}_proj.*" for part in "qkv"), QKV),
        KeyMapping(f"{block}.attention.out.*", f"{layer}.self_attn.out_proj.*"),
        KeyMapping(f"{block}.norm_2.*", f"{layer}.layer_norm2.*"),
        KeyMapping(f"{block}.mlp.fc.*", f"{layer}.mlp.fc1.*"),
        KeyMapping(f"{block}.mlp.proj.*", f"{layer}.mlp.fc2.*"),
    )


TOWERS: KeyMappings = (
    *tower_mappings("image", "vision_model"),
    *tower_mappings("text", "text_model"),
    KeyMapping("image.patch.*", "vision_model.embeddings.patch_embedding.*"),
    KeyMapping("image.norm_post.*", "vision_model.post_layernorm.*"),
    KeyMapping("text.token.weight", "text_model.embeddings.token_embedding.weight"),
    KeyMapping("text.norm_post.*", "text_model.final_layer_norm.*"),
)
CLIP: KeyMappings = (
    *TOWERS,
    KeyMapping("image.class_token", "vision_model.embeddings.class_embedding"),
    KeyMapping("image.norm_pre.*", "vision_model.pre_layrnorm.*"),  # [sic]
    KeyMapping("image.proj.weight", "visual_projection.weight"),
    KeyMapping("text.proj.weight", "text_projection.weight"),
    KeyMapping("logit_scale", "logit_scale"),
)
SIGLIP: KeyMappings = (
    *TOWERS,
    KeyMapping("image.head.probe", "vision_model.head.probe"),
    KeyMapping("image.head.attention.qkv.*", "vision_model.head.attention.in_proj_*"),
    KeyMapping("image.head.attention.out.*", "vision_model.head.attention.out_proj.*"),
    KeyMapping("image.head.norm.*", "vision_model.head.layernorm.*"),
    KeyMapping("image.head.mlp.fc.*", "vision_model.head.mlp.fc1.*"),
    KeyMapping("image.head.mlp.proj.*", "vision_model.head.mlp.fc2.*"),
    KeyMapping("text.proj.*", "text_model.head.*"),
    KeyMapping("logit_scale", "logit_scale", VECTOR),
    KeyMapping("logit_bias", "logit_bias", VECTOR),
)
TOWER_KINDS = ("_text_model", "_vision_model")  # transformers' names of single towers
KEY_MAPPINGS = {"clip": CLIP, "siglip": SIGLIP}
# Some versions save a tower without its prefix; at most one prefix can be omitted without a clash.
TOWER_PARTS = {
    "text_model": r"(embeddings|encoder|final_layer_norm|head)\..*",
    "vision_model": r"(embeddings|encoder|pre_layrnorm|post_layernorm|head)\..*",
}

# config.json: their key, our field. DEFAULTS are transformers' values of absent keys.
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
_BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_IDS = {"pad_token_id": 1, "eos_token_id": 49407}
_SMALL = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
_CLIP = _BASE | {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_SIGLIP = _BASE | {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "clip": {
        "text_config": _CLIP | _SMALL | _IDS | {"vocab_size": 49408, "max_position_embeddings": 77},
        "vision_config": _CLIP | {"image_size": 224, "patch_size": 32},
    },
    "siglip": {
        "text_config": _SIGLIP | _IDS | {"vocab_size": 32000, "max_position_embeddings": 64},
        "vision_config": _SIGLIP | {"image_size": 224, "patch_size": 16},
    },
}
# The families' properties besides sizes.
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


def read_state(
    tensors: dict[str, Tensor], settings: dict[str, Any], config: CLIPConfig, source: str
) -> dict[str, Tensor]:
    """Their tensors under our names."""
    return read_mapped(KEY_MAPPINGS[settings["model_type"]], normalised_keys(tensors), config, source)


def write_state(state: dict[str, Tensor], settings: dict[str, Any]) -> dict[str, Tensor]:
    """Our tensors under their names, in the family of `settings` (from `config_to_json`)."""
    return write_mapped(KEY_MAPPINGS[settings["model_type"]], state, FORMAT)


def normalised_keys(tensors: dict[str, Value]) -> dict[str, Value]:
    """The tensors with the names of a whole model, without those that are not weights."""
    found = {name: tensor for name, tensor in tensors.items() if not NO_WEIGHT.fullmatch(name)}
    for tower, parts in TOWER_PARTS.items():
        if not any(name.startswith(f"{tower}.") for name in found):
            found = {f"{tower}.{name}" if re.fullmatch(parts, name) else name: found[name] for name in found}
    return found


def config_from_json(settings: dict[str, Any], source: str, *, pad_id: int | None = None) -> CLIPConfig:
    """The configuration of a config.json. `pad_id` is the tokenizer's padding, if known: transformers writes ids to the
    configuration that no tokenizer uses. Raises CheckpointError with the key if the model is not supported."""
    family = settings.get("model_type")
    if not isinstance(family, str) or family not in KEY_MAPPINGS:
        why = " (NaFlex, which reads pictures of any shape; the fixed-resolution folders of SigLIP 2 can be read)"
        if family != "siglip2":
            why = " (a single tower; pass the whole model)" if str(family).endswith(TOWER_KINDS) else ""
        raise CheckpointError(
            f"{source}: config.json: model_type={family!r}{why} is not supported; "
            f"{', '.join(KEY_MAPPINGS)} and diptych are."
        )
    try:
        vision, text = _tower(settings, family, "vision_config"), _tower(settings, family, "text_config")
        image = ViTConfig(**_fields(vision, IMAGE_KEYS, "vision_config"), **IMAGE_FORM[family])
        texts = _text_config(text, family, "text_config", pad_id)
        embed_dim = settings.get("projection_dim", 512) if family == "clip" else image.width
        return CLIPConfig(embed_dim, image, texts, LOSSES[family])
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{source}: config.json: {error}") from error


def text_config_from_json(settings: dict[str, Any], source: str, *, pad_id: int | None = None) -> TextConfig:
    """The configuration of a config.json of transformers' CLIPTextModel, the text tower alone. Raises CheckpointError
    with the key if it is not supported."""
    family = settings.get("model_type")
    if family != TEXT_MODEL:
        raise CheckpointError(f"{source}: config.json: model_type={family!r} is not supported; {TEXT_MODEL!r} is.")
    try:
        unread(settings, {*SIZES, *TEXT_KEYS, *FIXED, "hidden_act", "model_type", "projection_dim"}, "")
        return _text_config(DEFAULTS["clip"]["text_config"] | settings, "clip", "config.json", pad_id)
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{source}: config.json: {error}") from error


def text_config_to_json(text: TextConfig) -> dict[str, Any]:
    """The config.json of a CLIPTextModel: a causal text tower alone, without its projection."""
    ids = _id_settings(text)
    return {"model_type": TEXT_MODEL, "architectures": ["CLIPTextModel"], **_settings(text, TEXT_KEYS), **ids}


def ignored_keys(settings: dict[str, Any], source: str) -> list[str]:
    """The keys of a config.json that `config_from_json` ignores. Raises CheckpointError for an unsupported one."""
    towers = ("vision_config", "text_config")
    both = {*SIZES, *FIXED, "hidden_act", "model_type"}
    keys = (both | set(IMAGE_KEYS), both | set(TEXT_KEYS) | {"pad_token_id", "eos_token_id", "end_token_id"})
    try:
        found = unread(settings, {"model_type", "projection_dim", *towers, *(f"{name}_dict" for name in towers)}, "")
        for name, known in zip(towers, keys, strict=True):
            for key in (name, f"{name}_dict"):
                found += unread(settings.get(key) or {}, known, f"{key}.")
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{source}: config.json: {error}") from error
    return [f"config.json: {key}" for key in found]


def _tower(settings: dict[str, Any], family: str, key: str) -> dict[str, Any]:
    """A tower's settings over the defaults. The oldest folders have a second set, KEY_dict, which takes precedence."""
    defaults, older = DEFAULTS[family][key], settings.get(f"{key}_dict")
    return defaults | (settings.get(key) or {}) | (defaults | older if older else {})


def _text_config(tower: dict[str, Any], family: str, where: str, pad_id: int | None) -> TextConfig:
    """The text tower's configuration. `pad_id` is the tokenizer's padding, if known."""
    form = TEXT_FORM[family] | _ids(tower, family)
    if pad_id is not None:
        form["pad_id"] = pad_id
    return TextConfig(**_fields(tower, TEXT_KEYS, where), **form)


def _fields(tower: dict[str, Any], keys: dict[str, str], where: str) -> dict[str, Any]:
    """The settings that both towers share, under our fields."""
    for key, value in FIXED.items():
        if tower.get(key, value) != value:
            raise ArgumentError(f"{where}.{key}={tower[key]!r} is not supported; only {value!r} is.")
    if tower["hidden_act"] not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ArgumentError(f"{where}.hidden_act={tower['hidden_act']!r} is not supported; {known} are.")
    fields: dict[str, Any] = {ours: _number(tower[theirs], f"{where}.{theirs}") for theirs, ours in keys.items()}
    return fields | {"activation": ACTIVATIONS[tower["hidden_act"]]}


def _number(value: Any, where: str) -> int | float:
    """A number, or the side of a square."""
    sides = set(value) if isinstance(value, list) else {value}
    if len(sides) != 1 or not isinstance(side := sides.pop(), (int, float)):
        raise ArgumentError(f"{where}={value!r} is not supported; wanted a number, or equal sides.")
    return side


def _ids(text: dict[str, Any], family: str) -> dict[str, Any]:
    """The ids, and the pooling that the end token's id implies."""
    end_id, pad_id = text["eos_token_id"], text["pad_token_id"]
    if isinstance(end_id, list):
        raise ArgumentError(f"text_config.eos_token_id={end_id!r} is not supported; wanted one number.")
    if family == "siglip":
        return {"end_id": end_id, "pad_id": pad_id}
    pool = "argmax" if end_id == LEGACY_END else "end"
    end_id = text.get("end_token_id", text["vocab_size"] - 1) if pool == "argmax" else end_id
    return {"pool": pool, "end_id": end_id, "pad_id": end_id if pad_id == LEGACY_PAD else pad_id}


def padding_id(tokenizer_json: str | None, tokenizer_settings: dict[str, Any]) -> int | None:
    """The id that a tokenizer pads with: of the pad_token in tokenizer_config.json, else of the padding in
    tokenizer.json; None if neither has one."""
    if tokenizer_json is None:
        return None
    token = tokenizer_settings.get("pad_token")
    token = token.get("content") if isinstance(token, dict) else token
    try:
        if token is None:
            return (parse_json(tokenizer_json).get("padding") or {}).get("pad_id")
        return open_tokenizer(tokenizer_json).token_to_id(token)
    except Exception:  # not a tokenizer.json: embedding a text reports it
        return None


def holds(config: CLIPConfig) -> bool:
    """Whether transformers has this architecture, and computes the same vectors."""
    return isinstance(config.image, ViTConfig) and not differences(config, nearest(config))


def nearest(config: CLIPConfig) -> CLIPConfig:
    """The configuration that transformers would read for this model with a vision transformer."""
    return config_from_json(config_to_json(config), FORMAT)


def config_to_json(config: CLIPConfig) -> dict[str, Any]:
    """The config.json of a CLIPModel or SiglipModel. `holds` reads it back to find what it cannot represent."""
    assert isinstance(config.image, ViTConfig)
    family, shared = ("siglip", {}) if config.loss == "sigmoid" else ("clip", {"projection_dim": config.embed_dim})
    vision = {"model_type": f"{family}_vision_model", **shared, **_settings(config.image, IMAGE_KEYS)}
    text = {
        "model_type": f"{family}_text_model",
        **shared,
        **_settings(config.text, TEXT_KEYS),
        **_id_settings(config.text),
    }
    if family == "siglip":
        text["projection_size"] = config.embed_dim
    return {
        "model_type": family,
        "architectures": ["CLIPModel" if family == "clip" else "SiglipModel"],
        **shared,
        "text_config": text,
        "vision_config": vision,
    }


def _settings(tower: ViTConfig | TextConfig, keys: dict[str, str]) -> dict[str, Any]:
    name = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == tower.activation)
    return {theirs: getattr(tower, ours) for theirs, ours in keys.items()} | {"hidden_act": name}


def _id_settings(text: TextConfig) -> dict[str, Any]:
    """`eos_token_id` 2 makes transformers pool at the highest id, as OpenAI does. The end token's id, which it then
    ignores, is stored as `end_token_id` if it is not the highest."""
    if text.pool == "argmax":
        end = {"eos_token_id": LEGACY_END} | (
            {} if text.end_id == text.vocab_size - 1 else {"end_token_id": text.end_id}
        )
    else:
        end = {"eos_token_id": text.end_id}
    return end | {"bos_token_id": text.end_id - 1 if text.causal else None, "pad_token_id": text.pad_id}
