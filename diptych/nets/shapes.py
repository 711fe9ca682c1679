"""Every tensor of a network by name and shape, computed from its configuration without PyTorch. The names and shapes
are those in the `state_dict` of the modules of this package; a test compares them for every preset."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

from diptych.errors import ArgumentError
from diptych.nets.config import STEM_WIDTH, CLIPConfig, EfficientNetConfig, ResNetConfig, TextConfig, ViTConfig

Shape = tuple[int, ...]
NamedShapes = Iterator[tuple[str, Shape]]
EXPANSION = 4  # of a bottleneck's channels
SIZES = {"image_size", "patch_size", "width", "layers", "heads", "mlp_width", "context", "vocab_size", "feature_width",
         "fine_width", "class_width"}  # fmt: skip
MAY_BE_ZERO = {"mlp_width", "fine_width", "class_width"}  # of an EfficientNet: a part that it leaves out
# Far more than any network has. A larger number means a damaged configuration or an attack on the memory.
MAX_SIZES = {"layers": 1024, "image_size": 4096, "patch_size": 4096, "context": 2**14, "grid": 256}
MAX_WIDTH = 2**24  # for all other sizes
FLAGS = {"norm_pre", "patch_bias", "causal", "proj_bias"}
MAX_ID = 2**31 - 1  # of a token, in any vocabulary
COUNTER = "num_batches_tracked"  # batch norm's count of batches, an integer that affects no vector
# Tensors that are not trained: batch norm's, and the mean and deviation of features
_BUFFERS = (".running_mean", ".running_var", f".{COUNTER}", ".head.mean", ".head.std")


def shapes(config: CLIPConfig) -> dict[str, Shape]:
    """The shape of every tensor. Raises ValueError if the configuration is not valid for a network."""
    _check_sizes(config)
    scores: dict[str, Shape] = {"logit_scale": ()} | ({"logit_bias": ()} if config.loss == "sigmoid" else {})
    towers = {"image": _image(config), "text": _text(config.text, config.embed_dim)}
    return scores | {name: shape for tower, named in towers.items() for name, shape in _within(tower, named)}


def parameter_count(config: CLIPConfig) -> int:
    """The number of parameters of a network. Raises ValueError if the configuration is not valid."""
    return sum(math.prod(shape) for name, shape in shapes(config).items() if not name.endswith(_BUFFERS))


def _image(config: CLIPConfig) -> NamedShapes:
    if isinstance(config.image, ViTConfig):
        return _vit(config.image, config.embed_dim)
    if isinstance(config.image, ResNetConfig):
        return _resnet(config.image, config.embed_dim)
    return _efficientnet(config.image, config.embed_dim)


def _check_sizes(config: CLIPConfig) -> None:
    sizes = {"embed_dim": config.embed_dim}
    for tower, fields in (("image", asdict(config.image)), ("text", asdict(config.text))):
        sizes |= {f"{tower}.{name}": value for name, value in fields.items() if name in SIZES}
    for name, value in sizes.items():
        for size in value if isinstance(value, tuple) else (value,):
            least = int(not (name.startswith("image.") and _may_be_zero(config, name.removeprefix("image."))))
            if type(size) is not int or size < least:
                raise ArgumentError(f"{name}={value!r:.80}; wanted whole numbers, {least} or more.")
            _check_most(name, size)
    _check_most("image.grid", config.image.grid)
    for name, tower in (("image", config.image), ("text", config.text)):
        eps = getattr(tower, "norm_eps", 0.0)
        if not isinstance(eps, int | float) or not 0 <= eps < 1:
            raise ArgumentError(f"{name}.norm_eps={eps!r}; wanted a number from 0 to under 1.")
        for field, value in asdict(tower).items():
            if field in FLAGS and type(value) is not bool:
                raise ArgumentError(f"{name}.{field}={value!r:.80}; wanted true or false.")
    _check_ids(config.text)


def _check_ids(text: TextConfig) -> None:
    """Tokens that mark padding and a text's end; a tower that does not pool at its end may have none of the latter."""
    ids = {"pad_id": text.pad_id} | ({} if text.end_id is None and text.pool != "end" else {"end_id": text.end_id})
    for name, index in ids.items():
        if type(index) is not int or not 0 <= index <= MAX_ID:
            raise ArgumentError(f"text.{name}={index!r:.80}; wanted the id of a token, a whole number, 0 or more.")


def _may_be_zero(config: CLIPConfig, field: str) -> bool:
    return isinstance(config.image, EfficientNetConfig) and field in MAY_BE_ZERO


def _check_most(name: str, size: int) -> None:
    if size > (most := MAX_SIZES.get(name.rpartition(".")[2], MAX_WIDTH)):
        raise ArgumentError(f"{name}={size:.6g}; wanted {most:,} or less, as all networks have.")


def _within(prefix: str, named: NamedShapes) -> NamedShapes:
    return ((f"{prefix}.{name}", shape) for name, shape in named)


def _linear(outputs: int, inputs: int, *, bias: bool = True) -> NamedShapes:
    yield "weight", (outputs, inputs)
    if bias:
        yield "bias", (outputs,)


def _norm(width: int) -> NamedShapes:
    yield "weight", (width,)
    yield "bias", (width,)


def _batch_norm(channels: int) -> NamedShapes:
    yield from _norm(channels)
    yield from (("running_mean", (channels,)), ("running_var", (channels,)), (COUNTER, ()))


def _attention(width: int, heads: int) -> NamedShapes:
    if width % heads:
        raise ArgumentError(f"width {width} does not divide into {heads} heads.")
    yield from _within("qkv", _linear(3 * width, width))
    yield from _within("out", _linear(width, width))


def _mlp(width: int, hidden: int) -> NamedShapes:
    yield from _within("fc", _linear(hidden, width))
    yield from _within("proj", _linear(width, hidden))


def _blocks(tower: ViTConfig | TextConfig) -> NamedShapes:
    block = [
        *_within("norm_1", _norm(tower.width)),
        *_within("attention", _attention(tower.width, tower.heads)),
        *_within("norm_2", _norm(tower.width)),
        *_within("mlp", _mlp(tower.width, tower.mlp_width)),
    ]
    for layer in range(tower.layers):
        yield from _within(f"transformer.blocks.{layer}", iter(block))


def _vit(tower: ViTConfig, embed_dim: int) -> NamedShapes:
    width = tower.width
    yield "patch.weight", (width, 3, tower.patch_size, tower.patch_size)
    if tower.patch_bias:
        yield "patch.bias", (width,)
    if tower.pool == "class":
        yield "class_token", (width,)
    yield "positions", (tower.grid**2 + (tower.pool == "class"), width)
    if tower.norm_pre:
        yield from _within("norm_pre", _norm(width))
    yield from _blocks(tower)
    yield from _within("norm_post", _norm(width))
    if tower.pool == "map":
        yield from _within("head", _map_head(tower, embed_dim))
    else:
        yield "proj.weight", (embed_dim, width)


def _map_head(tower: ViTConfig, embed_dim: int) -> NamedShapes:
    if embed_dim != tower.width:
        raise ArgumentError(
            f"with pool='map' the embedding is {tower.width} wide, as the tower; embed_dim is {embed_dim}."
        )
    yield "probe", (1, 1, tower.width)
    yield from _within("attention", _attention(tower.width, tower.heads))
    yield from _within("norm", _norm(tower.width))
    yield from _within("mlp", _mlp(tower.width, tower.mlp_width))


def _text(tower: TextConfig, embed_dim: int) -> NamedShapes:
    yield "token.weight", (tower.vocab_size, tower.width)
    yield "positions", (tower.context, tower.width)
    if tower.norm_position == "post":
        yield from _within("norm_pre", _norm(tower.width))
    yield from _blocks(tower)
    if tower.norm_position == "pre":
        yield from _within("norm_post", _norm(tower.width))
    yield from _within("proj", _linear(embed_dim, tower.width, bias=tower.proj_bias))


def _convolution(name: str, norm: str, outputs: int, inputs: int, size: int) -> NamedShapes:
    yield f"{name}.weight", (outputs, inputs, size, size)
    yield from _within(norm, _batch_norm(outputs))


def _resnet(tower: ResNetConfig, embed_dim: int) -> NamedShapes:
    half = tower.width // 2
    for number, (outputs, inputs) in enumerate(((half, 3), (half, half), (tower.width, half)), start=1):
        yield from _convolution(f"conv{number}", f"bn{number}", outputs, inputs, 3)
    inputs = tower.width
    for stage, (depth, stride) in enumerate(zip(tower.layers, tower.strides, strict=True)):
        channels = tower.width * 2**stage
        for index in range(depth):
            yield from _within(f"stages.{stage}.{index}", _bottleneck(inputs, channels, 1 if index else stride))
            inputs = channels * EXPANSION
    yield from _within("pool", _attention_pool(tower, inputs, embed_dim))


def _bottleneck(inputs: int, channels: int, stride: int) -> NamedShapes:
    outputs = channels * EXPANSION
    for number, sizes in enumerate(((channels, inputs, 1), (channels, channels, 3), (outputs, channels, 1)), start=1):
        yield from _convolution(f"conv{number}", f"bn{number}", *sizes)
    if stride > 1 or inputs != outputs:
        yield from _within("downsample", _convolution("conv", "bn", outputs, inputs, 1))


def _attention_pool(tower: ResNetConfig, width: int, embed_dim: int) -> NamedShapes:
    if width % tower.heads:
        raise ArgumentError(f"the map's {width} channels do not divide into {tower.heads} heads.")
    yield "positions", (tower.grid**2 + 1, width)
    for name, outputs in (("q", width), ("k", width), ("v", width), ("out", embed_dim)):
        yield from _within(name, _linear(outputs, width))


def _efficientnet(tower: EfficientNetConfig, embed_dim: int) -> NamedShapes:
    features, blocks = tower.feature_width, tower.blocks
    yield from _convolution("stem", "stem_norm", STEM_WIDTH, 3, 3)
    for number, block in enumerate(blocks):
        hidden = block.hidden
        sizes = [("depthwise", hidden, 1, block.kernel), ("project", block.outputs, hidden, 1)]
        expand = [("expand", hidden, block.inputs, 1)] if block.expansion > 1 else []
        for name, *size in expand + sizes:
            yield from _within(f"blocks.{number}", _convolution(name, f"{name}_norm", *size))
    yield from _convolution("last", "last_norm", features, blocks[-1].outputs, 1)
    if features % tower.heads:
        raise ArgumentError(f"the map's {features} channels do not divide into {tower.heads} heads.")
    yield "pool.positions", (tower.cells**2, tower.heads)
    yield from _within("pool.score", _linear(tower.heads, features))
    yield from (("head.mean", (features,)), ("head.std", (features,)))
    yield from _within("head.linear", _linear(embed_dim, features))
    if tower.mlp_width:
        yield from _within("head.fc", _linear(tower.mlp_width, features))
        yield from _within("head.proj", _linear(embed_dim, tower.mlp_width))
    if tower.class_width:
        yield from _within("classes.fc", _linear(tower.class_width, features))
        yield ("classes.proj.weight", (embed_dim, tower.class_width))
    if tower.fine_width:
        yield from _within("fine.fc", _linear(tower.fine_width, blocks[tower.fine_block].outputs))
        yield from _within("fine.proj", _linear(embed_dim, tower.fine_width))
