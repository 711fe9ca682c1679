"""The CLIP model: two towers and a temperature (Radford et al. 2021, figure 3; Zhai et al. 2023, algorithm 1)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych.deprecation import RenamedAttribute
from diptych.nets.config import CLIPConfig, ResNetConfig, ViTConfig
from diptych.nets.efficientnet import EfficientNet
from diptych.nets.resnet import ModifiedResNet
from diptych.nets.text import TextTransformer
from diptych.nets.vision import VisionTransformer

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MAX_LOGIT_SCALE = math.log(100)  # Radford et al. 2021, section 2.5


class Output(NamedTuple):
    """Unit vectors of both towers, the scale and the bias of the logits (no bias under the softmax loss). With phrases
    also the unit vectors of the pictures' patches and of the phrases."""

    image: Float[Tensor, "pictures dim"]  # I_e of Radford et al., figure 3
    text: Float[Tensor, "texts dim"]  # T_e
    scale: Float[Tensor, ""]  # exp(t)
    bias: Float[Tensor, ""] | None  # b of Zhai et al., algorithm 1
    patches: Float[Tensor, "pictures patches dim"] | None = None
    phrases: Float[Tensor, "phrases dim"] | None = None


def unit(features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
    """Features scaled to length 1, in float32 or better."""
    return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)


class CLIP(nn.Module):
    """The model. `encode_image` and `encode_text` give raw features; `forward` gives unit vectors.

    Only training sets `image_stage`: what `forward` gets for pictures is pixels, or what was made of them before by a
    frozen tower ("vector", its raw features) or by the frozen part below its pooling ("trunk").
    """

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = config
        self.image_stage: Literal["pixels", "trunk", "vector"] = "pixels"
        if isinstance(config.image, ViTConfig):
            self.image = VisionTransformer(config.image, config.embed_dim)
        elif isinstance(config.image, ResNetConfig):
            self.image = ModifiedResNet(config.image, config.embed_dim)
        else:
            self.image = EfficientNet(config.image, config.embed_dim)
        self.text = TextTransformer(config.text, config.embed_dim)
        sigmoid = config.loss == "sigmoid"
        # t of Radford et al. (t' of Zhai et al.): the scale is exp(t), the inverse temperature
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10) if sigmoid else math.log(1 / 0.07)))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0)) if sigmoid else None

    def encode_image(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """Raw picture features, not normalised (I_f)."""
        return self.image(pixels)

    def encode_text(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch dim"]:
        """Raw text features, not normalised (T_f)."""
        return self.text(ids)

    def encode_patches(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch patches dim"]]:
        """Raw picture features, and those of each patch (row by row) in the same space. A ResNet's patches are the
        cells of its last feature map, an EfficientNet's those of its map of stride 16."""
        return self.image.with_patches(pixels)

    encode_places = RenamedAttribute("encode_places", "encode_patches")

    def forward(
        self,
        pixels: Float[Tensor, "pictures 3 height width"],
        ids: Int[Tensor, "texts tokens"],
        phrases: Int[Tensor, "phrases tokens"] | None = None,
    ) -> Output:
        """Unit vectors. `pixels` are in the form that `image_stage` names; `ids` may be raw text features."""
        scale = self.logit_scale.exp()
        if phrases is None:
            return Output(unit(self._image_features(pixels)), unit(self._text_features(ids)), scale, self.logit_bias)
        image, patches = (unit(features) for features in self.encode_patches(pixels))
        text, phrase_features = unit(self._text_features(ids)), unit(self.encode_text(phrases))
        return Output(image, text, scale, self.logit_bias, patches, phrase_features)

    def _image_features(self, x: Tensor) -> Tensor:
        if self.image_stage == "vector":
            return x
        return self.image.from_trunk(x) if self.image_stage == "trunk" else self.encode_image(x)

    def _text_features(self, ids: Tensor) -> Tensor:
        return ids if ids.is_floating_point() else self.encode_text(ids)

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Limit the scale to 100 after a step, as OpenAI did (section 2.5). SigLIP does not limit it."""
        if self.config.loss == "softmax":
            self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

    def set_gradient_checkpointing(self, on: bool = True) -> None:
        """Recompute activations in the backward pass instead of storing them: same gradients, less memory."""
        for module in self.modules():
            if hasattr(module, "checkpointing"):
                module.checkpointing = on  # type: ignore[assignment]


def meta_model(config: CLIPConfig) -> CLIP:
    """The network on the meta device: shapes without data."""
    with torch.device("meta"):
        return CLIP(config)
