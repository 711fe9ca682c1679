"""Resizing a model's weights to another picture size."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.errors import ArgumentError
from diptych.nets.config import CLIPConfig, EfficientNetConfig, ImageConfig, ResNetConfig, ViTConfig

if TYPE_CHECKING:
    from jaxtyping import Float


def resized(
    config: CLIPConfig, state: Mapping[str, Tensor], image_size: int | None, stride: int | None = None
) -> tuple[CLIPConfig, dict[str, Tensor]]:
    """`config` and `state` for pictures of `image_size` pixels, and for another `stride` of a ResNet. The image tower's
    positions are interpolated; all other tensors stay. Raises ValueError for the stride of another tower."""
    image = image_tower(config.image, image_size, stride)
    name = "image.positions" if isinstance(image, ViTConfig) else "image.pool.positions"
    resized_positions = resize_positions(state[name], _cells(config.image), _cells(image))
    return dataclasses.replace(config, image=image), {**state, name: resized_positions}


def _cells(image: ImageConfig) -> int:
    """The number of positions along a side."""
    return image.cells if isinstance(image, EfficientNetConfig) else image.grid


def image_tower(config: ImageConfig, image_size: int | None, stride: int | None) -> ImageConfig:
    """An image tower's configuration with another `image_size` (pixels) or ResNet `stride`; None keeps its own. Raises
    ValueError for the stride of another tower."""
    config = dataclasses.replace(config, image_size=image_size or config.image_size)
    if not stride:
        return config
    if not isinstance(config, ResNetConfig):
        kind = "a vision transformer" if isinstance(config, ViTConfig) else "an EfficientNet"
        raise ArgumentError(f"stride is a ResNet's; this image tower is {kind}. Leave it out.")
    return dataclasses.replace(config, stride=stride)


def resize_positions(
    positions: Float[Tensor, "tokens width"], grid_from: int, grid_to: int
) -> Float[Tensor, "tokens2 width"]:
    """Interpolate a square grid of position embeddings, bicubic with antialias, as open_clip does.

    The position of a token before the grid (the class token, or the pooled mean) does not change.
    """
    extra = len(positions) - grid_from**2
    if extra not in (0, 1):
        raise ArgumentError(
            f"{len(positions)} positions are no {grid_from} x {grid_from} grid, with or without one token more."
        )
    if grid_from == grid_to:
        return positions
    first, grid = positions[:extra], positions[extra:]
    square = grid.T.reshape(1, -1, grid_from, grid_from).float()
    square = F.interpolate(square, (grid_to, grid_to), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([first, square.flatten(2)[0].T.to(first.dtype)])
