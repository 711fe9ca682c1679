"""A fingerprint that identifies the model of a vector."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import numpy as np

from diptych.media.preprocessing import Preprocess
from diptych.nets.config import STRIDE, CLIPConfig, EfficientNetConfig, ResNetConfig
from diptych.text.cleaning import TextPreprocessing

OPEN_CLIPS = ("lower", "whitespace", "canonicalize")  # open_clip's names of text cleaning


def fingerprint(
    config: CLIPConfig, spec: Preprocess, tokenizer_json: str | None, first_row: Callable[[str], np.ndarray]
) -> str:
    """32 hex digits, a hash of a model's configuration, preprocessing, tokenizer, and the first row of every weight
    matrix, which any training changes. It does not depend on the model's format. `first_row` returns the first row,
    (1, ...), of the tensor with a name of ours."""
    hash = hashlib.blake2b(digest_size=16)
    numbers = asdict(config)
    if numbers["image"].get("stride") == STRIDE:  # added later; fingerprints of older models must stay the same
        del numbers["image"]["stride"]
    if numbers["text"]["norm_position"] == "pre":  # likewise
        del numbers["text"]["norm_position"]
    for part in (numbers, asdict(spec), tokenizer_json):
        hash.update(repr(part).encode())
    for name in _matrices(config):
        hash.update(np.ascontiguousarray(first_row(name), np.float32).tobytes())
    return hash.hexdigest()


def legacy_config(config: CLIPConfig, text_preprocessing: TextPreprocessing) -> CLIPConfig:
    """The configuration as 0.1.0 read it, so that a model with the same picture vectors keeps its fingerprint: 0.1.0
    assumed padding 0 for bidirectional text towers from open_clip, whatever the tokenizer's padding.
    `versions.TOKENIZING` covers the effect on texts."""
    text = config.text
    is_open_clips = not text.causal and any(step in text_preprocessing.cleaning for step in OPEN_CLIPS)
    return replace(config, text=replace(text, pad_id=0)) if is_open_clips else config


def _matrices(config: CLIPConfig) -> Iterator[str]:
    """Names of weights in every part of both towers."""
    yield from ("text.token.weight", "text.positions", "text.proj.weight")
    towers = [("text", config.text.layers)]
    if isinstance(config.image, ResNetConfig):
        yield from ("image.conv1.weight", "image.pool.q.weight", "image.pool.k.weight", "image.pool.v.weight")
        yield "image.pool.out.weight"
        for stage, depth in enumerate(config.image.layers):
            yield from (f"image.stages.{stage}.{i}.conv{n}.weight" for i in range(depth) for n in (1, 2, 3))
    elif isinstance(config.image, EfficientNetConfig):
        yield from _efficientnet_matrices(config.image)
    else:
        yield from ("image.patch.weight", "image.positions")
        towers.append(("image", config.image.layers))
    for tower, layers in towers:
        block = f"{tower}.transformer.blocks"
        parts = ("attention.qkv", "attention.out", "mlp.fc", "mlp.proj")
        yield from (f"{block}.{layer}.{part}.weight" for layer in range(layers) for part in parts)


def _efficientnet_matrices(tower: EfficientNetConfig) -> Iterator[str]:
    yield from ("image.stem.weight", "image.last.weight", "image.pool.positions", "image.pool.score.weight")
    for number, block in enumerate(tower.blocks):
        parts = ("expand", "depthwise", "project") if block.expansion > 1 else ("depthwise", "project")
        yield from (f"image.blocks.{number}.{part}.weight" for part in parts)
    yield from ("image.head.mean", "image.head.std", "image.head.linear.weight")
    if tower.mlp_width:
        yield from ("image.head.fc.weight", "image.head.proj.weight")
    if tower.class_width:
        yield from ("image.classes.fc.weight", "image.classes.proj.weight")
    if tower.fine_width:
        yield from ("image.fine.fc.weight", "image.fine.proj.weight")
