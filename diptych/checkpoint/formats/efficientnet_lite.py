"""Reads the released weights of EfficientNet-Lite, a plain state dict, as an image tower's.

Their classification layer is no part of a tower, but each of its rows is a picture-side prototype of a class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from diptych.checkpoint.formats.name_table import KeyMapping, KeyMappings, look_up
from diptych.checkpoint.state import listing
from diptych.checkpoint.weights.shape_check import check, expected_specs, is_counter, specs_of
from diptych.errors import CheckpointError
from diptych.nets.config import CLIPConfig, EfficientNetConfig

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

MARK = "_conv_stem.weight"
CLASSES = ("_fc.weight", "_fc.bias")
# Width and depth of Lite0 to Lite4 (TensorFlow's efficientnet/lite)
FACTORS = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))
KEY_MAPPINGS: KeyMappings = (
    KeyMapping("image.stem.*", "_conv_stem.*"),
    KeyMapping("image.stem_norm.*", "_bn0.*"),
    *(
        mapping
        for number, part in enumerate(("expand", "depthwise", "project"))
        for mapping in (
            KeyMapping(f"image.blocks.N.{part}.*", f"_blocks.N._{part}_conv.*"),
            KeyMapping(f"image.blocks.N.{part}_norm.*", f"_blocks.N._bn{number}.*"),
        )
    ),
    KeyMapping("image.last.*", "_conv_head.*"),
    KeyMapping("image.last_norm.*", "_bn1.*"),
)


class ReleasedTower(NamedTuple):
    """A released network: its configuration, its tensors up to the last map under our names, and the rows and biases of
    its classification layer (None if it has none)."""

    config: EfficientNetConfig
    state: dict[str, Tensor]
    class_weight: Float[Tensor, "classes features"] | None
    class_bias: Float[Tensor, " classes"] | None


def read(tensors: Mapping[str, Tensor], source: str, *, image_size: int = 224) -> ReleasedTower:
    """The tower of a released state dict, for pictures of `image_size` pixels. Pooling, head and the path of fine
    patches are not in it: with those of a new tower its pooled features are the released network's.

    Raises CheckpointError, with what does not fit, for other tensors.
    """
    if MARK not in tensors:
        raise CheckpointError(f"{source} has no {MARK}: it is not a released EfficientNet-Lite.")
    if squeezing := [name for name in tensors if "._se_" in name]:
        raise CheckpointError(
            f"{source} has squeeze-and-excitation ({listing(squeezing, ', ')}); wanted an EfficientNet-Lite."
        )
    config = _config(tensors, image_size)
    theirs = {}
    for name, spec in expected_specs(CLIPConfig(image=config), source).items():
        if names := look_up(KEY_MAPPINGS, name)[0]:
            theirs[name] = (names[0], spec)
    body = {name: tensor for name, tensor in tensors.items() if name not in CLASSES}
    check(specs_of(body), dict(theirs.values()), source)
    state = {name: body[their] for name, (their, _) in theirs.items() if their in body or not is_counter(name)}
    weight, bias = map(tensors.get, CLASSES)
    return ReleasedTower(config, state, weight, bias)


def _config(tensors: Mapping[str, Tensor], image_size: int) -> EfficientNetConfig:
    """The configuration with as many blocks and as wide a last one; else Lite0's, which `check` compares."""
    numbers = [int(found[1]) for name in tensors if (found := re.match(r"_blocks\.(\d{1,3})\.", name))]
    last = max(numbers, default=0)
    width = _rows(tensors, f"_blocks.{last}._project_conv.weight")
    features = _rows(tensors, "_conv_head.weight")
    candidates = [EfficientNetConfig(image_size, *factors, feature_width=features or 1280) for factors in FACTORS]
    fits = (each for each in candidates if len(each.blocks) == last + 1 and each.blocks[-1].outputs == width)
    return next(fits, candidates[0])


def _rows(tensors: Mapping[str, Tensor], name: str) -> int:
    """The size of a tensor's first axis; 0 without it or without axes."""
    return len(tensors[name]) if name in tensors and tensors[name].ndim else 0
