"""The text tower: a causal transformer read at the end token (CLIP), or a bidirectional one read at the last
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

ROWS_TOGETHER = 48


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
        """Every token's state after the last norm, which is what a diffusion model reads."""
        self._require_room(ids)
        return self.norm_post(self.transformer(self._embedded(ids), self.config.causal))

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch dim"]:
        self._require_room(ids)
        at = self._pooled_position(ids)
        # A processor's time goes with the number of tokens, so it reads texts of a length together; a compiler that
        # traces the whole tower sees no lengths, and an accelerator would wait for them.
        if self.training and self.config.causal and ids.device.type == "cpu" and not torch.compiler.is_compiling():
            return self._by_length(ids, at)
        return self._read(ids, at)

    def _read(self, ids: Tensor, at: Tensor) -> Tensor:
        states = self.transformer(self._embedded(ids), self.config.causal, at)
        return self.proj(self.norm_post(states[:, 0]))

    def _by_length(self, ids: Tensor, at: Tensor) -> Tensor:
        """Short texts with short ones, none with its padding: under a causal mask nothing after `at` is ever read."""
        order = at.argsort()
        groups = [self._read(ids[rows, : int(at[rows[-1]]) + 1], at[rows]) for rows in order.split(ROWS_TOGETHER)]
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
