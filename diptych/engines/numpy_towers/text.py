"""The text tower in NumPy, for the few texts of a command: a search computes its query in less time than it takes
to import OpenVINO and to open a compiled tower. It computes what `diptych.nets.text` computes, in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from diptych.checkpoint.weights.int8 import Int8
from diptych.nets.config import TextConfig

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Abramowitz and Stegun 1964, formula 7.1.26: erf to 1.5e-7
_ERF_P, _ERF_A = np.float32(0.3275911), (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


class NumpyText:
    """The tower of a configuration and weights with Diptych's names, which are read anew at each call."""

    def __init__(self, text: TextConfig, weights: Mapping[str, np.ndarray]):
        self._text, self._weights = text, weights

    def __call__(self, ids: Int[np.ndarray, "batch tokens"]) -> Float[np.ndarray, "batch dim"]:
        """Raw features. Raises KeyError, IndexError or ValueError for weights that do not fit the configuration."""
        return self._linear(self._pooled(self._blocks(ids), ids), "proj")

    def states(self, ids: Int[np.ndarray, "batch tokens"]) -> Float[np.ndarray, "batch tokens width"]:
        """The states of all tokens after the last norm. Raises the same."""
        x = self._blocks(ids)
        return x if self._text.norm_position == "post" else self._norm(x, "norm_post")

    def _blocks(self, ids: np.ndarray) -> np.ndarray:
        """(batch, tokens, width), after the last block."""
        text = self._text
        x = self._rows("token.weight", ids) + self._array("positions")[: ids.shape[1]]
        if text.norm_position == "post":
            x = self._norm(x, "norm_pre")
        mask = self._mask(ids)
        for layer in range(text.layers):
            x = self._block(x, f"transformer.blocks.{layer}", mask)
        return x

    def _block(self, x: np.ndarray, name: str, mask: np.ndarray) -> np.ndarray:
        if self._text.norm_position == "post":
            x = self._norm(x + self._attention(x, f"{name}.attention", mask), f"{name}.norm_1")
            return self._norm(x + self._mlp(x, f"{name}.mlp"), f"{name}.norm_2")
        x = x + self._attention(self._norm(x, f"{name}.norm_1"), f"{name}.attention", mask)
        return x + self._mlp(self._norm(x, f"{name}.norm_2"), f"{name}.mlp")

    def _attention(self, x: np.ndarray, name: str, mask: np.ndarray) -> np.ndarray:
        batch, tokens, width = x.shape
        heads = self._text.heads
        qkv = self._linear(x, f"{name}.qkv").reshape(batch, tokens, 3, heads, width // heads)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # (batch, heads, tokens, width / heads)
        scores = np.where(mask, q @ k.swapaxes(2, 3) * np.float32((width / heads) ** -0.5), np.float32(-np.inf))
        scores = np.exp(scores - scores.max(axis=3, keepdims=True))
        attended = scores / scores.sum(axis=3, keepdims=True) @ v
        return self._linear(attended.swapaxes(1, 2).reshape(batch, tokens, width), f"{name}.out")

    def _mlp(self, x: np.ndarray, name: str) -> np.ndarray:
        return self._linear(_activated(self._linear(x, f"{name}.fc"), self._text.activation), f"{name}.proj")

    def _mask(self, ids: np.ndarray) -> np.ndarray:
        """(batch or 1, 1, tokens, tokens): which tokens, along the last axis, each token attends to."""
        tokens = ids.shape[1]
        every = np.ones((1, 1, tokens, tokens), bool)
        if self._text.masks_padding:
            return every & self._is_text(ids)[:, None, None]
        return np.tril(every) if self._text.causal else every

    def _is_text(self, ids: np.ndarray) -> np.ndarray:
        """True for tokens, false for padding; the first is a token in any case."""
        return (ids != self._text.pad_id) | (np.arange(ids.shape[1]) == 0)

    def _pooled(self, x: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The one state of each text, (batch, width)."""
        pool = self._text.pool
        if pool == "mean":
            share = self._is_text(ids)[:, :, None].astype(np.float32)
            states = x if self._text.norm_position == "post" else self._norm(x, "norm_post")
            return (states * share).sum(axis=1) / share.sum(axis=1)
        end = self._text.end_id if pool == "end" else ids.max(axis=1, keepdims=True)
        found = ids == end
        index = np.where(found.any(axis=1), found.argmax(axis=1), ids.shape[1] - 1) if pool != "last" else -1
        states = x[np.arange(len(x)), index]
        return states if self._text.norm_position == "post" else self._norm(states, "norm_post")

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(self._text.norm_eps))
        return x / scale * self._array(f"{name}.weight") + self._array(f"{name}.bias")

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        weight = getattr(self._weights, "stored", self._weights.__getitem__)(f"text.{name}.weight")
        if isinstance(weight, Int8):
            y = x @ weight.values.astype(np.float32).T * weight.scale
        else:
            y = x @ weight.astype(np.float32, copy=False).T
        return y + self._array(f"{name}.bias") if f"text.{name}.bias" in self._weights else y

    def _array(self, name: str) -> np.ndarray:
        return self._weights[f"text.{name}"].astype(np.float32, copy=False)

    def _rows(self, name: str, ids: np.ndarray) -> np.ndarray:
        """The rows `ids` of a matrix; each is read from its file once, and no other."""
        chosen, inverse = np.unique(ids, return_inverse=True)
        rows = getattr(self._weights, "rows", lambda name, indices: self._weights[name][indices])
        return rows(f"text.{name}", chosen).astype(np.float32, copy=False)[inverse.reshape(ids.shape)]


def _activated(x: np.ndarray, activation: str) -> np.ndarray:
    if activation == "quick_gelu":
        return x / (1 + np.exp(np.float32(-1.702) * x))
    if activation == "gelu_tanh":
        return x / (1 + np.exp(np.float32(-2 * (2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x * x * x)))
    return x * np.float32(0.5) * (1 + _erf(x * np.float32(0.5**0.5)))


def _erf(x: np.ndarray) -> np.ndarray:
    size = np.abs(x)
    t = 1 / (1 + _ERF_P * size)
    series = np.zeros_like(t)
    for factor in _ERF_A:
        series = (series + np.float32(factor)) * t
    return np.copysign(1 - series * np.exp(-size * size), x)
