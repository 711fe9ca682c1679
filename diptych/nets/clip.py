"""Two towers and a temperature (Radford et al. 2021, figure 3; Zhai et al. 2023 for the sigmoid form)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.nets.config import CLIPConfig, ViTConfig
from diptych.nets.resnet import ModifiedResNet
from diptych.nets.text import TextTransformer
from diptych.nets.vision import VisionTransformer

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MAX_LOGIT_SCALE = math.log(100)


class Output(NamedTuple):
    """Unit vectors of both towers, the multiplied-out scale, and the bias (None under the softmax loss); unit vectors
    of pictures' places and of phrases to be found there, where these were asked for."""

    image: Float[Tensor, "pictures dim"]
    text: Float[Tensor, "texts dim"]
    scale: Float[Tensor, ""]
    bias: Float[Tensor, ""] | None
    places: Float[Tensor, "pictures places dim"] | None = None
    phrases: Float[Tensor, "phrases dim"] | None = None


def unit(features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
    """Features at length 1, in float32 or better."""
    return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)


class CLIP(nn.Module):
    """The model. `encode_image` and `encode_text` give raw features; `forward` gives unit vectors."""

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = config
        if isinstance(config.image, ViTConfig):
            self.image = VisionTransformer(config.image, config.embed_dim)
        else:
            self.image = ModifiedResNet(config.image, config.embed_dim)
        self.text = TextTransformer(config.text, config.embed_dim)
        sigmoid = config.loss == "sigmoid"
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10) if sigmoid else math.log(1 / 0.07)))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0)) if sigmoid else None

    def encode_image(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """Raw picture features, not normalised."""
        return self.image(pixels)

    def encode_text(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch dim"]:
        """Raw text features, not normalised."""
        return self.text(ids)

    def encode_patches(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch places dim"]]:
        """Raw picture features, and those of each place of the picture (row by row) in the same space."""
        return self.image.with_places(pixels)

    def forward(
        self,
        pixels: Float[Tensor, "pictures 3 height width"],
        ids: Int[Tensor, "texts tokens"],
        phrases: Int[Tensor, "phrases tokens"] | None = None,
    ) -> Output:
        scale = self.logit_scale.exp()
        if phrases is None:
            return Output(unit(self.encode_image(pixels)), unit(self.encode_text(ids)), scale, self.logit_bias)
        image, places = (unit(features) for features in self.encode_patches(pixels))
        text, named = unit(self.encode_text(ids)), unit(self.encode_text(phrases))
        return Output(image, text, scale, self.logit_bias, places, named)

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the scale at 100 or less after a step, as OpenAI did (section 2.5); SigLIP's passes 100 freely."""
        if self.config.loss == "softmax":
            self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

    def set_gradient_checkpointing(self, on: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them: same gradients, less memory."""
        for module in self.modules():
            if hasattr(module, "checkpointing"):
                module.checkpointing = on  # type: ignore[assignment]


def outline(config: CLIPConfig) -> CLIP:
    """The network with its tensors' shapes alone, on the meta device."""
    with torch.device("meta"):
        return CLIP(config)
