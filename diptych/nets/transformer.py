"""The residual attention block of every transformer tower."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diptych.errors import ArgumentError
from diptych.nets.config import check_activation

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x): the approximation of GELU that OpenAI's models were trained with
    (Hendrycks and Gimpel 2016, section 2)."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation, which SigLIP's towers use."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu, "gelu_tanh": gelu_tanh}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function called `name`. Raises ValueError with the known names."""
    check_activation(name)
    return ACTIVATIONS[name]


# On CPUs, sequences of up to this many tokens are trained with plain matrix products: see `attention`.
MAX_MATMUL_TOKENS = 200


def attention(
    q: Float[Tensor, "batch heads queries head"],
    k: Float[Tensor, "batch heads tokens head"],
    v: Float[Tensor, "batch heads tokens head"],
    *,
    causal: bool = False,
    mask: Bool[Tensor, "batch 1 queries tokens"] | None = None,
    training: bool = False,
) -> Float[Tensor, "batch heads queries head"]:
    """softmax(q k^T / sqrt(head width)) v over the tokens where `mask` is true, or the tokens up to the query's own.

    PyTorch's fused CPU kernel is made for long sequences: in bfloat16, forward and backward over 65 tokens, it takes
    five times as long as three matrix products. In float32 it does not.
    """
    if training and q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[2] <= MAX_MATMUL_TOKENS:
        return matmul_attention(q, k, v, causal=causal, mask=mask)
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)


def matmul_attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, mask: Tensor | None) -> Tensor:
    """`attention` with its weights (queries x tokens) stored for the backward pass, and normalised in float32 or
    better."""
    scores = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3)
    if causal:
        mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    return weights.to(v.dtype) @ v


class Attention(nn.Module):
    """Multi-head self-attention with one fused query/key/value projection (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ArgumentError(f"width {width} does not divide into {heads} heads.")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        # The initialisation of PyTorch's multi-head attention, which OpenAI's image towers have.
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        causal: bool = False,
        token_index: Int[Tensor, " batch"] | None = None,
        mask: Bool[Tensor, "batch 1 1 tokens"] | None = None,
    ) -> Float[Tensor, "batch queries width"]:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, tokens, head width)
        if token_index is not None:
            q = q[torch.arange(batch, device=x.device), :, token_index].unsqueeze(2)
            if causal:
                mask = (torch.arange(tokens, device=x.device) <= token_index[:, None])[:, None, None]
        attended = attention(q, k, v, causal=causal and token_index is None, mask=mask, training=self.training)
        return self.out(attended.transpose(1, 2).flatten(2))

    def value_projection(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Each token's output if all attention were on it: its value through the output projection, v_i W_o."""
        width = x.shape[-1]
        return self.out(F.linear(x, self.qkv.weight[2 * width :], self.qkv.bias[2 * width :]))


class MLP(nn.Module):
    """Two linear layers with an activation between them, applied to each token alone."""

    def __init__(self, width: int, hidden: int, activation_name: str):
        super().__init__()
        self.fc = nn.Linear(width, hidden)
        self.proj = nn.Linear(hidden, width)
        self.activation = activation(activation_name)

    def forward(self, x: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
        return self.proj(self.activation(self.fc(x)))


class Block(nn.Module):
    """Residual block, pre-norm or, with `norm_position="post"`, post-norm. With `token_index`, one position of each
    sample, it computes that token alone, as the last block of a tower with one pooled token does. Only training sets
    `drop_path` and `dropout`; they are not in a model's configuration. Stochastic depth (`drop_path`; Huang et al.
    2016) drops a branch for whole samples."""

    def __init__(
        self, width: int, heads: int, mlp_width: int, activation_name: str, norm_eps: float,
        norm_position: Literal["pre", "post"] = "pre",
    ):  # fmt: skip
        super().__init__()
        self.norm_position = norm_position
        self.norm_1 = nn.LayerNorm(width, eps=norm_eps)
        self.attention = Attention(width, heads)
        self.norm_2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = MLP(width, mlp_width, activation_name)
        self.drop_path = 0.0
        self.dropout = 0.0

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        causal: bool = False,
        token_index: Int[Tensor, " batch"] | None = None,
        mask: Bool[Tensor, "batch 1 1 tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        if self.norm_position == "post":  # z' = LN(z + MSA(z)), then z = LN(z' + MLP(z')) (Vaswani et al., section 5.4)
            attended = self._branch(self.attention(x, causal, token_index, mask))
            x = self.norm_1(attended + _selected(x, token_index))
            return self.norm_2(x + self._branch(self.mlp(x)))
        # z' = MSA(LN(z)) + z, then z = MLP(LN(z')) + z' (Dosovitskiy et al. 2021, equations 2 and 3)
        attended = self._branch(self.attention(self.norm_1(x), causal, token_index, mask))
        x = attended + _selected(x, token_index)
        return x + self._branch(self.mlp(self.norm_2(x)))

    def _branch(self, y: Tensor) -> Tensor:
        if not self.training:
            return y
        return drop_path(F.dropout(y, self.dropout) if self.dropout else y, self.drop_path)


def _selected(x: Tensor, token_index: Tensor | None) -> Tensor:
    """All tokens, or one of each sample (batch, 1, width)."""
    return x if token_index is None else x[torch.arange(x.shape[0], device=x.device), token_index].unsqueeze(1)


def drop_path(y: Tensor, rate: float) -> Tensor:
    """Zero the branch `y` of a residual block for a share `rate` of the samples, and scale up the others."""
    if not rate:
        return y
    keep_mask = torch.rand((y.shape[0],) + (1,) * (y.ndim - 1), device=y.device) >= rate
    return y * (keep_mask.to(y.dtype) / (1 - rate))


class Transformer(nn.Module):
    """A stack of blocks. With `checkpointing`, activations inside blocks are recomputed in the backward pass (Chen et
    al. 2016): less memory for about a third more arithmetic."""

    def __init__(
        self, width: int, layers: int, heads: int, mlp_width: int, activation_name: str, norm_eps: float = 1e-5,
        norm_position: Literal["pre", "post"] = "pre",
    ):  # fmt: skip
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_width, activation_name, norm_eps, norm_position) for _ in range(layers)
        )
        self.checkpointing = False

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        causal: bool = False,
        token_index: Int[Tensor, " batch"] | None = None,
        *,
        until: int | None = None,
        mask: Bool[Tensor, "batch 1 1 tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Every token's state, or with `token_index` that of one position of each sample (batch, 1, width). With
        `until` only the blocks before that one run; with `mask` no token attends to those where it is false."""
        for block in self.blocks[:until]:
            index = token_index if block is self.blocks[-1] else None
            if self.checkpointing and self.training:
                x = checkpoint(block, x, causal, index, mask, use_reentrant=False)
            else:
                x = block(x, causal, index, mask)
        return x


class MAPHead(nn.Module):
    """Multi-head attention pooling with one learned query, the probe (Zhai et al. 2022, "Scaling Vision Transformers",
    section 3.3)."""

    def __init__(self, width: int, heads: int, mlp_width: int, activation_name: str, norm_eps: float):
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, width))
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = MLP(width, mlp_width, activation_name)
        nn.init.xavier_uniform_(self.probe)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch width"]:
        batch, _, width = x.shape
        heads, qkv = self.attention.heads, self.attention.qkv
        probe = self.probe.expand(batch, -1, -1)
        q = F.linear(probe, qkv.weight[:width], qkv.bias[:width])
        k, v = F.linear(x, qkv.weight[width:], qkv.bias[width:]).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        pooled = attention(q, k, v, training=self.training).transpose(1, 2).reshape(batch, width)
        return self._mlp_residual(self.attention.out(pooled))

    def patch_embeddings(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """For each token, the output if the probe saw that token alone."""
        return self._mlp_residual(self.attention.value_projection(x))

    def _mlp_residual(self, pooled: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
        return pooled + self.mlp(self.norm(pooled))


def first_true(mask: Bool[Tensor, "batch tokens"]) -> Tensor:
    """The position of the first true value in each row (0 if there is none)."""
    return mask.to(torch.uint8).argmax(dim=-1)
