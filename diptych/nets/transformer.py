"""The residual attention block that every transformer tower is made of."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x): the approximation of GELU that OpenAI's models were trained with
    (Hendrycks and Gimpel 2016, section 2)."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation, which SigLIP's towers use."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu, "gelu_tanh": gelu_tanh}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function called `name`; ValueError with the known names otherwise."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not known; choose one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


class Attention(nn.Module):
    """Multi-head self-attention with one fused query/key/value projection (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} does not divide into {heads} heads.")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        # PyTorch's own multi-head attention starts so, and OpenAI's image towers keep it.
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, x: Float[Tensor, "batch tokens width"], causal: bool = False
    ) -> Float[Tensor, "batch tokens width"]:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, tokens, head width)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


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
    """Pre-norm residual block. `drop_path` and `dropout` are set by training alone and are no part of a model's
    configuration: stochastic depth (Huang et al. 2016) drops a branch for whole samples."""

    def __init__(self, width: int, heads: int, mlp_width: int, activation_name: str, norm_eps: float):
        super().__init__()
        self.norm_1 = nn.LayerNorm(width, eps=norm_eps)
        self.attention = Attention(width, heads)
        self.norm_2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = MLP(width, mlp_width, activation_name)
        self.drop_path = 0.0
        self.dropout = 0.0

    def forward(
        self, x: Float[Tensor, "batch tokens width"], causal: bool = False
    ) -> Float[Tensor, "batch tokens width"]:
        x = x + self._branch(self.attention(self.norm_1(x), causal))
        return x + self._branch(self.mlp(self.norm_2(x)))

    def _branch(self, y: Tensor) -> Tensor:
        if not self.training:
            return y
        return drop_path(F.dropout(y, self.dropout) if self.dropout else y, self.drop_path)


def drop_path(y: Tensor, rate: float) -> Tensor:
    """Zero the branch `y` of a residual block for a share `rate` of the samples, and scale up the rest."""
    if not rate:
        return y
    keep = y.new_empty((y.shape[0],) + (1,) * (y.ndim - 1)).bernoulli_(1 - rate)
    return y * (keep / (1 - rate))


class Transformer(nn.Module):
    """A stack of blocks. With `checkpointing` set, activations inside blocks are recomputed in the backward pass
    (Chen et al. 2016), which trades about a third more arithmetic for memory."""

    def __init__(
        self, width: int, layers: int, heads: int, mlp_width: int, activation_name: str, norm_eps: float = 1e-5
    ):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, mlp_width, activation_name, norm_eps) for _ in range(layers))
        self.checkpointing = False

    def forward(
        self, x: Float[Tensor, "batch tokens width"], causal: bool = False
    ) -> Float[Tensor, "batch tokens width"]:
        for block in self.blocks:
            if self.checkpointing and self.training:
                x = checkpoint(block, x, causal, use_reentrant=False)
            else:
                x = block(x, causal)
        return x


class MAPHead(nn.Module):
    """Multi-head attention pooling: one learned probe asks all tokens (Zhai et al. 2022, "Scaling Vision
    Transformers", section 3.3)."""

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
        pooled = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, width)
        pooled = self.attention.out(pooled)
        return pooled + self.mlp(self.norm(pooled))


def first_true(mask: Bool[Tensor, "batch tokens"]) -> Tensor:
    """The position of the first true value in each row (0 where there is none)."""
    return mask.to(torch.uint8).argmax(dim=-1)
