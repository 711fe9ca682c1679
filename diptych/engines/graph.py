"""The towers as OpenVINO graphs, built from a configuration and arrays without tracing, exported files or PyTorch. They
compute what `diptych.nets` computes, in the same order and with the same names; a test compares both for every kind of
tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from diptych.engines.openvino_runtime import PATCHES_OUTPUT, openvino
from diptych.media.preprocessing import Preprocess
from diptych.nets.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig

ops = openvino.opset15
Arrays = Mapping[str, np.ndarray]
GraphOutput = Literal["image", "places"]  # the second is PATCHES_OUTPUT
BATCH_NORM_EPS = 1e-5  # PyTorch's default, which all models here have
NORM = ("weight", "bias", "running_mean", "running_var")


def image_graph(
    config: CLIPConfig, arrays: Arrays, spec: Preprocess, outputs: Sequence[GraphOutput] = ("image",)
) -> Any:
    """uint8 (batch, size, size, 3), already resized -> each of `outputs`: raw float32 features of the image (batch,
    dim), and of its patches (batch, patches, dim). The graph includes the normalisation."""
    size, weights = config.image.image_size, Weights(arrays, "image")
    pixels = ops.parameter([-1, size, size, 3], np.uint8, name="pixels")
    x = ops.convert(pixels, "f32")
    x = (x * _number(1 / (255 * np.array(spec.std)))) - _number(np.array(spec.mean) / np.array(spec.std))
    x = ops.transpose(x, _ints(0, 3, 1, 2))
    tower = _resnet if isinstance(config.image, ResNetConfig) else _vit
    results = dict(zip(("image", PATCHES_OUTPUT), tower(x, weights, config.image), strict=True))  # type: ignore[arg-type]
    return _model({name: results[name] for name in outputs}, pixels, "image")


def with_outputs(model: Any, outputs: Sequence[GraphOutput]) -> Any:
    """A graph with only these outputs, in this order. Raises KeyError for an output that it lacks."""
    results = {name: result for result in model.get_results() for name in result.output(0).get_names()}
    return _make([results[output] for output in outputs], model.get_parameters(), "image")


def text_graph(config: CLIPConfig, arrays: Arrays) -> Any:
    """int64 ids (batch, tokens) -> raw features float32 (batch, dim)."""
    weights, text = Weights(arrays, "text"), config.text
    ids = ops.parameter([-1, -1], np.int64, name="ids")
    shape = ops.shape_of(ids)
    batch, tokens = (ops.gather(shape, _ints(axis), _scalar(0)) for axis in (0, 1))
    positions = ops.unsqueeze(ops.range(_scalar(0), ops.squeeze(tokens, _ints(0)), _scalar(1), "i64"), _ints(0))
    x = ops.gather(weights["token.weight"], ids, _scalar(0))
    x = x + ops.slice(weights["positions"], _ints(0), tokens, _ints(1), _ints(0))
    last = ops.broadcast(tokens - _ints(1), ops.concat([batch, _ints(1)], 0))
    token_index = last if text.pool == "last" else ops.minimum(_first_end(ids, positions, tokens, text), last)
    mask = ops.unsqueeze(ops.less_equal(positions, token_index), _ints(1, 2)) if text.causal else None
    selection = TokenSelection(lambda each: ops.gather(each, token_index, _scalar(1), 1), mask)
    for layer in range(text.layers):
        x = _block(x, weights.at(f"transformer.blocks.{layer}"), text, selection if layer == text.layers - 1 else None)
    x = _linear(_layer_norm(x, weights.at("norm_post"), text.norm_eps), weights.at("proj"))
    return _model({"text": _squeezed(x)}, ids, "text")


def _first_end(ids: Any, positions: Any, tokens: Any, text: TextConfig) -> Any:
    """(batch, 1): the position of the first end token, or of the first highest id (OpenAI's rule)."""
    end_id = _scalar(text.end_id) if text.pool == "end" else ops.reduce_max(ids, _ints(1), True)
    return ops.reduce_min(ops.select(ops.equal(ids, end_id), positions, tokens), _ints(1), True)


class Weights:
    """The arrays under a prefix, as constants of a graph. float16 arrays stay float16 in the graph's memory."""

    def __init__(self, arrays: Arrays, prefix: str):
        self.arrays, self.prefix = arrays, prefix

    def at(self, name: str) -> Weights:
        """The arrays of a submodule."""
        return Weights(self.arrays, f"{self.prefix}.{name}")

    def __contains__(self, name: str) -> bool:
        return f"{self.prefix}.{name}" in self.arrays

    def array(self, name: str) -> np.ndarray:
        """An array itself."""
        return self.arrays[f"{self.prefix}.{name}"]

    def __getitem__(self, name: str) -> Any:
        return _constant(self.array(name))


_make: Any = openvino.Model  # untyped, because its type stubs are wrong


def _model(results: Mapping[str, Any], parameter: Any, name: str) -> Any:
    nodes = []
    for output, node in results.items():
        nodes.append(ops.result(node))
        nodes[-1].output(0).set_names({output})
    return _make(nodes, [parameter], name)


def _constant(array: np.ndarray) -> Any:
    node = ops.constant(np.ascontiguousarray(array))
    return node if array.dtype == np.float32 else ops.convert(node, "f32")


def _number(values: Any) -> Any:
    return ops.constant(np.asarray(values, np.float32))


def _ints(*values: int) -> Any:
    return ops.constant(np.array(values, np.int64))


def _scalar(value: int) -> Any:
    return ops.constant(np.int64(value))


def _squeezed(x: Any) -> Any:
    return ops.squeeze(x, _ints(1))


def _linear(x: Any, weights: Weights, rows: slice | None = None) -> Any:
    """x W^T + b, optionally with only some rows of W."""
    rows = rows or slice(None)
    y = ops.matmul(x, _constant(weights.array("weight")[rows]), False, True)
    return y + _constant(weights.array("bias")[rows]) if "bias" in weights else y


def _layer_norm(x: Any, weights: Weights, eps: float) -> Any:
    return ops.mvn(x, _ints(-1), True, eps, "inside_sqrt") * weights["weight"] + weights["bias"]


def _quick_gelu(x: Any) -> Any:
    return ops.swish(x, ops.constant(np.float32(1.702)))


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": lambda x: ops.gelu(x, "erf"),
    "gelu_tanh": lambda x: ops.gelu(x, "tanh"),
    "quick_gelu": _quick_gelu,
}


def _mlp(x: Any, weights: Weights, activation: str) -> Any:
    return _linear(ACTIVATIONS[activation](_linear(x, weights.at("fc"))), weights.at("proj"))


def _attention(q: Any, k: Any, v: Any, heads: int, width: int, *mask: Any, causal: bool = False) -> Any:
    """softmax(q k^T / sqrt(head width)) v in each head: (batch, heads, queries, width / heads)."""
    return ops.scaled_dot_product_attention(
        *(_split_heads(each, heads, width) for each in (q, k, v)), *mask, causal=causal
    )


def _split_heads(x: Any, heads: int, width: int) -> Any:
    """(batch, tokens, width) -> (batch, heads, tokens, width / heads)."""
    return ops.transpose(ops.reshape(x, _ints(0, -1, heads, width // heads), True), _ints(0, 2, 1, 3))


def _merge_heads(x: Any, width: int) -> Any:
    """The inverse of `_split_heads`."""
    return ops.reshape(ops.transpose(x, _ints(0, 2, 1, 3)), _ints(0, -1, width), True)


def _block(x: Any, weights: Weights, tower: ViTConfig | TextConfig, selection: TokenSelection | None = None) -> Any:
    """A residual block; with `selection`, of one token of each sample."""
    width = tower.width
    normed, qkv = _layer_norm(x, weights.at("norm_1"), tower.norm_eps), weights.at("attention.qkv")
    queries = selection.token(normed) if selection else normed
    parts = (slice(width), slice(width, 2 * width), slice(2 * width, None))
    q, k, v = (_linear(each, qkv, rows) for each, rows in zip((queries, normed, normed), parts, strict=True))
    causal = isinstance(tower, TextConfig) and tower.causal and not selection
    mask = [selection.mask] if selection and selection.mask is not None else []
    attended = _attention(q, k, v, tower.heads, width, *mask, causal=causal)
    x = (selection.token(x) if selection else x) + _linear(_merge_heads(attended, width), weights.at("attention.out"))
    return x + _mlp(_layer_norm(x, weights.at("norm_2"), tower.norm_eps), weights.at("mlp"), tower.activation)


class TokenSelection(NamedTuple):
    """The one token of each sample that the last block computes: a function that selects it from (batch, tokens,
    width), and the mask of tokens that it attends to, (batch, 1, 1, tokens)."""

    token: Callable[[Any], Any]
    mask: Any | None = None


def _vit(x: Any, weights: Weights, tower: ViTConfig) -> tuple[Any, Any]:
    """The features of the image, and those of its patches."""
    x = _patches(x, weights, tower)
    if tower.norm_pre:
        x = _layer_norm(x, weights.at("norm_pre"), tower.norm_eps)
    blocks, proj = [weights.at(f"transformer.blocks.{layer}") for layer in range(tower.layers)], weights.at("proj")
    for block in blocks[:-1]:
        x = _block(x, block, tower)
    if tower.pool == "class":
        first = TokenSelection(lambda each: ops.slice(each, _ints(0), _ints(1), _ints(1), _ints(1)))
        values = _layer_norm(_patch_values(x, blocks[-1], tower), weights.at("norm_post"), tower.norm_eps)
        x = _layer_norm(_block(x, blocks[-1], tower, first), weights.at("norm_post"), tower.norm_eps)
        return _linear(_squeezed(x), proj), _linear(values, proj)
    x = _layer_norm(_block(x, blocks[-1], tower), weights.at("norm_post"), tower.norm_eps)
    if tower.pool == "map":
        return _map_head(x, weights.at("head"), tower), _map_patches(x, weights.at("head"), tower)
    return _linear(ops.reduce_mean(x, _ints(1), False), proj), _linear(x, proj)


def _patch_values(x: Any, block: Weights, tower: ViTConfig) -> Any:
    """Each patch's value in a block, after the class token."""
    patches = _after_first(x)
    return _values(_layer_norm(patches, block.at("norm_1"), tower.norm_eps), block.at("attention"), tower.width)


def _after_first(x: Any) -> Any:
    """All tokens but the first."""
    return ops.slice(x, _ints(1), _ints(2**31 - 1), _ints(1), _ints(1))


def _values(x: Any, attention: Weights, width: int) -> Any:
    """Each token's output if all attention were on it."""
    return _linear(_linear(x, attention.at("qkv"), slice(2 * width, None)), attention.at("out"))


def _patches(x: Any, weights: Weights, tower: ViTConfig) -> Any:
    """Pixels to tokens with positions, (batch, patches, width), after the class token if there is one."""
    patch, width = tower.patch_size, tower.width
    x = ops.convolution(x, weights["patch.weight"], [patch, patch], [0, 0], [0, 0], [1, 1])
    x = ops.transpose(ops.reshape(x, _ints(0, width, -1), True), _ints(0, 2, 1))
    if "patch.bias" in weights:
        x = x + weights["patch.bias"]
    if tower.pool == "class":
        batch = ops.gather(ops.shape_of(x), _ints(0), _scalar(0))
        x = ops.concat([ops.broadcast(weights["class_token"], ops.concat([batch, _ints(1, width)], 0)), x], 1)
    return x + weights["positions"]


def _map_head(x: Any, weights: Weights, tower: ViTConfig) -> Any:
    """Attention pooling with one learned query (Zhai et al. 2022, section 3.3)."""
    width, qkv = tower.width, weights.at("attention.qkv")
    q = _linear(weights["probe"], qkv, slice(width))
    k, v = _linear(x, qkv, slice(width, 2 * width)), _linear(x, qkv, slice(2 * width, None))
    q = ops.broadcast(q, ops.concat([ops.gather(ops.shape_of(x), _ints(0), _scalar(0)), _ints(1, width)], 0))
    pooled = _linear(_merge_heads(_attention(q, k, v, tower.heads, width), width), weights.at("attention.out"))
    return _squeezed(_mlp_residual(pooled, weights, tower))


def _map_patches(x: Any, weights: Weights, tower: ViTConfig) -> Any:
    """For each token, the output if the query saw that token alone."""
    return _mlp_residual(_values(x, weights.at("attention"), tower.width), weights, tower)


def _mlp_residual(x: Any, weights: Weights, tower: ViTConfig) -> Any:
    return x + _mlp(_layer_norm(x, weights.at("norm"), tower.norm_eps), weights.at("mlp"), tower.activation)


def _resnet(x: Any, weights: Weights, tower: ResNetConfig) -> tuple[Any, Any]:
    """The features of the image, and those of its patches."""
    for number in (1, 2, 3):
        x = ops.relu(_convolution_with_norm(x, weights, f"conv{number}", f"bn{number}", stride=2 if number == 1 else 1))
    x = _average_pooled(x, 2)
    for stage, (depth, stride) in enumerate(zip(tower.layers, tower.strides, strict=True)):
        for index in range(depth):
            x = _bottleneck(x, weights.at(f"stages.{stage}.{index}"), 1 if index else stride)
    return _attention_pool(x, weights.at("pool"), tower)


def _bottleneck(x: Any, weights: Weights, stride: int) -> Any:
    y = ops.relu(_convolution_with_norm(x, weights, "conv1", "bn1"))
    y = ops.relu(_convolution_with_norm(y, weights, "conv2", "bn2"))
    y = _convolution_with_norm(_average_pooled(y, stride), weights, "conv3", "bn3")
    if "downsample.conv.weight" in weights:
        x = _convolution_with_norm(_average_pooled(x, stride), weights.at("downsample"), "conv", "bn")
    return ops.relu(x + y)


def _convolution_with_norm(x: Any, weights: Weights, conv: str, norm: str, *, stride: int = 1) -> Any:
    """A convolution with its batch norm folded into it."""
    kernel, bn = weights.array(f"{conv}.weight").astype(np.float32), weights.at(norm)
    gain, bias, mean, var = (bn.array(name).astype(np.float32) for name in NORM)
    gain = gain / np.sqrt(var + BATCH_NORM_EPS)
    pad = [kernel.shape[2] // 2] * 2
    y = ops.convolution(x, _number(kernel * gain[:, None, None, None]), [stride, stride], pad, pad, [1, 1])
    return y + _number((bias - mean * gain)[None, :, None, None])


def _average_pooled(x: Any, stride: int) -> Any:
    """The mean of each square of `stride` cells; an incomplete square at the edge is left out, as in PyTorch."""
    if stride == 1:
        return x
    return ops.avg_pool(x, [stride] * 2, [0, 0], [0, 0], [stride] * 2, True, "floor")


def _attention_pool(x: Any, weights: Weights, tower: ResNetConfig) -> tuple[Any, Any]:
    """One layer of attention whose query is the mean of the map (Radford et al. 2021, section 2.4), and each patch's
    value, projected."""
    width = weights.array("q.weight").shape[1]
    x = ops.transpose(ops.reshape(x, _ints(0, width, -1), True), _ints(0, 2, 1))
    x = ops.concat([ops.reduce_mean(x, _ints(1), True), x], 1) + weights["positions"]
    first = ops.slice(x, _ints(0), _ints(1), _ints(1), _ints(1))
    q, k, v = (_linear(each, weights.at(name)) for each, name in ((first, "q"), (x, "k"), (x, "v")))
    pooled = _squeezed(_merge_heads(_attention(q, k, v, tower.heads, width), width))
    return _linear(pooled, weights.at("out")), _linear(_after_first(v), weights.at("out"))
