"""The configurations of the towers and of the model, separate from the modules that they describe, so that another
engine can read and run a model without PyTorch."""

from dataclasses import dataclass, field
from typing import Literal

from diptych.errors import ArgumentError

STRIDE = 32  # of OpenAI's ResNets, from pixels to the last feature map
ACTIVATIONS = ("gelu", "quick_gelu", "gelu_tanh")


def check_activation(name: str) -> None:
    """Raise ValueError, with the known names, for an unknown activation."""
    if name not in ACTIVATIONS:
        raise ArgumentError(f"activation {name!r} is not known; choose one of {', '.join(ACTIVATIONS)}.")


@dataclass(frozen=True)
class ViTConfig:
    """A vision transformer. `pool`: "class" reads a class token (CLIP), "map" an attention-pooling head (SigLIP),
    "mean" averages patches."""

    image_size: int = 224
    patch_size: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    activation: str = "gelu"
    pool: Literal["class", "map", "mean"] = "class"
    norm_pre: bool = True
    patch_bias: bool = False
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_activation(self.activation)
        if self.pool not in ("class", "map", "mean"):
            raise ArgumentError(f"pool {self.pool!r} is not known; choose class, map or mean.")
        if self.image_size < self.patch_size:
            raise ArgumentError(f"a picture of {self.image_size} px holds no patch of {self.patch_size} px.")

    @property
    def grid(self) -> int:
        """The number of patches along a side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class ResNetConfig:
    """A ResNet. `layers`: blocks in each of the four stages; `width`: channels out of the stem. The last feature map
    has 32 x width channels and one cell for each `stride` x `stride` pixels: 32 as in OpenAI's models, or 16 if the
    last stage does not downsample."""

    image_size: int = 224
    layers: tuple[int, int, int, int] = (3, 4, 6, 3)
    width: int = 64
    heads: int = 32
    stride: int = STRIDE

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if len(self.layers) != 4:
            raise ArgumentError(f"layers has {len(self.layers)} stages; a ResNet here has four.")
        if self.stride not in (STRIDE // 2, STRIDE):
            raise ArgumentError(f"stride is {self.stride} px; a ResNet here has {STRIDE // 2} or {STRIDE}.")
        if self.image_size < STRIDE or self.image_size % STRIDE:
            raise ArgumentError(f"image_size is {self.image_size} px; a ResNet here wants a multiple of {STRIDE} px.")

    @property
    def grid(self) -> int:
        """The number of cells of the last map along a side."""
        return self.image_size // self.stride

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """The stride of each stage, after the stem's 4."""
        return 1, 2, 2, self.stride // 16


@dataclass(frozen=True)
class TextConfig:
    """A text transformer. `pool`: "end" reads the first `end_id`, "argmax" the highest id (OpenAI's rule), "last" the
    last position, "mean" averages all tokens but padding (sentence encoders). `norm_position`: "pre" normalises the
    input of each residual branch (CLIP, SigLIP), "post" the sum (BERT), with a norm of the embeddings and none at the
    end.

    The tokenizer pads with `pad_id`. Under a causal mask padding changes nothing, nor with `pool="mean"`, where no
    token attends to it; in other bidirectional towers it is part of the input."""

    context: int = 77
    vocab_size: int = 49408
    width: int = 512
    layers: int = 12
    heads: int = 8
    mlp_width: int = 2048
    activation: str = "gelu"
    pool: Literal["end", "argmax", "last", "mean"] = "argmax"
    causal: bool = True
    end_id: int = 49407
    pad_id: int = 0
    proj_bias: bool = False
    norm_eps: float = 1e-5
    norm_position: Literal["pre", "post"] = "pre"

    def __post_init__(self) -> None:
        check_activation(self.activation)
        if self.pool not in ("end", "argmax", "last", "mean"):
            raise ArgumentError(f"pool {self.pool!r} is not known; choose end, argmax, last or mean.")
        if self.norm_position not in ("pre", "post"):
            raise ArgumentError(f"norm_position {self.norm_position!r} is not known; choose pre or post.")
        if self.pool == "mean" and self.causal:
            raise ArgumentError("pool='mean' averages what every token sees of the whole text; set causal to False.")

    @property
    def masks_padding(self) -> bool:
        """Whether no token attends to padding and pooling leaves it out."""
        return self.pool == "mean"

    @property
    def reads_padding(self) -> bool:
        """Whether a text's vector depends on its padding, so that every text is padded to the whole context."""
        return self.pool == "last" or not (self.causal or self.masks_padding)


@dataclass(frozen=True)
class CLIPConfig:
    """A model. `loss` is the objective that it is trained for: it decides whether there is a logit bias, and whether
    probabilities are a softmax over the candidates or a sigmoid of each score."""

    embed_dim: int = 512
    image: ViTConfig | ResNetConfig = field(default_factory=ViTConfig)
    text: TextConfig = field(default_factory=TextConfig)
    loss: Literal["softmax", "sigmoid"] = "softmax"

    def __post_init__(self) -> None:
        if self.loss not in ("softmax", "sigmoid"):
            raise ArgumentError(f"loss {self.loss!r} is not known; choose softmax or sigmoid.")
