"""CLIP's ResNet (Radford et al. 2021, section 2.4): ResNet-D's three-convolution stem, anti-aliased strides (an average
pooling before each strided step, after Zhang 2019) and attention pooling instead of the global average."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # the base class of SyncBatchNorm too
from torch.utils.checkpoint import checkpoint

from diptych.errors import ArgumentError
from diptych.nets.config import ResNetConfig, check_picture_size
from diptych.nets.transformer import attention, drop_path

if TYPE_CHECKING:
    from jaxtyping import Float

EXPANSION = 4


class Bottleneck(nn.Module):
    """A residual block of 1x1, 3x3 and 1x1 convolutions; every stride is an average pooling."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        channels_out = channels * EXPANSION
        self.stride = stride
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        nn.init.zeros_(self.bn3.weight)  # each block starts as the identity (Goyal et al. 2017, section 5.1)
        reshapes = stride > 1 or channels_in != channels_out
        self.downsample = Downsample(channels_in, channels_out, stride) if reshapes else nn.Identity()
        self.drop_path = 0.0

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out height2 width2"]:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        if self.stride > 1:
            y = F.avg_pool2d(y, self.stride)
        y = self.bn3(self.conv3(y))
        if self.training:
            y = drop_path(y, self.drop_path)
        return F.relu(self.downsample(x) + y, inplace=True)


def checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    """Run a block, and again in the backward pass, in which batch norm must not count the same batch twice."""
    return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), frozen_batch_statistics(block)))  # type: ignore[return-value]


@contextmanager
def frozen_batch_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norm inside normalises by the batch, as in training, but its running statistics and its count do not
    change: for a forward pass over a batch that another pass counts."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


class Downsample(nn.Module):
    """The residual shortcut where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out height2 width2"]:
        return self.bn(self.conv(F.avg_pool2d(x, self.stride) if self.stride > 1 else x))


class AttentionPool(nn.Module):
    """One layer of attention whose query is the mean of the feature map."""

    def __init__(self, grid: int, width: int, heads: int, embed_dim: int):
        super().__init__()
        if width % heads:
            raise ArgumentError(f"the map's {width} channels do not divide into {heads} heads.")
        self.heads = heads
        self.positions = nn.Parameter(width**-0.5 * torch.randn(grid**2 + 1, width))
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, embed_dim)
        for linear in (self.q, self.k, self.v, self.out):
            nn.init.normal_(linear.weight, std=width**-0.5)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch dim"]:
        x = self._tokens(x)
        return self._pooled(x, self.v(x))

    def with_patches(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch patches dim"]]:
        """The pooled vector, and each patch's output if it had all attention: its projected value (Zhou et
        al. 2022, "Extract free dense labels from CLIP", section 3.2)."""
        x = self._tokens(x)
        v = self.v(x)
        return self._pooled(x, v), self.out(v[:, 1:])

    def _tokens(self, x: Tensor) -> Tensor:
        """The mean of the map and its patches, (batch, 1 + patches, channels)."""
        x = x.flatten(2).transpose(1, 2)
        return torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positions.to(x.dtype)

    def _pooled(self, x: Tensor, v: Tensor) -> Tensor:
        q, k = self.q(x[:, :1]), self.k(x)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        return self.out(attention(q, k, v, training=self.training).transpose(1, 2).flatten(1))


class ModifiedResNet(nn.Module):
    """Pixels to one vector."""

    def __init__(self, config: ResNetConfig, embed_dim: int):
        super().__init__()
        self.config = config
        self.checkpointing = False
        width = config.width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.stages = nn.ModuleList(self._stages(config))
        self.pool = AttentionPool(config.grid, width * 8 * EXPANSION, config.heads, embed_dim)

    @staticmethod
    def _stages(config: ResNetConfig) -> list[nn.ModuleList]:
        channels_in, stages = config.width, []
        for stage, (depth, stride) in enumerate(zip(config.layers, config.strides, strict=True)):
            channels = config.width * 2**stage
            blocks = nn.ModuleList()
            for index in range(depth):
                blocks.append(Bottleneck(channels_in, channels, 1 if index else stride))
                channels_in = channels * EXPANSION
            stages.append(blocks)
        return stages

    def features(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels rows columns"]:
        """The feature map before pooling, one cell for each `stride` x `stride` pixels."""
        x = F.relu(self.bn1(self.conv1(pixels)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = F.avg_pool2d(F.relu(self.bn3(self.conv3(x)), inplace=True), 2)
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                x = checkpointed(block, x) if self.checkpointing and self.training else block(x)
        return x

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        return self.from_trunk(self.trunk(pixels))

    def trunk(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels rows columns"]:
        """The feature map before pooling, of pixels of the tower's size."""
        check_picture_size(pixels.shape[-2:], self.config.image_size)
        return self.features(pixels)

    def from_trunk(self, x: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch dim"]:
        """The vector, from the output of `trunk`."""
        return self.pool(x)

    def with_patches(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch patches dim"]]:
        """The vector, and one for each patch (cell of the feature map), row by row, in the same space."""
        return self.pool.with_patches(self.trunk(pixels))
