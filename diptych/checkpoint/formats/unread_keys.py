"""Keys of configurations that are not read. Keys that would change the model's computation are errors; the others (real
folders have dozens, from training and other libraries) are ignored and can be listed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from diptych.errors import ArgumentError

# Words in the names of keys that affect how a vector is computed.
COMPUTING = re.compile(
    r".*(register|rope|rotary|alibi|position_embedding|qk_norm|layer_?scale|norm_type|pool|window|expert|moe|softcap"
    r"|attention_type|attn_type|attention_mode|causal|bidirectional|quantization|pruned|adapter|lora).*|auto_map",
    re.IGNORECASE,
)
ORDINARY = (
    "absolute",
    "layer_norm",
    "layernorm",
    "default",
)  # allowed values of such keys: they are what the towers do


def unread(settings: Mapping[str, Any], read: Iterable[str], where: str) -> list[str]:
    """The keys of `settings` that are not in `read`, each prefixed with `where`. Raises ArgumentError for one that
    would change the computation."""
    found = [key for key in settings if key not in set(read)]
    for key in found:
        value = settings[key]
        if COMPUTING.fullmatch(key) and value and value not in ORDINARY and not _is_code_of_texts(key, value):
            raise ArgumentError(
                f"{where}{key}={value!r} is not supported: its name suggests that it changes the model's computation."
            )
    return [f"{where}{key}" for key in found]


def _is_code_of_texts(key: str, value: object) -> bool:
    """Custom code for a tokenizer or a processor, which transformers runs only on request."""
    return key == "auto_map" and isinstance(value, Mapping) and not any("Model" in name for name in value)
