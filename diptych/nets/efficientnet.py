"""EfficientNet-Lite (Tan and Le 2019, "EfficientNet: rethinking model scaling for convolutional neural networks"; the
Lite form is that of TensorFlow's TPU models, 2020): inverted residuals without squeeze-and-excitation, ReLU6, and
attention pooling that starts as the mean of the map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.errors import ArgumentError
from diptych.nets.config import (
    EFFICIENTNET_NORM_EPS,
    STEM_WIDTH,
    EfficientNetConfig,
    InvertedResidualSize,
    check_picture_size,
)
from diptych.nets.resnet import checkpointed
from diptych.nets.transformer import drop_path

if TYPE_CHECKING:
    from jaxtyping import Float


def _convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without a bias. With stride 2 `same_padded` pads before it."""
    padding = kernel // 2 if stride == 1 else 0
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    return layer


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EFFICIENTNET_NORM_EPS)


def same_padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """`x` with TensorFlow's SAME padding for a stride of 2: as little as gives ceil(size / stride) cells, and of an odd
    number the larger half after."""
    if stride == 1:
        return x
    rows, columns = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:])
    return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


class InvertedResidual(nn.Module):
    """A 1x1 convolution to more channels, a depthwise one, and a 1x1 one back (Sandler et al. 2018, "MobileNetV2",
    section 3.3)."""

    def __init__(self, size: InvertedResidualSize):
        super().__init__()
        self.size = size
        if size.expansion > 1:
            self.expand = _convolution(size.inputs, size.hidden)
            self.expand_norm = _norm(size.hidden)
        self.depthwise = _convolution(size.hidden, size.hidden, size.kernel, size.stride, groups=size.hidden)
        self.depthwise_norm = _norm(size.hidden)
        self.project = _convolution(size.hidden, size.outputs)
        self.project_norm = _norm(size.outputs)
        self.drop_path = 0.0

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out height2 width2"]:
        size, y = self.size, x
        if size.expansion > 1:
            y = F.relu6(self.expand_norm(self.expand(y)))
        y = F.relu6(self.depthwise_norm(self.depthwise(same_padded(y, size.kernel, size.stride))))
        y = self.project_norm(self.project(y))
        if size.stride > 1 or size.inputs != size.outputs:
            return y
        return x + (drop_path(y, self.drop_path) if self.training else y)


class AttentionPool(nn.Module):
    """Each head averages its own channels, weighted by a softmax over the cells of the map. Its weights start at zero:
    then it is the mean."""

    def __init__(self, cells: int, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ArgumentError(f"the map's {width} channels do not divide into {heads} heads.")
        self.heads = heads
        self.score = nn.Linear(width, heads)
        self.positions = nn.Parameter(torch.zeros(cells**2, heads))
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, cells: Float[Tensor, "batch cells width"]) -> Float[Tensor, "batch width"]:
        weights = (self.score(cells) + self.positions).softmax(dim=1)
        values = cells.unflatten(-1, (self.heads, -1))
        return (weights.to(values.dtype).unsqueeze(-1) * values).sum(dim=1).flatten(1)


class StandardisedHead(nn.Module):
    """Features, less `mean` and divided by `std`, to the embedding: a linear map and a two-layer path beside it, which
    starts at zero. Only training sets `dropout`."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, mlp_width: int, embed_dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.linear = nn.Linear(width, embed_dim)
        nn.init.normal_(self.linear.weight, std=width**-0.5)
        nn.init.zeros_(self.linear.bias)
        self.mlp_width = mlp_width
        if mlp_width:
            self.fc = nn.Linear(width, mlp_width)
            self.proj = _zero_linear(mlp_width, embed_dim)
        self.dropout = 0.0

    def forward(self, features: Float[Tensor, "... width"]) -> Float[Tensor, "... dim"]:
        x = (features - self.mean) / self.std
        if not self.mlp_width:
            return self.linear(x)
        hidden = F.gelu(self.fc(F.dropout(x, self.dropout, self.training)))
        return self.linear(x) + self.proj(F.dropout(hidden, self.dropout, self.training))


class ClassPath(nn.Module):
    """The mean of the classes' vectors, weighted by the probabilities that a layer of classes gives them (ConSE;
    Norouzi et al. 2014, "Zero-shot learning by convex combination of semantic embeddings", section 3.2). It starts at
    zero."""

    def __init__(self, width: int, classes: int, embed_dim: int):
        super().__init__()
        self.fc = nn.Linear(width, classes)
        self.proj = nn.Linear(classes, embed_dim, bias=False)
        nn.init.zeros_(self.proj.weight)

    def forward(self, features: Float[Tensor, "batch width"]) -> Float[Tensor, "batch dim"]:
        return self.proj(self.fc(features).softmax(dim=-1))


class FinePath(nn.Module):
    """What the map of stride 16 adds to each patch's vector; it starts at zero."""

    def __init__(self, width: int, hidden: int, embed_dim: int):
        super().__init__()
        self.fc = nn.Linear(width, hidden)
        self.proj = _zero_linear(hidden, embed_dim)

    def forward(self, cells: Float[Tensor, "batch patches width"]) -> Float[Tensor, "batch patches dim"]:
        return self.proj(F.gelu(self.fc(cells)))


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class EfficientNet(nn.Module):
    """Pixels to one vector."""

    def __init__(self, config: EfficientNetConfig, embed_dim: int):
        super().__init__()
        self.config = config
        self.checkpointing = False
        sizes = config.blocks
        self.stem = _convolution(3, STEM_WIDTH, 3, 2)
        self.stem_norm = _norm(STEM_WIDTH)
        self.blocks = nn.ModuleList(InvertedResidual(size) for size in sizes)
        self.last = _convolution(sizes[-1].outputs, config.feature_width)
        self.last_norm = _norm(config.feature_width)
        self.pool = AttentionPool(config.cells, config.feature_width, config.heads)
        self.head = StandardisedHead(config.feature_width, config.mlp_width, embed_dim)
        self.classes = ClassPath(config.feature_width, config.class_width, embed_dim) if config.class_width else None
        self.fine = (
            FinePath(sizes[config.fine_block].outputs, config.fine_width, embed_dim) if config.fine_width else None
        )

    def maps(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch patches fine"], Float[Tensor, "batch cells features"]]:
        """The cells, row by row, of the last map of stride 16 and of the last map of all."""
        fine, x = self._after_blocks(pixels)
        return fine.flatten(2).transpose(1, 2), self._cells(x)

    def _after_blocks(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The last map of stride 16, and the output of the last block."""
        check_picture_size(pixels.shape[-2:], self.config.image_size)
        x = F.relu6(self.stem_norm(self.stem(same_padded(pixels, self.stem.kernel_size[0], 2))))
        fine = x
        for number, block in enumerate(self.blocks):
            x = checkpointed(block, x) if self.checkpointing and self.training else block(x)
            fine = x if number == self.config.fine_block else fine
        return fine, x

    def _cells(self, x: Tensor) -> Tensor:
        """The cells of the last map of all, from the output of the last block."""
        return F.relu6(self.last_norm(self.last(x))).flatten(2).transpose(1, 2)

    def pooled(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        """The features that the head reads."""
        return self.pool(self.maps(pixels)[1])

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        return self.vector(self.pooled(pixels))

    def vector(self, pooled: Float[Tensor, "batch features"]) -> Float[Tensor, "batch dim"]:
        """The vector, from the pooled features."""
        return self.head(pooled) if self.classes is None else self.head(pooled) + self.classes(pooled)

    def trunk(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch ..."]:
        """What is below the pooling, where it is smallest: the output of the last block (batch, channels, rows,
        columns), or the last map's cells (batch, cells, features)."""
        x = self._after_blocks(pixels)[1]
        return x if self._has_narrow_blocks else self._cells(x)

    def from_trunk(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch dim"]:
        """The vector, from the output of `trunk`."""
        return self.vector(self.pool(self._cells(x) if self._has_narrow_blocks else x))

    @property
    def _has_narrow_blocks(self) -> bool:
        """Whether the last block's output has fewer channels than the last map."""
        return self.last.in_channels < self.last.out_channels

    def with_patches(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch patches dim"]]:
        """The vector, and one for each patch (cell of the map of stride 16), row by row, in the same space: the head's
        output for the cell of the last map alone, interpolated, and what the finer map adds. Classes are of whole
        pictures: their path adds nothing to a patch."""
        fine, cells = self.maps(pixels)
        patches = self._interpolated(self.head(cells))
        return self.vector(self.pool(cells)), patches if self.fine is None else patches + self.fine(fine)

    def _interpolated(self, cells: Float[Tensor, "batch cells dim"]) -> Float[Tensor, "batch patches dim"]:
        side, grid = self.config.cells, self.config.grid
        square = cells.transpose(1, 2).unflatten(2, (side, side))
        return F.interpolate(square, (grid, grid), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
