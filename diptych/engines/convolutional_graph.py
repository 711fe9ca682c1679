"""The convolutional image towers as OpenVINO graphs, with every batch norm folded into its convolution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from diptych.engines.graph_nodes import (
    Weights,
    after_first,
    attention,
    ints,
    linear,
    merge_heads,
    number,
    ops,
    squeezed,
)
from diptych.nets.config import EFFICIENTNET_NORM_EPS, EfficientNetConfig, InvertedResidualSize, ResNetConfig

RESNET_EPS = 1e-5  # PyTorch's default, which OpenAI's ResNets have
NORM = ("weight", "bias", "running_mean", "running_var")
INTERPOLATION = "interpolation"  # the name of the product that spreads cells over the patches' grid


def resnet(x: Any, weights: Weights, tower: ResNetConfig) -> tuple[Any, Any]:
    """The features of the image, and those of its patches."""
    for layer in (1, 2, 3):
        x = ops.relu(_convolution_with_norm(x, weights, f"conv{layer}", f"bn{layer}", stride=2 if layer == 1 else 1))
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
    kernel, bias = _folded(weights, conv, norm, RESNET_EPS)
    pad = [kernel.shape[2] // 2] * 2
    return ops.convolution(x, number(kernel), [stride, stride], pad, pad, [1, 1]) + number(bias)


def _folded(weights: Weights, conv: str, norm: str, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """The kernel (out, in, height, width) and bias (1, out, 1, 1) of a convolution and its batch norm."""
    kernel, bn = weights.array(f"{conv}.weight").astype(np.float32), weights.at(norm)
    gain, bias, mean, var = (bn.array(name).astype(np.float32) for name in NORM)
    gain = gain / np.sqrt(var + eps)
    return kernel * gain[:, None, None, None], (bias - mean * gain)[None, :, None, None]


def _average_pooled(x: Any, stride: int) -> Any:
    """The mean of each square of `stride` cells; an incomplete square at the edge is left out, as in PyTorch."""
    if stride == 1:
        return x
    return ops.avg_pool(x, [stride] * 2, [0, 0], [0, 0], [stride] * 2, True, "floor")


def _attention_pool(x: Any, weights: Weights, tower: ResNetConfig) -> tuple[Any, Any]:
    """One layer of attention whose query is the mean of the map (Radford et al. 2021, section 2.4), and each patch's
    value, projected."""
    width = weights.array("q.weight").shape[1]
    x = ops.transpose(ops.reshape(x, ints(0, width, -1), True), ints(0, 2, 1))
    x = ops.concat([ops.reduce_mean(x, ints(1), True), x], 1) + weights["positions"]
    first = ops.slice(x, ints(0), ints(1), ints(1), ints(1))
    q, k, v = (linear(each, weights.at(name)) for each, name in ((first, "q"), (x, "k"), (x, "v")))
    pooled = squeezed(merge_heads(attention(q, k, v, tower.heads, width), width))
    return linear(pooled, weights.at("out")), linear(after_first(v), weights.at("out"))


def efficientnet(x: Any, weights: Weights, tower: EfficientNetConfig) -> tuple[Any, Any]:
    """The features of the image, and those of its patches."""
    side = tower.image_size
    x = _relu6(_same_convolution(x, weights, "stem", 2, side))
    side, fine = math.ceil(side / 2), None
    for index, block in enumerate(tower.blocks):
        x = _inverted_residual(x, weights.at(f"blocks.{index}"), block, side)
        side = math.ceil(side / block.stride)
        fine = x if index == tower.fine_block else fine
    x = _cells(_relu6(_same_convolution(x, weights, "last", 1, side)), tower.feature_width)
    head = weights.at("head")
    pooled = _channels_pooled(x, weights.at("pool"), tower)
    image = _standardised_head(pooled, head)
    if tower.class_width:
        answers = ops.softmax(linear(pooled, weights.at("classes.fc")), 1)
        image = image + linear(answers, weights.at("classes.proj"))
    patches = ops.matmul(number(_bilinear(tower.cells, tower.grid)), _standardised_head(x, head), False, False)
    patches.set_friendly_name(INTERPOLATION)
    if tower.fine_width:
        fine = _cells(fine, tower.blocks[tower.fine_block].outputs)
        patches = patches + linear(ops.gelu(linear(fine, weights.at("fine.fc")), "erf"), weights.at("fine.proj"))
    return image, patches


def _inverted_residual(x: Any, weights: Weights, size: InvertedResidualSize, side: int) -> Any:
    y = x
    if size.expansion > 1:
        y = _relu6(_same_convolution(y, weights, "expand", 1, side))
    y = _relu6(_same_convolution(y, weights, "depthwise", size.stride, side))
    y = _same_convolution(y, weights, "project", 1, math.ceil(side / size.stride))
    return x + y if size.stride == 1 and size.inputs == size.outputs else y


def _same_convolution(x: Any, weights: Weights, name: str, stride: int, side: int) -> Any:
    """A convolution, or a depthwise one, with its batch norm folded into it and TensorFlow's SAME padding."""
    kernel, bias = _folded(weights, name, f"{name}_norm", EFFICIENTNET_NORM_EPS)
    size = kernel.shape[2]
    padding = max((math.ceil(side / stride) - 1) * stride + size - side, 0)
    geometry = ([stride] * 2, [padding // 2] * 2, [padding - padding // 2] * 2, [1, 1])
    if name == "depthwise":
        return ops.group_convolution(x, number(kernel[:, None]), *geometry) + number(bias)
    return ops.convolution(x, number(kernel), *geometry) + number(bias)


def _relu6(x: Any) -> Any:
    return ops.clamp(x, 0.0, 6.0)


def _cells(x: Any, width: int) -> Any:
    """(batch, channels, rows, columns) -> (batch, cells, channels)."""
    return ops.transpose(ops.reshape(x, ints(0, width, -1), True), ints(0, 2, 1))


def _channels_pooled(x: Any, weights: Weights, tower: EfficientNetConfig) -> Any:
    """Each head's average of its own channels, weighted by a softmax over the cells."""
    heads, width = tower.heads, tower.feature_width
    scores = ops.softmax(linear(x, weights.at("score")) + weights["positions"], 1)
    values = ops.reshape(x, ints(0, 0, heads, width // heads), True)
    weighted = ops.multiply(ops.unsqueeze(scores, ints(3)), values)
    return ops.reshape(ops.reduce_sum(weighted, ints(1), False), ints(0, width), True)


def _standardised_head(x: Any, weights: Weights) -> Any:
    """The linear map and the two-layer path, with the mean and deviation of the features folded into both."""
    y = _standardised_linear(x, weights, "linear")
    if "fc.weight" not in weights:
        return y
    return y + linear(ops.gelu(_standardised_linear(x, weights, "fc"), "erf"), weights.at("proj"))


def _standardised_linear(x: Any, weights: Weights, name: str) -> Any:
    """W (x - mean) / std + b."""
    weight, bias, mean, std = (
        weights.array(each).astype(np.float32) for each in (f"{name}.weight", f"{name}.bias", "mean", "std")
    )
    weight = weight / std
    return ops.matmul(x, number(weight), False, True) + number(bias - weight @ mean)


def _bilinear(cells: int, grid: int) -> np.ndarray:
    """(grid x grid, cells x cells): each patch as a mixture of the cells around it, the edges repeated."""
    at = np.clip((np.arange(grid) + 0.5) * cells / grid - 0.5, 0, cells - 1)
    along = np.maximum(1 - np.abs(at[:, None] - np.arange(cells)), 0)
    return np.kron(along, along)
