"""open_clip_config.json and our configuration, both ways (open_clip 3, model.py: CLIPVisionCfg and CLIPTextCfg)."""

from typing import Any, NamedTuple

from diptych.checkpoint.formats.open_clip_preprocessing import READ as PICTURE_KEYS
from diptych.checkpoint.formats.unread_keys import unread
from diptych.checkpoint.state import EFFICIENTNET, activations, cannot_hold
from diptych.errors import ArgumentError, CheckpointError
from diptych.nets.config import CLIPConfig, EfficientNetConfig, ImageConfig, ResNetConfig, TextConfig, ViTConfig

DEFAULT_EPS = 1e-5


class Trunk(NamedTuple):
    """The sizes of one of timm's SigLIP image towers, which follow from its name alone."""

    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: str


# timm 1.0, models/vision_transformer.py
_FAMILIES = (
    ("vit_base_patch16_siglip", (224, 256, 384, 512), Trunk(16, 768, 12, 12, 3072, "gelu")),
    ("vit_base_patch32_siglip", (256,), Trunk(32, 768, 12, 12, 3072, "gelu_tanh")),
    ("vit_large_patch16_siglip", (256, 384), Trunk(16, 1024, 24, 16, 4096, "gelu")),
    ("vit_large_patch16_siglip", (512,), Trunk(16, 1024, 24, 16, 4096, "gelu_tanh")),
    ("vit_so400m_patch14_siglip", (224, 378, 384), Trunk(14, 1152, 27, 16, 4304, "gelu")),
    ("vit_so400m_patch16_siglip", (256, 384, 512), Trunk(16, 1152, 27, 16, 4304, "gelu_tanh")),
    ("vit_giantopt_patch16_siglip", (256, 384), Trunk(16, 1536, 40, 16, 6144, "gelu_tanh")),
)
TRUNKS = {f"{family}_{size}": trunk for family, sizes, trunk in _FAMILIES for size in sizes}
SIGLIP_TOWER = {"pool": "map", "norm_pre": False, "patch_bias": True, "norm_eps": 1e-6}

# Allowed keys of a configuration: those that are read, and those that must have the value given here, because the
# towers support no other. Any other key is an error.
MODEL_KEYS = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale", "init_logit_bias", "custom_text",
              "nonscalar_logit_scale", "output_dict", "cast_dtype", "description", "multimodal_cfg"}  # fmt: skip
VISION_KEYS = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "no_ln_pre", "act_kwargs",
               "norm_kwargs", "patch_dropout", "output_tokens", "attn_pooler_queries", "attn_pooler_heads"}  # fmt: skip
TIMM_KEYS = {"timm_model_name", "image_size", "timm_model_pretrained", "timm_drop", "timm_drop_path", "timm_proj_bias",
             "patch_dropout", "output_tokens"}  # fmt: skip
TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pad_id", "eos_id", "pool_type",
             "no_causal_mask", "proj_bias", "act_kwargs", "norm_kwargs", "output_tokens", "hf_tokenizer_name",
             "tokenizer_kwargs", "tokenizer_mode", "hf_model_pretrained", "hf_pooler_type", "hf_proj_type"}  # fmt: skip
# Those that change no vector: initial values, settings of training, and extra outputs.
INERT = {"init_logit_scale", "custom_text", "nonscalar_logit_scale", "output_dict", "cast_dtype", "description",
         "multimodal_cfg", "patch_dropout", "output_tokens", "attn_pooler_queries", "attn_pooler_heads",
         "timm_model_pretrained", "timm_drop", "timm_drop_path", "timm_proj_bias", "hf_model_pretrained",
         "hf_pooler_type", "hf_proj_type"}  # fmt: skip
PLAIN_BLOCKS = {"ls_init_value": None, "block_type": None, "final_ln_after_pool": False}
PLAIN_BLOCKS |= dict.fromkeys(("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn"), False)
PLAIN_BLOCKS |= {"scale_fc": False}
FIXED_VISION = PLAIN_BLOCKS | {"attentional_pool": False, "pos_embed_type": "learnable", "pool_type": "tok"}
FIXED_VISION |= {"timm_model_name": None}
FIXED_TIMM = {"timm_pool": "map", "timm_proj": "none"}
FIXED_TEXT = PLAIN_BLOCKS | {"embed_cls": False, "proj_type": "linear", "hf_model_name": None}
POOLS = {"argmax": "argmax", "eos": "end", "last": "last"}


def config_from_json(settings: dict[str, Any], source: str) -> CLIPConfig:
    """The configuration of their model_cfg. Raises CheckpointError with the key if a tower does not support it."""
    try:
        model = settings.get("model_cfg", settings)
        _check_keys(model, MODEL_KEYS | {"preprocess_cfg"}, {}, "")
        loss = "softmax" if model.get("init_logit_bias") is None else "sigmoid"
        image, text = _image(model), _text(model)
        config = CLIPConfig(model["embed_dim"], image, text, loss)
    except KeyError as error:
        raise CheckpointError(f"{source}: open_clip_config.json lacks {error}.") from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{source}: open_clip_config.json: {error}") from error
    return config


def ignored_keys(settings: dict[str, Any], source: str) -> list[str]:
    """The keys that `config_from_json` and `preprocess_from_json` ignore."""
    model = settings.get("model_cfg", settings)
    try:
        found = unread(settings, {"model_cfg", "preprocess_cfg"}, "") if "model_cfg" in settings else []
        for name, part in (("model_cfg", model), ("vision_cfg", model["vision_cfg"]), ("text_cfg", model["text_cfg"])):
            found += [f"{name}.{key}" for key in part if key in INERT]
        found += [f"preprocess_cfg.{key}" for key in settings.get("preprocess_cfg") or {} if key not in PICTURE_KEYS]
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{source}: open_clip_config.json: {error}") from error
    return [f"open_clip_config.json: {key}" for key in found]


def _check_keys(settings: dict[str, Any], known: set[str], fixed: dict[str, Any], where: str) -> None:
    for key, value in settings.items():
        if key in fixed and (value or None) != (fixed[key] or None):
            raise ArgumentError(f"{where}{key}={value!r} is not supported; only {fixed[key]!r} is.")
    if unknown := [f"{where}{key}" for key in settings if key not in known and key not in fixed]:
        raise ArgumentError(f"{', '.join(unknown)} is not supported.")


def _image(model: dict[str, Any]) -> ViTConfig | ResNetConfig:
    vision = model["vision_cfg"]
    if vision.get("timm_model_name"):
        return _timm(vision)
    _check_keys(vision, VISION_KEYS, FIXED_VISION, "vision_cfg.")
    width, size, head_width = vision.get("width", 768), vision.get("image_size", 224), vision.get("head_width", 64)
    if isinstance(layers := vision.get("layers", 12), list):
        return ResNetConfig(_square(size), tuple(layers), width, width * 32 // head_width)  # type: ignore[arg-type]
    return ViTConfig(
        image_size=_square(size),
        patch_size=_square(vision.get("patch_size", 16)),
        width=width,
        layers=layers,
        heads=width // head_width,
        mlp_width=int(width * vision.get("mlp_ratio", 4.0)),
        activation=_activation(model, vision),
        norm_pre=not vision.get("no_ln_pre", False),
        norm_eps=_eps(vision),
    )


def _timm(vision: dict[str, Any]) -> ViTConfig:
    name = vision["timm_model_name"]
    if name not in TRUNKS:
        raise ArgumentError(
            f"vision_cfg.timm_model_name={name!r} is not supported; of timm's towers, only SigLIP's are."
        )
    assumed = {"timm_pool": "avg", "timm_proj": "linear"}
    _check_keys(assumed | vision, TIMM_KEYS, FIXED_TIMM, "vision_cfg.")
    return ViTConfig(image_size=_square(vision.get("image_size", 224)), **TRUNKS[name]._asdict(), **SIGLIP_TOWER)


def _text(model: dict[str, Any]) -> TextConfig:
    text = model["text_cfg"]
    _check_keys(text, TEXT_KEYS, FIXED_TEXT, "text_cfg.")
    width, vocab_size, pool = text.get("width", 512), text.get("vocab_size", 49408), text.get("pool_type", "argmax")
    if pool not in POOLS:
        raise ArgumentError(f"text_cfg.pool_type={pool!r} is not supported; {', '.join(POOLS)} are.")
    return TextConfig(
        context=text.get("context_length", 77),
        vocab_size=vocab_size,
        width=width,
        layers=text.get("layers", 12),
        heads=text.get("heads", 8),
        mlp_width=int(width * text.get("mlp_ratio", 4.0)),
        activation=_activation(model, text),
        pool=POOLS[pool],  # type: ignore[arg-type]
        causal=not text.get("no_causal_mask", False),
        end_id=text.get("eos_id", 2) if pool == "eos" else vocab_size - 1,
        pad_id=text.get("pad_id", 0),
        proj_bias=text.get("proj_bias", False),
        norm_eps=_eps(text),
    )


def _activation(model: dict[str, Any], tower: dict[str, Any]) -> str:
    options = tower.get("act_kwargs") or {}
    if options and (options != {"approximate": "tanh"} or model.get("quick_gelu")):
        raise ArgumentError(
            f"act_kwargs={options!r} is not supported; only {{'approximate': 'tanh'}} without quick_gelu is."
        )
    return "gelu_tanh" if options else "quick_gelu" if model.get("quick_gelu") else "gelu"


def _eps(tower: dict[str, Any]) -> float:
    options = tower.get("norm_kwargs") or {}
    if options.keys() - {"eps"}:
        raise ArgumentError(f"norm_kwargs={options!r} is not supported; only eps is.")
    return options.get("eps", DEFAULT_EPS)


def _square(size: int | list[int]) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise ArgumentError(f"a size of {size} is not supported; only squares are.")
    return sides.pop()


def config_to_json(config: CLIPConfig) -> dict[str, Any]:
    """Their model_cfg. Reading it back shows what it cannot represent."""
    names = activations(config)
    bias = {"init_logit_bias": -10.0} if config.loss == "sigmoid" else {}
    return {
        "embed_dim": config.embed_dim,
        "quick_gelu": names == {"quick_gelu"},
        **bias,
        "vision_cfg": _image_to_json(config.image),
        "text_cfg": _text_to_json(config.text),
    }


def _image_to_json(image: ImageConfig) -> dict[str, Any]:
    if isinstance(image, EfficientNetConfig):
        raise cannot_hold("open_clip's format", EFFICIENTNET)
    if isinstance(image, ResNetConfig):
        head_width = image.width * 32 // image.heads
        return {
            "image_size": image.image_size,
            "layers": list(image.layers),
            "width": image.width,
            "head_width": head_width,
        }
    if image.pool == "map":
        return _timm_to_json(image)
    return {
        "image_size": image.image_size,
        "patch_size": image.patch_size,
        "layers": image.layers,
        "width": image.width,
        "head_width": image.width // image.heads,
        "mlp_ratio": _ratio(image.mlp_width, image.width),
        "no_ln_pre": not image.norm_pre,
        **_options(image),
    }


def _timm_to_json(image: ViTConfig) -> dict[str, Any]:
    sizes = Trunk(image.patch_size, image.width, image.layers, image.heads, image.mlp_width, image.activation)
    for name, trunk in TRUNKS.items():
        if trunk == sizes and name.endswith(f"_{image.image_size}"):
            return {
                "timm_model_name": name,
                "image_size": image.image_size,
                "timm_model_pretrained": False,
            } | FIXED_TIMM
    raise cannot_hold("open_clip's format", f"timm has no SigLIP tower of {sizes}")


def _text_to_json(text: TextConfig) -> dict[str, Any]:
    pool_type = next((theirs for theirs, ours in POOLS.items() if ours == text.pool), None)
    if pool_type is None:
        raise cannot_hold("open_clip's format", f"its text towers do not pool by text.pool={text.pool!r}")
    return {
        "context_length": text.context,
        "vocab_size": text.vocab_size,
        "width": text.width,
        "heads": text.heads,
        "layers": text.layers,
        "mlp_ratio": _ratio(text.mlp_width, text.width),
        "pool_type": pool_type,
        "eos_id": text.end_id,
        "pad_id": text.pad_id,
        "no_causal_mask": not text.causal,
        "proj_bias": text.proj_bias,
        **_options(text),
    }


def _options(tower: ViTConfig | TextConfig) -> dict[str, Any]:
    tanh = {"act_kwargs": {"approximate": "tanh"}} if tower.activation == "gelu_tanh" else {}
    return tanh if tower.norm_eps == DEFAULT_EPS else tanh | {"norm_kwargs": {"eps": tower.norm_eps}}


def _ratio(mlp_width: int, width: int) -> float:
    """A ratio such that int(width * ratio), as open_clip reads it, is `mlp_width`."""
    ratio = mlp_width / width
    return ratio if int(width * ratio) == mlp_width else (mlp_width + 0.5) / width
