"""The vision transformer (Dosovitskiy et al. 2021) in CLIP's and in SigLIP's form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from diptych.errors import ArgumentError
from diptych.nets.config import ViTConfig, check_picture_size
from diptych.nets.transformer import Block, MAPHead, Transformer

if TYPE_CHECKING:
    from jaxtyping import Float


class VisionTransformer(nn.Module):
    """Pixels to one vector: patches, positions, blocks, pooling, and a projection into the shared space.

    With `pool="map"` the head's output is the embedding and there is no projection, as in SigLIP. Only training sets
    `patch_dropout`, the share of patches that each sample leaves out, and the blocks' `drop_path`.
    """

    def __init__(self, config: ViTConfig, embed_dim: int):
        super().__init__()
        self.config = config
        self.patch_dropout = 0.0
        width, tokens = config.width, config.grid**2 + (config.pool == "class")
        self.patch = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=config.patch_bias)  # E
        self.class_token = nn.Parameter(width**-0.5 * torch.randn(width)) if config.pool == "class" else None  # x_class
        self.positions = nn.Parameter(width**-0.5 * torch.randn(tokens, width))  # E_pos
        self.norm_pre = nn.LayerNorm(width, config.norm_eps) if config.norm_pre else nn.Identity()
        self.transformer = Transformer(
            width, config.layers, config.heads, config.mlp_width, config.activation, config.norm_eps
        )
        self.norm_post = nn.LayerNorm(width, config.norm_eps)
        if config.pool == "map":
            if embed_dim != width:
                raise ArgumentError(
                    f"with pool='map' the embedding is {width} wide, as the tower; embed_dim is {embed_dim}."
                )
            self.head = MAPHead(width, config.heads, config.mlp_width, config.activation, config.norm_eps)
        else:
            self.proj = nn.Linear(width, embed_dim, bias=False)
            nn.init.normal_(self.proj.weight, std=width**-0.5)

    def tokens(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch tokens width"]:
        """Every token after the last norm; the class token, if there is one, is the first."""
        return self.norm_post(self.transformer(self._embedded(pixels)))

    def with_patches(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch patches dim"]]:
        """The vector, and one for each patch, row by row, in the same space.

        With a class token a patch's vector is its value in the last block, projected without attention between patches
        (Zhou et al. 2022, "Extract free dense labels from CLIP", section 3.2). With an attention-pooling head it is the
        head's output for that patch alone. With a mean it is the summand.
        """
        x = self._embedded(pixels)
        if self.config.pool == "class":
            x = self.transformer(x, until=-1)
            last: Block = self.transformer.blocks[-1]  # type: ignore[assignment]
            first = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
            vector = self.proj(self.norm_post(last(x, token_index=first)[:, 0]))  # y = LN(z_L^0), equation 4
            return vector, self.proj(self.norm_post(last.attention.value_projection(last.norm_1(x[:, 1:]))))
        x = self.norm_post(self.transformer(x))
        if self.config.pool == "map":
            return self.head(x), self.head.patch_embeddings(x)
        return self.proj(x.mean(dim=1)), self.proj(x)

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        return self.from_trunk(self.trunk(pixels))

    def trunk(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch ..."]:
        """The output of the last block: the class token's (batch, width), if there is one, since nothing else is read
        of it; otherwise every token's (batch, tokens, width)."""
        x = self._embedded(pixels)
        if self.config.pool == "class":
            first = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
            return self.transformer(x, token_index=first)[:, 0]
        return self.transformer(x)

    def from_trunk(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch dim"]:
        """The vector, from the output of `trunk`."""
        x = self.norm_post(x)
        if self.config.pool == "class":
            return self.proj(x)
        return self.head(x) if self.config.pool == "map" else self.proj(x.mean(dim=1))

    def _embedded(self, pixels: Tensor) -> Tensor:
        check_picture_size(pixels.shape[-2:], self.config.image_size)
        # z_0 = [x_class; x_p^1 E; ...; x_p^N E] + E_pos, equation 1
        x = self.patch(pixels).flatten(2).transpose(1, 2)  # (batch, patches, width)
        if self.class_token is not None:
            x = torch.cat([self.class_token.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)
        x = x + self.positions.to(x.dtype)
        if self.training and self.patch_dropout:
            x = drop_patches(x, self.patch_dropout, keep_first=int(self.class_token is not None))
        return self.norm_pre(x)


def drop_patches(
    x: Float[Tensor, "batch tokens width"], rate: float, *, keep_first: int = 0
) -> Float[Tensor, "batch fewer width"]:
    """Leave out a share `rate` of each sample's tokens, drawn for each sample; the first `keep_first` always stay
    (FLIP: Li et al. 2023, section 3). At least one patch stays."""
    batch, tokens, _ = x.shape
    count = max(1, round((1 - rate) * (tokens - keep_first)))
    drawn = torch.rand(batch, tokens - keep_first, device=x.device).topk(count).indices + keep_first
    always = torch.arange(keep_first, device=x.device).expand(batch, -1)
    return x[torch.arange(batch, device=x.device)[:, None], torch.cat([always, drawn], dim=1)]
