"""The towers as OpenVINO graphs, built from a configuration and arrays without tracing, exported files or PyTorch. They
compute what `diptych.nets` computes, in the same order and with the same names; a test compares both for every kind of
tower."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from diptych.engines.converted import PATCHES_OUTPUT
from diptych.engines.convolutional_graph import efficientnet, resnet
from diptych.engines.graph_nodes import (
    ACTIVATIONS,
    Arrays,
    Weights,
    after_first,
    attention,
    ints,
    layer_norm,
    linear,
    make_model,
    merge_heads,
    model_of,
    number,
    ops,
    rows_of,
    scalar,
    squeezed,
)
from diptych.media.preprocessing import Preprocess
from diptych.nets.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig

GraphOutput = Literal["image", "places"]  # the second is PATCHES_OUTPUT


def image_graph(
    config: CLIPConfig, arrays: Arrays, spec: Preprocess, outputs: Sequence[GraphOutput] = ("image",)
) -> Any:
    """uint8 (batch, size, size, 3), already resized -> each of `outputs`: raw float32 features of the image (batch,
    dim), and of its patches (batch, patches, dim). The graph includes the normalisation."""
    size, weights = config.image.image_size, Weights(arrays, "image")
    pixels = ops.parameter([-1, size, size, 3], np.uint8, name="pixels")
    x = ops.convert(pixels, "f32")
    x = x * number(_per_channel(1 / (255 * np.array(spec.std)))) - number(_per_channel(np.divide(spec.mean, spec.std)))
    x = ops.transpose(x, ints(0, 3, 1, 2))
    results = dict(zip(("image", PATCHES_OUTPUT), _tower(x, weights, config), strict=True))
    return model_of({name: results[name] for name in outputs}, pixels, "image")


def _per_channel(values: np.ndarray) -> np.ndarray:
    """The three channels' numbers, as one if they are equal: a CPU's vectors do not divide into threes."""
    return values[:1] if (values == values[0]).all() else values


def _tower(x: Any, weights: Weights, config: CLIPConfig) -> tuple[Any, Any]:
    """The features of the image, and those of its patches."""
    if isinstance(config.image, ViTConfig):
        return _vit(x, weights, config.image)
    if isinstance(config.image, ResNetConfig):
        return resnet(x, weights, config.image)
    return efficientnet(x, weights, config.image)


def with_outputs(model: Any, outputs: Sequence[GraphOutput]) -> Any:
    """A graph with only these outputs, in this order. Raises KeyError for an output that it lacks."""
    results = {name: result for result in model.get_results() for name in result.output(0).get_names()}
    return make_model([results[output] for output in outputs], model.get_parameters(), "image")


def text_graph(config: CLIPConfig, arrays: Arrays) -> Any:
    """int64 ids (batch, tokens) -> raw features float32 (batch, dim)."""
    weights, text = Weights(arrays, "text"), config.text
    ids = ops.parameter([-1, -1], np.int64, name="ids")
    shape = ops.shape_of(ids)
    batch, tokens = (ops.gather(shape, ints(axis), scalar(0)) for axis in (0, 1))
    positions = ops.unsqueeze(ops.range(scalar(0), ops.squeeze(tokens, ints(0)), scalar(1), "i64"), ints(0))
    x = rows_of(weights.stored("token.weight"), ids)
    x = x + ops.slice(weights["positions"], ints(0), tokens, ints(1), ints(0))
    if text.norm_position == "post":
        x = layer_norm(x, weights.at("norm_pre"), text.norm_eps)
    if text.pool == "mean":
        return model_of({"text": _averaged(x, ids, positions, weights, text)}, ids, "text")
    last = ops.broadcast(tokens - ints(1), ops.concat([batch, ints(1)], 0))
    token_index = last if text.pool == "last" else ops.minimum(_first_end(ids, positions, tokens, text), last)
    mask = ops.unsqueeze(ops.less_equal(positions, token_index), ints(1, 2)) if text.causal else None
    selection = TokenSelection(lambda each: ops.gather(each, token_index, scalar(1), 1), mask)
    for layer in range(text.layers):
        x = _block(x, weights.at(f"transformer.blocks.{layer}"), text, selection if layer == text.layers - 1 else None)
    return model_of({"text": squeezed(linear(_normed(x, weights, text), weights.at("proj")))}, ids, "text")


def _averaged(x: Any, ids: Any, positions: Any, weights: Weights, text: TextConfig) -> Any:
    """The features of the mean of all tokens but padding, to which no token attends. The first is a token in any
    case."""
    is_text = ops.logical_or(ops.not_equal(ids, scalar(text.pad_id)), ops.equal(positions, scalar(0)))
    for layer in range(text.layers):
        x = _block(x, weights.at(f"transformer.blocks.{layer}"), text, mask=ops.unsqueeze(is_text, ints(1, 2)))
    shares = ops.unsqueeze(ops.convert(is_text, "f32"), ints(2))
    total = ops.reduce_sum(_normed(x, weights, text) * shares, ints(1), False)
    return linear(total / ops.reduce_sum(shares, ints(1), False), weights.at("proj"))


def _normed(x: Any, weights: Weights, text: TextConfig) -> Any:
    """The states after the last block, with the norm that follows it in a pre-norm tower."""
    return layer_norm(x, weights.at("norm_post"), text.norm_eps) if text.norm_position == "pre" else x


def _first_end(ids: Any, positions: Any, tokens: Any, text: TextConfig) -> Any:
    """(batch, 1): the position of the first end token, or of the first highest id (OpenAI's rule)."""
    end_id = scalar(text.end_id) if text.pool == "end" else ops.reduce_max(ids, ints(1), True)
    return ops.reduce_min(ops.select(ops.equal(ids, end_id), positions, tokens), ints(1), True)


def _mlp(x: Any, weights: Weights, activation: str) -> Any:
    return linear(ACTIVATIONS[activation](linear(x, weights.at("fc"))), weights.at("proj"))


def _block(
    x: Any, weights: Weights, tower: ViTConfig | TextConfig, selection: TokenSelection | None = None, mask: Any = None
) -> Any:
    """A residual block; with `selection`, of one token of each sample; with `mask`, attending only where it is true."""
    is_post = isinstance(tower, TextConfig) and tower.norm_position == "post"
    read = x if is_post else layer_norm(x, weights.at("norm_1"), tower.norm_eps)
    attended = _self_attention(read, weights.at("attention"), tower, selection, mask)
    x = (selection.token(x) if selection else x) + attended
    if is_post:
        x = layer_norm(x, weights.at("norm_1"), tower.norm_eps)
        return layer_norm(x + _mlp(x, weights.at("mlp"), tower.activation), weights.at("norm_2"), tower.norm_eps)
    return x + _mlp(layer_norm(x, weights.at("norm_2"), tower.norm_eps), weights.at("mlp"), tower.activation)


def _self_attention(
    x: Any, weights: Weights, tower: ViTConfig | TextConfig, selection: TokenSelection | None, mask: Any
) -> Any:
    """The attention of all tokens, or of the selected one, to those where the mask is true."""
    width, queries = tower.width, selection.token(x) if selection else x
    parts = (slice(width), slice(width, 2 * width), slice(2 * width, None))
    q, k, v = (linear(each, weights.at("qkv"), rows) for each, rows in zip((queries, x, x), parts, strict=True))
    causal = isinstance(tower, TextConfig) and tower.causal and not selection
    mask = selection.mask if selection else mask
    attended = attention(q, k, v, tower.heads, width, *([] if mask is None else [mask]), causal=causal)
    return linear(merge_heads(attended, width), weights.at("out"))


class TokenSelection(NamedTuple):
    """The one token of each sample that the last block computes: a function that selects it from (batch, tokens,
    width), and the mask of tokens that it attends to, (batch, 1, 1, tokens)."""

    token: Callable[[Any], Any]
    mask: Any | None = None


def _vit(x: Any, weights: Weights, tower: ViTConfig) -> tuple[Any, Any]:
    """The features of the image, and those of its patches."""
    x = _patches(x, weights, tower)
    if tower.norm_pre:
        x = layer_norm(x, weights.at("norm_pre"), tower.norm_eps)
    blocks, proj = [weights.at(f"transformer.blocks.{layer}") for layer in range(tower.layers)], weights.at("proj")
    for block in blocks[:-1]:
        x = _block(x, block, tower)
    if tower.pool == "class":
        first = TokenSelection(lambda each: ops.slice(each, ints(0), ints(1), ints(1), ints(1)))
        values = layer_norm(_patch_values(x, blocks[-1], tower), weights.at("norm_post"), tower.norm_eps)
        x = layer_norm(_block(x, blocks[-1], tower, first), weights.at("norm_post"), tower.norm_eps)
        return linear(squeezed(x), proj), linear(values, proj)
    x = layer_norm(_block(x, blocks[-1], tower), weights.at("norm_post"), tower.norm_eps)
    if tower.pool == "map":
        return _map_head(x, weights.at("head"), tower), _map_patches(x, weights.at("head"), tower)
    return linear(ops.reduce_mean(x, ints(1), False), proj), linear(x, proj)


def _patch_values(x: Any, block: Weights, tower: ViTConfig) -> Any:
    """Each patch's value in a block, after the class token."""
    patches = after_first(x)
    return _values(layer_norm(patches, block.at("norm_1"), tower.norm_eps), block.at("attention"), tower.width)


def _values(x: Any, attention: Weights, width: int) -> Any:
    """Each token's output if all attention were on it."""
    return linear(linear(x, attention.at("qkv"), slice(2 * width, None)), attention.at("out"))


def _patches(x: Any, weights: Weights, tower: ViTConfig) -> Any:
    """Pixels to tokens with positions, (batch, patches, width), after the class token if there is one."""
    patch, width = tower.patch_size, tower.width
    x = ops.convolution(x, weights["patch.weight"], [patch, patch], [0, 0], [0, 0], [1, 1])
    x = ops.transpose(ops.reshape(x, ints(0, width, -1), True), ints(0, 2, 1))
    if "patch.bias" in weights:
        x = x + weights["patch.bias"]
    if tower.pool == "class":
        batch = ops.gather(ops.shape_of(x), ints(0), scalar(0))
        x = ops.concat([ops.broadcast(weights["class_token"], ops.concat([batch, ints(1, width)], 0)), x], 1)
    return x + weights["positions"]


def _map_head(x: Any, weights: Weights, tower: ViTConfig) -> Any:
    """Attention pooling with one learned query (Zhai et al. 2022, section 3.3)."""
    width, qkv = tower.width, weights.at("attention.qkv")
    q = linear(weights["probe"], qkv, slice(width))
    k, v = linear(x, qkv, slice(width, 2 * width)), linear(x, qkv, slice(2 * width, None))
    q = ops.broadcast(q, ops.concat([ops.gather(ops.shape_of(x), ints(0), scalar(0)), ints(1, width)], 0))
    pooled = linear(merge_heads(attention(q, k, v, tower.heads, width), width), weights.at("attention.out"))
    return squeezed(_mlp_residual(pooled, weights, tower))


def _map_patches(x: Any, weights: Weights, tower: ViTConfig) -> Any:
    """For each token, the output if the query saw that token alone."""
    return _mlp_residual(_values(x, weights.at("attention"), tower.width), weights, tower)


def _mlp_residual(x: Any, weights: Weights, tower: ViTConfig) -> Any:
    return x + _mlp(layer_norm(x, weights.at("norm"), tower.norm_eps), weights.at("mlp"), tower.activation)
