"""OpenAI's checkpoints (https://github.com/openai/CLIP, clip/model.py): their names, and sizes from their shapes."""

import torch
from torch import Tensor

from diptych.checkpoint.formats.name_table import TRANSPOSED, KeyMapping, KeyMappings, read_mapped, write_mapped
from diptych.checkpoint.state import (
    EFFICIENTNET,
    Checkpoint,
    cannot_hold,
    check_activation,
    preprocessing,
    require_same,
)
from diptych.errors import ArgumentError, CheckpointError
from diptych.media.preprocessing import Preprocess
from diptych.nets.config import STRIDE, CLIPConfig, EfficientNetConfig, ResNetConfig, TextConfig, ViTConfig

MARKS = ("input_resolution", "context_length", "vocab_size")  # scalars that only OpenAI's own files have
HEAD_WIDTH = 64
FORMAT = "OpenAI's format"


def block_mappings(ours: str, theirs: str) -> KeyMappings:
    """A transformer's blocks."""
    return (
        KeyMapping(f"{ours}.blocks.N.norm_1.*", f"{theirs}.resblocks.N.ln_1.*"),
        KeyMapping(f"{ours}.blocks.N.attention.qkv.*", f"{theirs}.resblocks.N.attn.in_proj_*"),
        KeyMapping(f"{ours}.blocks.N.attention.out.*", f"{theirs}.resblocks.N.attn.out_proj.*"),
        KeyMapping(f"{ours}.blocks.N.norm_2.*", f"{theirs}.resblocks.N.ln_2.*"),
        KeyMapping(f"{ours}.blocks.N.mlp.fc.*", f"{theirs}.resblocks.N.mlp.c_fc.*"),
        KeyMapping(f"{ours}.blocks.N.mlp.proj.*", f"{theirs}.resblocks.N.mlp.c_proj.*"),
    )


TEXT: KeyMappings = (
    KeyMapping("text.token.weight", "token_embedding.weight"),
    KeyMapping("text.positions", "positional_embedding"),
    *block_mappings("text.transformer", "transformer"),
    KeyMapping("text.norm_post.*", "ln_final.*"),
    KeyMapping("text.proj.weight", "text_projection", TRANSPOSED),
)
VIT: KeyMappings = (
    KeyMapping("image.patch.weight", "visual.conv1.weight"),
    KeyMapping("image.class_token", "visual.class_embedding"),
    KeyMapping("image.positions", "visual.positional_embedding"),
    KeyMapping("image.norm_pre.*", "visual.ln_pre.*"),
    *block_mappings("image.transformer", "visual.transformer"),
    KeyMapping("image.norm_post.*", "visual.ln_post.*"),
    KeyMapping("image.proj.weight", "visual.proj", TRANSPOSED),
)
RESNET: KeyMappings = (
    *(KeyMapping(f"image.{stem}.*", f"visual.{stem}.*") for stem in ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")),
    *(KeyMapping(f"image.stages.{stage}.N.*.*", f"visual.layer{stage + 1}.N.*.*") for stage in range(4)),
    *(KeyMapping(f"image.stages.{s}.N.downsample.conv.*", f"visual.layer{s + 1}.N.downsample.0.*") for s in range(4)),
    *(KeyMapping(f"image.stages.{s}.N.downsample.bn.*", f"visual.layer{s + 1}.N.downsample.1.*") for s in range(4)),
    KeyMapping("image.pool.positions", "visual.attnpool.positional_embedding"),
    KeyMapping("image.pool.out.*", "visual.attnpool.c_proj.*"),
    *(KeyMapping(f"image.pool.{part}.*", f"visual.attnpool.{part}_proj.*") for part in "qkv"),
)
KEY_MAPPINGS: KeyMappings = (*TEXT, *VIT, *RESNET, KeyMapping("logit_scale", "logit_scale"))


def read(tensors: dict[str, Tensor], source: str, *, activation: str | None = None) -> Checkpoint:
    """A file with OpenAI's marks; its activation is always QuickGELU."""
    config = config_from_shapes(tensors, "quick_gelu", source)
    check_activation(config, activation, source)
    weights = {name: tensor for name, tensor in tensors.items() if name not in MARKS}
    state = read_mapped(KEY_MAPPINGS, weights, config, source)
    return Checkpoint(config, state, Preprocess(config.image.image_size).to_hugging_face(), None, source)


def write(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """OpenAI's plain state dict with its marks. Raises CheckpointError if it cannot represent the model."""
    config = checkpoint.config
    if isinstance(config.image, EfficientNetConfig):
        raise cannot_hold(FORMAT, EFFICIENTNET)
    sizes = (config.image.image_size, config.text.context, config.text.vocab_size)
    marks = {name: torch.tensor(size) for name, size in zip(MARKS, sizes, strict=True)}
    tensors = write_mapped(KEY_MAPPINGS, checkpoint.state, FORMAT) | marks
    require_same(config, config_from_shapes(tensors, "quick_gelu", FORMAT), FORMAT)
    asked = preprocessing(checkpoint, FORMAT)
    if asked != Preprocess(config.image.image_size):
        raise cannot_hold(FORMAT, f"its readers prepare pictures as OpenAI does, not with {asked}")
    return tensors


def config_from_shapes(tensors: dict[str, Tensor], activation: str, source: str) -> CLIPConfig:
    """A configuration from the shapes; heads are 64 wide, as in all of OpenAI's models (their build_model)."""
    try:
        is_vit = "visual.proj" in tensors
        image = _vit(tensors, activation) if is_vit else _resnet(tensors)
        return CLIPConfig(tensors["text_projection"].shape[1], image, _text(tensors, activation))
    except KeyError as error:
        raise CheckpointError(f"{source}: the tensor {error}, whose shape gives sizes, is missing.") from error
    except (ValueError, IndexError, RuntimeError) as error:  # a wrong number of axes or heads
        raise CheckpointError(f"{source}: {error}") from error


def _vit(tensors: dict[str, Tensor], activation: str) -> ViTConfig:
    width, _, patch_size, _ = tensors["visual.conv1.weight"].shape
    return ViTConfig(
        image_size=_mark(tensors, 0, _grid(tensors["visual.positional_embedding"]) * patch_size),
        patch_size=patch_size,
        width=width,
        layers=_count(tensors, "visual.transformer.resblocks"),
        heads=_heads(width, "visual.conv1.weight"),
        mlp_width=tensors["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        activation=activation,
    )


def _resnet(tensors: dict[str, Tensor]) -> ResNetConfig:
    width = tensors["visual.layer1.0.conv1.weight"].shape[0]
    depths = tuple(_count(tensors, f"visual.layer{stage}") for stage in range(1, 5))
    image_size = _mark(tensors, 0, _grid(tensors["visual.attnpool.positional_embedding"]) * STRIDE)
    return ResNetConfig(image_size, depths, width, _heads(width * 32, "visual.attnpool"))  # type: ignore[arg-type]


def _text(tensors: dict[str, Tensor], activation: str) -> TextConfig:
    context, width = tensors["positional_embedding"].shape
    vocab_size = _mark(tensors, 2, len(tensors["token_embedding.weight"]))
    return TextConfig(
        context=_mark(tensors, 1, context),
        vocab_size=vocab_size,
        width=width,
        layers=_count(tensors, "transformer.resblocks"),
        heads=_heads(width, "positional_embedding"),
        mlp_width=tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        activation=activation,
        end_id=vocab_size - 1,
    )


def _mark(tensors: dict[str, Tensor], which: int, size: int) -> int:
    """A size from the file's mark, else from a shape; a shape that contradicts the mark is an error later."""
    mark = tensors.get(MARKS[which])
    return size if mark is None else int(mark)


def _grid(positions: Tensor) -> int:
    return round((len(positions) - 1) ** 0.5)


def _count(tensors: dict[str, Tensor], prefix: str) -> int:
    """The number of layers; a gap in their numbers is an error later."""
    return len({name.removeprefix(f"{prefix}.").split(".")[0] for name in tensors if name.startswith(f"{prefix}.")})


def _heads(width: int, name: str) -> int:
    if width % HEAD_WIDTH:
        raise ArgumentError(
            f"the tower of {name} is {width} wide, which does not divide into heads of {HEAD_WIDTH}; for other "
            "heads pass a folder with its configuration."
        )
    return width // HEAD_WIDTH
