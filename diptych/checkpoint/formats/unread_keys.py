"""Keys of configurations that nothing here reads. Those after which a model would compute something else are refused by
name; the rest (real folders carry dozens: of training, of the library that wrote them) are passed over, and named to
whoever asks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from diptych.errors import ArgumentError

# Words in the names of keys that say how a vector is computed. Whoever wrote such a key had code that reads it.
COMPUTING = re.compile(
    r".*(register|rope|rotary|alibi|position_embedding|qk_norm|layer_?scale|norm_type|pool|window|expert|moe|softcap"
    r"|attention_type|attn_type|attention_mode|causal|bidirectional|quantization|pruned|adapter|lora).*|auto_map",
    re.IGNORECASE,
)
ORDINARY = ("absolute", "layer_norm", "layernorm", "default")  # what such a key may say, for it is what is done here


def unread(settings: Mapping[str, Any], read: Iterable[str], where: str) -> list[str]:
    """The keys of `settings` that are not among `read`, each after `where`, its place. ValueError names one that asks
    for another computation."""
    found = [key for key in settings if key not in set(read)]
    for key in found:
        value = settings[key]
        if COMPUTING.fullmatch(key) and value and value not in ORDINARY and not _is_code_of_texts(key, value):
            raise ArgumentError(
                f"{where}{key}={value!r} is not supported: by its name it changes what the model computes, and nothing "
                "here reads it."
            )
    return [f"{where}{key}" for key in found]


def _is_code_of_texts(key: str, value: object) -> bool:
    """Own code for a tokenizer or a processor, which transformers runs only where it is told to."""
    return key == "auto_map" and isinstance(value, Mapping) and not any("Model" in name for name in value)
