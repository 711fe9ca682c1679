"""The denoiser, diffusers' UNet2DConditionModel, as an OpenVINO graph, built from arrays without tracing.

What does not depend on the picture is computed outside, once for a drawing: the keys and values of the words, and the
noise level's part of every residual layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from diptych.engines.graph_nodes import Arrays, Weights, ints, linear, make_model, merge_heads, number, ops, scalar
from diptych.generation.openvino.settings import DenoiserSizes

TRANSFORMER_EPS = 1e-6  # of a transformer's group norm in diffusers, whatever the setting
LAYER_NORM_EPS = 1e-5
# Which of 4 numbers of the kernel of a transposed convolution each of 3 adds to
_MEETS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
NOISY, TIME, MASK, PREDICTED = "noisy", "time", "mask", "predicted"


class Site(NamedTuple):
    """A layer that reads something computed outside: its name in the weights, its width, its number of heads."""

    name: str
    width: int
    heads: int


def residual_sites(sizes: DenoiserSizes) -> list[Site]:
    """The residual layers, in the order in which the noise level's parts are laid out in a row."""
    found = []
    for block, level, count in _blocks(sizes):
        found += [Site(f"{block}.resnets.{each}", sizes.channels[level], 0) for each in range(count)]
    return found


def attention_sites(sizes: DenoiserSizes) -> list[Site]:
    """The layers that attend to words."""
    return [
        Site(f"{block}.attentions.{each}.transformer_blocks.0.attn2", sizes.channels[level], sizes.heads[level])
        for block, level, count in _blocks(sizes)
        for each in range(count - (block == "mid_block"))
        if _attends(sizes, block)
    ]


def _blocks(sizes: DenoiserSizes) -> list[tuple[str, int, int]]:
    """Each block's name, resolution and number of residual layers."""
    last = len(sizes.channels) - 1
    down = [(f"down_blocks.{level}", level, sizes.layers) for level in range(last + 1)]
    up = [(f"up_blocks.{at}", last - at, sizes.layers + 1) for at in range(last + 1)]
    return [*down, ("mid_block", last, 2), *up]


def _attends(sizes: DenoiserSizes, block: str) -> bool:
    kind, _, index = block.partition(".")
    return kind == "mid_block" or getattr(sizes, kind.removesuffix("_blocks"))[int(index)]


def denoiser_graph(sizes: DenoiserSizes, arrays: Arrays, *, count: int, halves: int, tokens: int) -> Any:
    """A graph for `count` pictures, each with `halves` texts of `tokens` tokens: 2 with guidance, 1 without.

    Inputs: noisy (count, colours, size, size); time (1, sum of the residual sites' widths); mask
    (halves * count, 1, 1, tokens), added to the scores; and NAME.k and NAME.v (halves * count, heads, tokens,
    width / heads) for each attention site. Output: predicted (halves * count, colours, size, size), all pictures with
    the first text before all with the second.
    """
    return _Builder(sizes, arrays, count, halves, tokens).model()


class _Builder:
    def __init__(self, sizes: DenoiserSizes, arrays: Arrays, count: int, halves: int, tokens: int):
        self._sizes, self._weights, self._halves = sizes, _Prefixed(arrays), halves
        side = sizes.size_px
        self._noisy = ops.parameter([count, sizes.colours, side, side], np.float32, name=NOISY)
        sites, rows = residual_sites(sizes), halves * count
        self._time = ops.parameter([1, sum(site.width for site in sites)], np.float32, name=TIME)
        self._mask = ops.parameter([rows, 1, 1, tokens], np.float32, name=MASK)
        ends = np.cumsum([0, *(site.width for site in sites)]).tolist()
        self._times = {
            site.name: ops.reshape(
                ops.slice(self._time, ints(start), ints(end), ints(1), ints(1)), ints(1, site.width, 1, 1), False
            )
            for site, start, end in zip(sites, ends, ends[1:], strict=False)
        }
        self._words = {
            f"{site.name}.{part}": ops.parameter(
                [rows, site.heads, tokens, site.width // site.heads], np.float32, name=f"{site.name}.{part}"
            )
            for site in attention_sites(sizes)
            for part in "kv"
        }
        self._is_doubled = halves == 1
        self._skips = list[Any]()

    def model(self) -> Any:
        sizes = self._sizes
        x = _convolution(self._noisy, self._weights.at("conv_in"))
        self._skips.append(x)
        last = len(sizes.channels) - 1
        for level in range(last + 1):
            x = self._down(x, f"down_blocks.{level}", level)
            if level < last:
                x = _convolution(x, self._weights.at(f"down_blocks.{level}.downsamplers.0.conv"), stride=2)
                self._skips.append(x)
        x = self._layer(x, "mid_block", 0, last)
        x = self._residual(x, "mid_block.resnets.1")
        for at in range(last + 1):
            x = self._up(x, f"up_blocks.{at}", last - at)
            if at < last:
                x = _doubled_convolution(x, self._weights.at(f"up_blocks.{at}.upsamplers.0.conv"))
        x = ops.swish(_group_norm(x, self._weights.at("conv_norm_out"), sizes.groups, sizes.norm_eps))
        result = ops.result(_convolution(x, self._weights.at("conv_out")))
        result.output(0).set_names({PREDICTED})
        return make_model([result], [self._noisy, self._time, self._mask, *self._words.values()], "denoiser")

    def _down(self, x: Any, block: str, level: int) -> Any:
        for index in range(self._sizes.layers):
            x = self._layer(x, block, index, level)
            self._skips.append(x)
        return x

    def _up(self, x: Any, block: str, level: int) -> Any:
        for index in range(self._sizes.layers + 1):
            x = self._layer(ops.concat([x, self._skips.pop()], 1), block, index, level)
        return x

    def _layer(self, x: Any, block: str, index: int, level: int) -> Any:
        x = self._residual(x, f"{block}.resnets.{index}")
        if not _attends(self._sizes, block):
            return x
        return self._transformer(self._for_each_text(x), f"{block}.attentions.{index}", level)

    def _for_each_text(self, x: Any) -> Any:
        """Until words are read, the halves are equal, and only one is computed."""
        if self._is_doubled:
            return x
        self._is_doubled = True
        self._skips = [ops.concat([each] * self._halves, 0) for each in self._skips]
        return ops.concat([x] * self._halves, 0)

    def _residual(self, x: Any, name: str) -> Any:
        weights, groups, eps = self._weights.at(name), self._sizes.groups, self._sizes.norm_eps
        y = ops.swish(_group_norm(x, weights.at("norm1"), groups, eps))
        y = _convolution(y, weights.at("conv1"), bias=False)
        y = ops.swish(_group_norm(y, weights.at("norm2"), groups, eps, added=self._times[name]))
        y = _convolution(y, weights.at("conv2"))
        if "conv_shortcut.weight" in weights:
            x = _convolution(x, weights.at("conv_shortcut"), side=1)
        return x + y

    def _transformer(self, x: Any, name: str, level: int) -> Any:
        width, heads, weights = self._sizes.channels[level], self._sizes.heads[level], self._weights.at(name)
        side = self._sizes.size_px >> level
        y = _group_norm(x, weights.at("norm"), self._sizes.groups, TRANSFORMER_EPS)
        y = _convolution(y, weights.at("proj_in"), side=1)
        y = ops.reshape(ops.transpose(y, ints(0, 2, 3, 1)), ints(0, side * side, width), True)
        y = self._block(y, weights.at("transformer_blocks.0"), f"{name}.transformer_blocks.0.attn2", width, heads)
        y = ops.transpose(ops.reshape(y, ints(0, side, side, width), True), ints(0, 3, 1, 2))
        return x + _convolution(y, weights.at("proj_out"), side=1)

    def _block(self, x: Any, weights: Weights, site: str, width: int, heads: int) -> Any:
        norms = [weights.at(f"norm{each}") for each in (1, 2, 3)]
        y, attention = _layer_norm(x, norms[0]), weights.at("attn1")
        joined = number(np.concatenate([attention.array(f"to_{each}.weight") for each in "qkv"]))
        parts = ops.split(ops.matmul(y, joined, False, True), scalar(2), 3).outputs()
        q, k, v = (_heads(part, heads, width) for part in parts)
        attended = ops.scaled_dot_product_attention(q, k, v, causal=False)
        x = x + linear(merge_heads(attended, width), attention.at("to_out.0"))
        attention = weights.at("attn2")
        q = _heads(linear(_layer_norm(x, norms[1]), attention.at("to_q")), heads, width)
        k, v = self._words[f"{site}.k"], self._words[f"{site}.v"]
        attended = ops.scaled_dot_product_attention(q, k, v, self._mask, causal=False)
        x = x + linear(merge_heads(attended, width), attention.at("to_out.0"))
        return x + _geglu(_layer_norm(x, norms[2]), weights.at("ff"), width)


class _Prefixed(Weights):
    """All arrays."""

    def __init__(self, arrays: Arrays):
        super().__init__(arrays, "")

    def at(self, name: str) -> Weights:
        return Weights(self.arrays, name)


def _convolution(x: Any, weights: Weights, *, side: int = 3, stride: int = 1, bias: bool = True) -> Any:
    pad = [side // 2] * 2
    y = ops.convolution(x, weights["weight"], [stride] * 2, pad, pad, [1, 1])
    return y + number(weights.array("bias")[None, :, None, None]) if bias else y


def _doubled_convolution(x: Any, weights: Weights) -> Any:
    """The convolution of a picture whose pixels each became a square of four. Up to 2 x 2 numbers of a kernel meet the
    same pixel: their sums, as a transposed convolution of stride 2, take 4 products where 9 were."""
    kernel = np.einsum("ui,vj,oaij->aouv", _MEETS, _MEETS, weights.array("weight").astype(np.float64))
    y = ops.convolution_backprop_data(
        x, number(kernel), strides=[2, 2], pads_begin=[1, 1], pads_end=[1, 1], dilations=[1, 1]
    )
    return y + number(weights.array("bias")[None, :, None, None])


def _group_norm(x: Any, weights: Weights, groups: int, eps: float, *, added: Any = None) -> Any:
    """Group norm of x, or of x + `added`, (1, channels, 1, 1). OpenVINO's own writes x in another order of memory and
    back; here x is only read, for moments of its channels, and multiplied. Deviations are taken from each channel's
    mean first, so that no large numbers cancel."""
    count, channels, *_ = x.get_output_shape(0)
    mean = ops.reduce_mean(x, ints(2, 3), True)
    deviation = x - mean
    variance = ops.reduce_mean(deviation * deviation, ints(2, 3), True)

    def grouped(each: Any) -> Any:
        return ops.reshape(each, ints(count, groups, channels // groups), False)

    def single(each: Any) -> Any:
        return ops.reshape(each, ints(count, channels, 1, 1), False)

    means = grouped(mean if added is None else mean + added)
    offset = means - ops.reduce_mean(means, ints(2), True)
    spread = ops.sqrt(ops.reduce_mean(grouped(variance) + offset * offset, ints(2), True) + number([[[eps]]]))
    gain = single(number(weights.array("weight").reshape(1, groups, -1)) / spread)
    return x * gain + ((single(offset) - mean) * gain + number(weights.array("bias")[None, :, None, None]))


def _layer_norm(x: Any, weights: Weights) -> Any:
    return ops.mvn(x, ints(-1), True, LAYER_NORM_EPS, "inside_sqrt") * weights["weight"] + weights["bias"]


def _heads(x: Any, heads: int, width: int) -> Any:
    return ops.transpose(ops.reshape(x, ints(0, -1, heads, width // heads), True), ints(0, 2, 1, 3))


def _geglu(x: Any, weights: Weights, width: int) -> Any:
    """The gated linear unit of Shazeer 2020, and its projection."""
    gate = linear(x, weights.at("net.0.proj"), slice(4 * width, None))
    return linear(linear(x, weights.at("net.0.proj"), slice(4 * width)) * ops.gelu(gate, "erf"), weights.at("net.2"))
