"""The pieces of OpenVINO graphs: constants from arrays, linear layers, norms and attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from diptych.checkpoint.weights.int8 import Int8
from diptych.engines.openvino_runtime import openvino

ops = openvino.opset15
Arrays = Mapping[str, np.ndarray]


class Weights:
    """The arrays under a prefix, as constants of a graph. float16 and int8 stay so in the graph's memory."""

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

    def stored(self, name: str) -> np.ndarray | Int8:
        """An array as it is stored: in 8 bits, or itself."""
        return getattr(self.arrays, "stored", self.arrays.__getitem__)(f"{self.prefix}.{name}")

    def __getitem__(self, name: str) -> Any:
        return constant(self.array(name))


make_model: Any = openvino.Model  # untyped, because its type stubs are wrong


def model_of(results: Mapping[str, Any], parameter: Any, name: str) -> Any:
    """A model with one input, and the `results` under their names."""
    nodes = []
    for output, node in results.items():
        nodes.append(ops.result(node))
        nodes[-1].output(0).set_names({output})
    return make_model(nodes, [parameter], name)


def constant(array: np.ndarray) -> Any:
    """An array as float32; a smaller type is kept as it is and converted in the graph."""
    node = ops.constant(np.ascontiguousarray(array))
    return node if array.dtype == np.float32 else ops.convert(node, "f32")


def _matrix(weights: np.ndarray | Int8, rows: slice) -> Any:
    """Some rows of a matrix. OpenVINO multiplies by those in 8 bits without making floats of all of them."""
    if not isinstance(weights, Int8):
        return constant(weights[rows])
    return constant(weights.values[rows]) * number(weights.scale[rows, None])


def rows_of(weights: np.ndarray | Int8, ids: Any) -> Any:
    """The rows `ids` of a matrix: those in 8 bits become floats after they are chosen."""
    if not isinstance(weights, Int8):
        return ops.gather(constant(weights), ids, scalar(0))
    chosen = ops.convert(ops.gather(ops.constant(weights.values), ids, scalar(0)), "f32")
    return chosen * ops.gather(number(weights.scale[:, None]), ids, scalar(0))


def number(values: Any) -> Any:
    """Numbers as a float32 constant."""
    return ops.constant(np.asarray(values, np.float32))


def ints(*values: int) -> Any:
    """A vector of whole numbers."""
    return ops.constant(np.array(values, np.int64))


def scalar(value: int) -> Any:
    """A whole number."""
    return ops.constant(np.int64(value))


def squeezed(x: Any) -> Any:
    """(batch, 1, width) -> (batch, width)."""
    return ops.squeeze(x, ints(1))


def linear(x: Any, weights: Weights, rows: slice | None = None) -> Any:
    """x W^T + b, optionally with only some rows of W."""
    rows = rows or slice(None)
    y = ops.matmul(x, _matrix(weights.stored("weight"), rows), False, True)
    return y + constant(weights.array("bias")[rows]) if "bias" in weights else y


def layer_norm(x: Any, weights: Weights, eps: float) -> Any:
    """Normalised over the last axis, with gain and bias."""
    return ops.mvn(x, ints(-1), True, eps, "inside_sqrt") * weights["weight"] + weights["bias"]


def _quick_gelu(x: Any) -> Any:
    return ops.swish(x, ops.constant(np.float32(1.702)))


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": lambda x: ops.gelu(x, "erf"),
    "gelu_tanh": lambda x: ops.gelu(x, "tanh"),
    "quick_gelu": _quick_gelu,
}


def attention(q: Any, k: Any, v: Any, heads: int, width: int, *mask: Any, causal: bool = False) -> Any:
    """softmax(q k^T / sqrt(head width)) v in each head: (batch, heads, queries, width / heads)."""
    return ops.scaled_dot_product_attention(
        *(_split_heads(each, heads, width) for each in (q, k, v)), *mask, causal=causal
    )


def _split_heads(x: Any, heads: int, width: int) -> Any:
    """(batch, tokens, width) -> (batch, heads, tokens, width / heads)."""
    return ops.transpose(ops.reshape(x, ints(0, -1, heads, width // heads), True), ints(0, 2, 1, 3))


def merge_heads(x: Any, width: int) -> Any:
    """The inverse of `_split_heads`."""
    return ops.reshape(ops.transpose(x, ints(0, 2, 1, 3)), ints(0, -1, width), True)


def after_first(x: Any) -> Any:
    """All tokens but the first."""
    return ops.slice(x, ints(1), ints(2**31 - 1), ints(1), ints(1))
