"""The configurations of published models by name, and small ones that train on a laptop.

Sources: OpenAI, Radford et al. 2021, tables 19 and 20; open_clip's model_configs (H/14, g/14, bigG/14); SigLIP, Zhai et
al. 2023, and SigLIP 2, Tschannen et al. 2025, in the sizes of their released folders. EfficientNet-Lite: the factors of
TensorFlow's efficientnet/lite.
"""

import difflib
from dataclasses import replace

from diptych.errors import ArgumentError
from diptych.nets.config import CLIPConfig, EfficientNetConfig, ImageConfig, ResNetConfig, TextConfig, ViTConfig


def _text(width: int, layers: int = 12, activation: str = "quick_gelu") -> TextConfig:
    return TextConfig(width=width, layers=layers, heads=width // 64, mlp_width=4 * width, activation=activation)


def _openai_resnet(dim: int, size: int, layers: tuple[int, int, int, int], width: int, text: int) -> CLIPConfig:
    return CLIPConfig(dim, ResNetConfig(size, layers, width, heads=width // 2), _text(text))


def _openai_vit(dim: int, size: int, patch: int, width: int, layers: int, text: int) -> CLIPConfig:
    image = ViTConfig(size, patch, width, layers, heads=width // 64, mlp_width=4 * width, activation="quick_gelu")
    return CLIPConfig(dim, image, _text(text))


def _open_clip(
    dim: int, width: int, layers: int, head_width: int, mlp_width: int, text: int, text_layers: int
) -> CLIPConfig:
    image = ViTConfig(224, 14, width, layers, heads=width // head_width, mlp_width=mlp_width)
    return CLIPConfig(dim, image, _text(text, text_layers, "gelu"))


def _siglip(
    size: int, patch: int, width: int, layers: int, heads: int, mlp_width: int, vocab_size: int, context: int = 64
) -> CLIPConfig:
    image = ViTConfig(
        size,
        patch,
        width,
        layers,
        heads,
        mlp_width,
        "gelu_tanh",
        pool="map",
        norm_pre=False,
        patch_bias=True,
        norm_eps=1e-6,
    )
    text = TextConfig(
        context, vocab_size, width, layers, heads, mlp_width, "gelu_tanh",
        pool="last", causal=False, end_id=1, pad_id=1 if vocab_size == 32000 else 0, proj_bias=True, norm_eps=1e-6,
    )  # fmt: skip
    return CLIPConfig(width, image, text, loss="sigmoid")


def _siglip_2_giant(size: int) -> CLIPConfig:
    """Its text tower is that of So400m, with a wider last layer."""
    image = _siglip(size, 16, 1536, 40, 16, 6144, SIGLIP_2).image
    return replace(_siglip(size, 16, *_SO400M, SIGLIP_2), embed_dim=1536, image=image)


def _small(image: ImageConfig, dim: int, width: int, layers: int, vocab_size: int = 4096) -> CLIPConfig:
    text = TextConfig(40, vocab_size, width, layers, width // 64, 4 * width, pool="end", end_id=vocab_size - 1)
    return CLIPConfig(dim, image, text)


_B16, _L16, _SO400M = (16, 768, 12, 12, 3072), (16, 1024, 24, 16, 4096), (1152, 27, 16, 4304)
SIGLIP, SIGLIP_2 = 32000, 256000  # vocabulary: SigLIP's SentencePiece on C4, SigLIP 2's Gemma

PRESETS: dict[str, CLIPConfig] = {
    "RN50": _openai_resnet(1024, 224, (3, 4, 6, 3), 64, 512),
    "RN101": _openai_resnet(512, 224, (3, 4, 23, 3), 64, 512),
    "RN50x4": _openai_resnet(640, 288, (4, 6, 10, 6), 80, 640),
    "RN50x16": _openai_resnet(768, 384, (6, 8, 18, 8), 96, 768),
    "RN50x64": _openai_resnet(1024, 448, (3, 15, 36, 10), 128, 1024),
    "ViT-B/32": _openai_vit(512, 224, 32, 768, 12, 512),
    "ViT-B/16": _openai_vit(512, 224, 16, 768, 12, 512),
    "ViT-L/14": _openai_vit(768, 224, 14, 1024, 24, 768),
    "ViT-L/14@336": _openai_vit(768, 336, 14, 1024, 24, 768),
    "ViT-H/14": _open_clip(1024, 1280, 32, 80, 5120, 1024, 24),
    "ViT-g/14": _open_clip(1024, 1408, 40, 88, 6144, 1024, 24),
    "ViT-bigG/14": _open_clip(1280, 1664, 48, 104, 8192, 1280, 32),
    "SigLIP-B/16": _siglip(224, *_B16, SIGLIP),
    "SigLIP-B/16@256": _siglip(256, *_B16, SIGLIP),
    "SigLIP-B/16@384": _siglip(384, *_B16, SIGLIP),
    "SigLIP-B/16@512": _siglip(512, *_B16, SIGLIP),
    "SigLIP-L/16@256": _siglip(256, *_L16, SIGLIP),
    "SigLIP-L/16@384": _siglip(384, *_L16, SIGLIP),
    "SigLIP-So400m/14": _siglip(224, 14, *_SO400M, SIGLIP, context=16),
    "SigLIP-So400m/14@384": _siglip(384, 14, *_SO400M, SIGLIP),
    "SigLIP2-B/32@256": _siglip(256, 32, *_B16[1:], SIGLIP_2),
    "SigLIP2-B/16": _siglip(224, *_B16, SIGLIP_2),
    "SigLIP2-B/16@256": _siglip(256, *_B16, SIGLIP_2),
    "SigLIP2-B/16@384": _siglip(384, *_B16, SIGLIP_2),
    "SigLIP2-B/16@512": _siglip(512, *_B16, SIGLIP_2),
    "SigLIP2-L/16@256": _siglip(256, *_L16, SIGLIP_2),
    "SigLIP2-L/16@384": _siglip(384, *_L16, SIGLIP_2),
    "SigLIP2-L/16@512": _siglip(512, *_L16, SIGLIP_2),
    "SigLIP2-So400m/14": _siglip(224, 14, *_SO400M, SIGLIP_2),
    "SigLIP2-So400m/14@384": _siglip(384, 14, *_SO400M, SIGLIP_2),
    "SigLIP2-So400m/16@256": _siglip(256, 16, *_SO400M, SIGLIP_2),
    "SigLIP2-So400m/16@384": _siglip(384, 16, *_SO400M, SIGLIP_2),
    "SigLIP2-So400m/16@512": _siglip(512, 16, *_SO400M, SIGLIP_2),
    "SigLIP2-gopt/16@256": _siglip_2_giant(256),
    "SigLIP2-gopt/16@384": _siglip_2_giant(384),
    "resnet-small": _small(ResNetConfig(96, (2, 2, 4, 2), 32, heads=16), 256, 256, 4),
    "resnet-tiny": _small(ResNetConfig(64, (1, 1, 1, 1), 8, heads=4), 64, 64, 2, 1024),
    "efficientnet-lite0": _small(EfficientNetConfig(224, 1.0, 1.0), 384, 384, 6),
    "efficientnet-lite1": _small(EfficientNetConfig(224, 1.0, 1.1), 384, 384, 6),
    "efficientnet-lite2": _small(EfficientNetConfig(224, 1.1, 1.2), 384, 384, 6),
    "efficientnet-tiny": _small(EfficientNetConfig(64, 0.25, 0.5, 64, 4, 64, 16), 64, 64, 2, 1024),
    "vit-small": _small(ViTConfig(128, 16, 384, 8, 6, 1536), 256, 256, 4),
    "vit-mini": _small(ViTConfig(32, 4, 128, 4, 2, 512), 128, 128, 4, 1024),
    "vit-tiny": _small(ViTConfig(32, 8, 64, 2, 2, 256), 64, 64, 2, 1024),
}


def preset(name: str) -> CLIPConfig:
    """The configuration called `name`. Raises ValueError with the nearest names."""
    if name not in PRESETS:
        known = {each.lower(): each for each in PRESETS}
        near = " or ".join(known[each] for each in difflib.get_close_matches(name.lower(), known))
        hint = f"did you mean {near}? " if near else ""
        if name == "bundled":
            hint = "bundled is a trained model; start training from it with init instead of model. "
        raise ArgumentError(f"no preset is called {name!r}; {hint}`diptych models` lists all {len(PRESETS)}.")
    return PRESETS[name]
