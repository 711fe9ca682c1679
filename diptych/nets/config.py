"""The configurations of the towers and of the model, separate from the modules that they describe, so that another
engine can read and run a model without PyTorch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from diptych.errors import ArgumentError

STRIDE = 32  # of OpenAI's ResNets, from pixels to the last feature map
EFFICIENTNET_NORM_EPS = 1e-3  # of every batch norm, as the released weights were trained
ACTIVATIONS = ("gelu", "quick_gelu", "gelu_tanh")


def check_activation(name: str) -> None:
    """Raise ValueError, with the known names, for an unknown activation."""
    if name not in ACTIVATIONS:
        raise ArgumentError(f"activation {name!r} is not known; choose one of {', '.join(ACTIVATIONS)}.")


def check_picture_size(size: Sequence[int], image_size: int) -> None:
    """Raise ValueError for a `size` (height, width) of pixels that a tower for `image_size` does not read."""
    if tuple(size) != (image_size, image_size):
        raise ArgumentError(
            f"pixels of {' x '.join(map(str, size))}; this tower reads {image_size} x {image_size}. "
            "Preprocess with the model's own settings."
        )


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


class InvertedResidualSize(NamedTuple):
    """The channels, stride, kernel and expansion of a block of an EfficientNet."""

    inputs: int
    outputs: int
    stride: int
    kernel: int
    expansion: int

    @property
    def hidden(self) -> int:
        """The channels of the depthwise convolution."""
        return self.inputs * self.expansion


STEM_WIDTH = 32  # channels out of an EfficientNet-Lite's first convolution, at every width
# Blocks, channels, stride, kernel and expansion of each stage (Tan and Le 2019, table 1)
EFFICIENTNET_STAGES = (
    (1, 16, 1, 3, 1), (2, 24, 2, 3, 6), (2, 40, 2, 5, 6), (3, 80, 2, 3, 6), (3, 112, 1, 5, 6), (4, 192, 2, 5, 6),
    (1, 320, 1, 3, 6),
)  # fmt: skip
MAX_FACTOR = 16.0  # of an EfficientNet's width and depth: L2, the largest published, has 4.3 and 5.3


@dataclass(frozen=True)
class EfficientNetConfig:
    """An EfficientNet-Lite: no squeeze-and-excitation, ReLU6, and a stem, a first and a last stage that depth does not
    scale. `width_factor` and `depth_factor` scale channels and blocks: 1.0 and 1.0 (Lite0), 1.0 and 1.1 (Lite1), 1.1
    and 1.2 (Lite2). The last map has `feature_width` channels and a cell for each 32 x 32 pixels; each of `heads`
    attention heads pools its own channels. `mlp_width` is the hidden width of the head, `fine_width` that of the patch
    vectors' path from the map of stride 16, `class_width` the number of classes whose vectors are mixed into that of
    the picture; 0 leaves any of them out."""

    image_size: int = 224
    width_factor: float = 1.0
    depth_factor: float = 1.0
    feature_width: int = 1280
    heads: int = 8
    mlp_width: int = 1024
    fine_width: int = 256
    class_width: int = 0

    def __post_init__(self) -> None:
        for name in ("width_factor", "depth_factor"):
            factor = getattr(self, name)
            if type(factor) not in (int, float) or not 0 < factor <= MAX_FACTOR:
                raise ArgumentError(f"{name} is {factor!r:.80}; wanted a number above 0, at most {MAX_FACTOR:g}.")

    @property
    def cells(self) -> int:
        """The number of cells of the last map along a side."""
        return math.ceil(self.image_size / STRIDE)

    @property
    def grid(self) -> int:
        """The number of patches along a side: cells of the map of stride 16."""
        return math.ceil(self.image_size / (STRIDE // 2))

    @property
    def blocks(self) -> tuple[InvertedResidualSize, ...]:
        """The sizes of all blocks, in order."""
        sizes, inputs = [], STEM_WIDTH
        for stage, (_, channels, stride, kernel, expansion) in enumerate(EFFICIENTNET_STAGES):
            outputs = _multiple_of_eight(channels * self.width_factor)
            for index in range(self._depth(stage)):
                sizes.append(InvertedResidualSize(inputs, outputs, 1 if index else stride, kernel, expansion))
                inputs = outputs
        return tuple(sizes)

    @property
    def fine_block(self) -> int:
        """The number of the last block of stride 16, whose map has the patches' grid."""
        return sum(map(self._depth, range(5))) - 1

    def _depth(self, stage: int) -> int:
        blocks, last = EFFICIENTNET_STAGES[stage][0], len(EFFICIENTNET_STAGES) - 1
        return blocks if stage in (0, last) else math.ceil(blocks * self.depth_factor)


def _multiple_of_eight(channels: float) -> int:
    """The nearest multiple of 8, and not under nine tenths of `channels`."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


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


ImageConfig = ViTConfig | ResNetConfig | EfficientNetConfig


@dataclass(frozen=True)
class CLIPConfig:
    """A model. `loss` is the objective that it is trained for: it decides whether there is a logit bias, and whether
    probabilities are a softmax over the candidates or a sigmoid of each score."""

    embed_dim: int = 512
    image: ImageConfig = field(default_factory=ViTConfig)
    text: TextConfig = field(default_factory=TextConfig)
    loss: Literal["softmax", "sigmoid"] = "softmax"

    def __post_init__(self) -> None:
        if self.loss not in ("softmax", "sigmoid"):
            raise ArgumentError(f"loss {self.loss!r} is not known; choose softmax or sigmoid.")
