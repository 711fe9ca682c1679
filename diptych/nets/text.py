"""The text tower: a causal transformer pooled at the end token (CLIP), a bidirectional one pooled at the last position
(SigLIP), or one that averages all tokens (sentence encoders in BERT's form)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from diptych.errors import ArgumentError
from diptych.nets.config import TextConfig
from diptych.nets.transformer import Block, Transformer, first_true

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

LENGTH_BUCKET_SIZE = 48  # texts of similar length that are computed together


class TextTransformer(nn.Module):
    """Token ids to one vector."""

    def __init__(self, config: TextConfig, embed_dim: int):
        super().__init__()
        self.config = config
        is_post = config.norm_position == "post"
        self.token = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(torch.empty(config.context, config.width))
        self.norm_pre = nn.LayerNorm(config.width, config.norm_eps) if is_post else nn.Identity()
        self.transformer = Transformer(
            config.width, config.layers, config.heads, config.mlp_width, config.activation, config.norm_eps,
            config.norm_position,
        )  # fmt: skip
        self.norm_post = nn.Identity() if is_post else nn.LayerNorm(config.width, config.norm_eps)
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

    def states(self, ids: Int[Tensor, "batch tokens"], *, skip: int = 0) -> Float[Tensor, "batch tokens width"]:
        """Every token's state after the last norm, as diffusion models use it. `skip` leaves out that many of the last
        layers, as `clip_skip` of diffusers does: 1 gives the last but one's states through the last norm (post-norm
        towers have none). Padding positions have states as well; in a causal tower they are of the text before them.

        Raises ArgumentError for more tokens than the context, or a `skip` that is negative or leaves no layer."""
        self._require_room(ids)
        if not 0 <= skip < self.config.layers:
            raise ArgumentError(
                f"skip={skip!r:.40} leaves out more layers than it may; wanted 0 to {self.config.layers - 1}, "
                f"for this tower has {self.config.layers}.",
                argument="skip",
            )
        return self._states(ids, self._is_text(ids) if self.config.masks_padding else None, skip)

    def forward(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch dim"]:
        self._require_room(ids)
        # On a CPU the time grows with the number of tokens, so texts of similar length are computed together. A
        # compiler that traces the whole tower cannot depend on lengths, and an accelerator would have to wait for them.
        if not self.training or ids.device.type != "cpu" or torch.compiler.is_compiling() or self.config.reads_padding:
            return self._pooled(ids)
        return self._bucketed_by_length(ids)

    def _bucketed_by_length(self, ids: Tensor) -> Tensor:
        """Compute texts of similar length together, without the padding beyond the longest, which affects no text."""
        lengths = self._lengths(ids)
        order = lengths.argsort()
        groups = [self._pooled(ids[rows, : int(lengths[rows[-1]])]) for rows in order.split(LENGTH_BUCKET_SIZE)]
        return torch.cat(groups)[order.argsort()]

    def _pooled(self, ids: Tensor) -> Tensor:
        if self.config.pool == "mean":
            return self._averaged(ids)
        states = self.transformer(self._embedded(ids), self.config.causal, self._pooled_position(ids))
        return self.proj(self.norm_post(states[:, 0]))

    def _averaged(self, ids: Tensor) -> Tensor:
        """The mean over the text's tokens. Padding has weight 0, and no token attends to it."""
        is_text = self._is_text(ids)
        weights = is_text.unsqueeze(2)  # (batch, tokens, 1)
        return self.proj((self._states(ids, is_text) * weights).sum(dim=1) / weights.sum(dim=1))

    def _states(self, ids: Tensor, is_text: Bool[Tensor, "batch tokens"] | None, skip: int = 0) -> Tensor:
        mask, until = None if is_text is None else is_text[:, None, None], self.config.layers - skip
        return self.norm_post(self.transformer(self._embedded(ids), self.config.causal, until=until, mask=mask))

    def _is_text(self, ids: Tensor) -> Tensor:
        """True for tokens, false for padding. The first is a token in any case, so that no row is empty."""
        first = torch.arange(ids.shape[1], device=ids.device) == 0
        return (ids != self.config.pad_id) | first

    def _lengths(self, ids: Tensor) -> Int[Tensor, " batch"]:
        """The number of tokens of each text on which its vector depends."""
        if self.config.pool != "mean":
            return self._pooled_position(ids) + 1
        return (self._is_text(ids) * torch.arange(1, ids.shape[1] + 1, device=ids.device)).amax(dim=1)

    def _embedded(self, ids: Tensor) -> Tensor:
        return self.norm_pre(self.token(ids) + self.positions[: ids.shape[1]].to(self.token.weight.dtype))

    def _require_room(self, ids: Tensor) -> None:
        if ids.shape[1] > self.config.context:
            raise ArgumentError(
                f"{ids.shape[1]} tokens; this tower reads {self.config.context}. Tokenize with truncate=True to cut."
            )

    def _pooled_position(self, ids: Tensor) -> Tensor:
        if self.config.pool == "last":
            return ids.new_full((ids.shape[0],), ids.shape[1] - 1)
        return ids.argmax(dim=-1) if self.config.pool == "argmax" else first_true(ids == self.config.end_id)
