"""The text tower: a causal transformer pooled at the end token (CLIP), or a bidirectional one pooled at the last
position (SigLIP)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from diptych.errors import ArgumentError
from diptych.nets.config import TextConfig
from diptych.nets.transformer import Block, Transformer, first_true

if TYPE_CHECKING:
    from jaxtyping import Float, Int

LENGTH_BUCKET_SIZE = 48  # texts of similar length that are computed together


class TextTransformer(nn.Module):
    """Token ids to one vector."""

    def __init__(self, config: TextConfig, embed_dim: int):
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(torch.empty(config.context, config.width))
        self.transformer = Transformer(
            config.width, config.layers, config.heads, config.mlp_width, config.activation, config.norm_eps
        )
        self.norm_post = nn.LayerNorm(config.width, config.norm_eps)
        self.proj = nn.Linear(config.width, embed_dim, bias=config.proj_bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """OpenAI's initialisation: residual branches shrink with depth (Radford et al. 2019, section 2.3)."""
        width, layers = self.config.width, self.config.layers
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        nn.init.normal_(self.proj.weight, std=width**-0.5)
        for block in self.transformer.blocks:
            assert isinstance(block, Block)
            nn.init.normal_(block.attention.qkv.weight, std=width**-0.5)
            nn.init.normal_(block.attention.out.weight, std=width**-0.5 * (2 * layers) ** -0.5)
            nn.init.normal_(block.mlp.fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)

    def states(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens width"]:
        """Every token's state after the last norm, as diffusion models use it."""
        self._require_room(ids)
        return self.norm_post(self.transformer(self._embedded(ids), self.config.causal))

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch dim"]:
        self._require_room(ids)
        token_index = self._pooled_position(ids)
        # On a CPU the time grows with the number of tokens, so texts of similar length are computed together. A
        # compiler that traces the whole tower cannot depend on lengths, and an accelerator would have to wait for them.
        if self.training and self.config.causal and ids.device.type == "cpu" and not torch.compiler.is_compiling():
            return self._bucketed_by_length(ids, token_index)
        return self._pooled(ids, token_index)

    def _pooled(self, ids: Tensor, token_index: Tensor) -> Tensor:
        states = self.transformer(self._embedded(ids), self.config.causal, token_index)
        return self.proj(self.norm_post(states[:, 0]))

    def _bucketed_by_length(self, ids: Tensor, token_index: Tensor) -> Tensor:
        """Compute texts of similar length together, without padding: under a causal mask no token after `token_index`
        affects the result."""
        order = token_index.argsort()
        groups = [
            self._pooled(ids[rows, : int(token_index[rows[-1]]) + 1], token_index[rows])
            for rows in order.split(LENGTH_BUCKET_SIZE)
        ]
        return torch.cat(groups)[order.argsort()]

    def _embedded(self, ids: Tensor) -> Tensor:
        return self.token(ids) + self.positions[: ids.shape[1]].to(self.token.weight.dtype)

    def _require_room(self, ids: Tensor) -> None:
        if ids.shape[1] > self.config.context:
            raise ArgumentError(
                f"{ids.shape[1]} tokens; this tower reads {self.config.context}. Tokenize with truncate=True to cut."
            )

    def _pooled_position(self, ids: Tensor) -> Tensor:
        if self.config.pool == "last":
            return ids.new_full((ids.shape[0],), ids.shape[1] - 1)
        return ids.argmax(dim=-1) if self.config.pool == "argmax" else first_true(ids == self.config.end_id)
