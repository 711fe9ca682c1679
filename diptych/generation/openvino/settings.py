"""The sizes of a denoiser, from the config.json that diffusers' UNet2DConditionModel writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diptych.checkpoint.weights.shape_check import TensorSpec
from diptych.errors import CheckpointError

# Settings with one supported value, which is also diffusers' where the key is absent.
_FIXED: dict[str, Any] = {
    "act_fn": "silu", "addition_embed_type": None, "addition_time_embed_dim": None, "attention_type": "default",
    "center_input_sample": False, "class_embed_type": None, "class_embeddings_concat": False, "conv_in_kernel": 3,
    "conv_out_kernel": 3, "cross_attention_norm": None, "downsample_padding": 1, "dual_cross_attention": False,
    "encoder_hid_dim": None, "encoder_hid_dim_type": None, "mid_block_only_cross_attention": None,
    "mid_block_scale_factor": 1, "mid_block_type": "UNetMidBlock2DCrossAttn", "num_attention_heads": None,
    "num_class_embeds": None, "only_cross_attention": False, "projection_class_embeddings_input_dim": None,
    "resnet_out_scale_factor": 1.0, "resnet_skip_time_act": False, "resnet_time_scale_shift": "default",
    "reverse_transformer_layers_per_block": None, "time_cond_proj_dim": None, "time_embedding_act_fn": None,
    "time_embedding_dim": None, "time_embedding_type": "positional", "timestep_post_act": None,
    "transformer_layers_per_block": 1, "upcast_attention": False, "use_linear_projection": False,
}  # fmt: skip
_READ = {
    "attention_head_dim", "block_out_channels", "cross_attention_dim", "down_block_types", "flip_sin_to_cos",
    "freq_shift", "in_channels", "layers_per_block", "norm_eps", "norm_num_groups", "out_channels", "sample_size",
    "up_block_types",
}  # fmt: skip
_WITHOUT_EFFECT = {"dropout", "addition_embed_type_num_heads"}
MOST_PX = 1024
_MOST = 1 << 16  # of any number in the file


@dataclass(frozen=True)
class DenoiserSizes:
    """A denoiser of pictures of `size_px` with `colours` channels. `channels` and `heads` are those of each resolution,
    halved from one to the next; `down` and `up` say whether its blocks attend to words of `words_width` numbers, `up`
    from the lowest resolution on. Each block has `layers` residual layers on the way down, one more on the way up."""

    size_px: int
    colours: int
    channels: tuple[int, ...]
    heads: tuple[int, ...]
    down: tuple[bool, ...]
    up: tuple[bool, ...]
    layers: int
    words_width: int
    groups: int
    norm_eps: float
    flip_sin_to_cos: bool
    freq_shift: float

    @property
    def time_width(self) -> int:
        """Of the embedding of a noise level."""
        return 4 * self.channels[0]


def sizes_of(config: Mapping[str, Any], source: str) -> DenoiserSizes:
    """The sizes in a config.json. Raises CheckpointError with the name of a setting that is unknown, missing, or not
    supported."""
    for key, value in config.items():
        if key.startswith("_") or key in _READ or key in _WITHOUT_EFFECT:
            continue
        if key not in _FIXED:
            raise CheckpointError(f"{source}: {key:.60} is no setting of a denoiser that is known.")
        if value != _FIXED[key]:
            raise _unsupported(source, key, value, repr(_FIXED[key]))
    if missing := sorted(_READ - config.keys()):
        raise CheckpointError(f"{source} lacks {', '.join(missing)}.")
    return _read(config, source)


def _read(config: Mapping[str, Any], source: str) -> DenoiserSizes:
    whole = _Numbers(config, source)
    channels = whole.several("block_out_channels", None)
    levels, groups = len(channels), whole.one("norm_num_groups")
    sizes = DenoiserSizes(
        whole.one("sample_size"), whole.one("in_channels"), channels, whole.several("attention_head_dim", levels),
        _attending(config, "down_block_types", "Down", levels, source),
        _attending(config, "up_block_types", "Up", levels, source),
        whole.one("layers_per_block"), whole.one("cross_attention_dim"), groups, _real(config, "norm_eps", source),
        bool(config["flip_sin_to_cos"]), _real(config, "freq_shift", source),
    )  # fmt: skip
    if config["out_channels"] != config["in_channels"]:
        raise _unsupported(source, "out_channels", config["out_channels"], "in_channels")
    if any(each % groups for each in channels):
        raise _unsupported(source, "block_out_channels", channels, f"multiples of the {groups} groups")
    if any(each % heads for each, heads in zip(channels, sizes.heads, strict=True)):
        raise _unsupported(source, "attention_head_dim", sizes.heads, f"divisors of {channels}")
    if sizes.size_px % 2 ** (levels - 1) or sizes.size_px > MOST_PX:
        raise _unsupported(source, "sample_size", sizes.size_px, f"a multiple of {2 ** (levels - 1)} up to {MOST_PX:,}")
    if channels[0] % 2 or sizes.freq_shift >= channels[0] // 2:
        raise _unsupported(source, "freq_shift", sizes.freq_shift, "less than half of the first block's channels")
    return sizes


class _Numbers:
    """Whole numbers from 1 on."""

    def __init__(self, config: Mapping[str, Any], source: str):
        self._config, self._source = config, source

    def one(self, key: str) -> int:
        return self._checked(key, self._config[key])

    def several(self, key: str, count: int | None) -> tuple[int, ...]:
        """A list of `count`; one number stands for as many."""
        value = self._config[key]
        if not isinstance(value, list) and count:
            return (self._checked(key, value),) * count
        if not isinstance(value, list) or not 1 <= len(value) <= 8 or (count or len(value)) != len(value):
            raise _unsupported(self._source, key, value, f"a list of {count or 'at most 8'} numbers")
        return tuple(self._checked(key, each) for each in value)

    def _checked(self, key: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST:
            raise _unsupported(self._source, key, value, f"a whole number from 1 to {_MOST:,}")
        return value


def _attending(config: Mapping[str, Any], key: str, direction: str, levels: int, source: str) -> tuple[bool, ...]:
    """Whether each block attends to words."""
    known = {f"{direction}Block2D": False, f"CrossAttn{direction}Block2D": True}
    names = config[key]
    if not isinstance(names, list) or len(names) != levels or not all(isinstance(each, str) for each in names):
        raise _unsupported(source, key, names, f"a list of {levels} names")
    for name in names:
        if name not in known:
            raise _unsupported(source, key, name, " or ".join(known))
    return tuple(known[name] for name in names)


def _real(config: Mapping[str, Any], key: str, source: str) -> float:
    value = config[key]
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1e3:
        raise _unsupported(source, key, value, "a number from 0 on")
    return float(value)


def _unsupported(source: str, key: str, value: object, wanted: str) -> CheckpointError:
    return CheckpointError(f"{source}: {key}={value!r:.80} is not supported; wanted {wanted}.")


def specs_of_denoiser(sizes: DenoiserSizes) -> dict[str, TensorSpec]:
    """The tensors of a denoiser, under diffusers' names."""
    table = _Table(sizes)
    first, channels = sizes.channels[0], sizes.channels
    table.convolution("conv_in", sizes.colours, first)
    table.linear("time_embedding.linear_1", first, sizes.time_width)
    table.linear("time_embedding.linear_2", sizes.time_width, sizes.time_width)
    skips, width = [first], first
    for level, attends in enumerate(sizes.down):
        for layer in range(sizes.layers):
            table.layer(f"down_blocks.{level}", layer, width, channels[level], attends)
            skips.append(width := channels[level])
        if level < len(channels) - 1:
            table.convolution(f"down_blocks.{level}.downsamplers.0.conv", width, width)
            skips.append(width)
    table.layer("mid_block", 0, width, width, True)
    table.residual("mid_block.resnets.1", width, width)
    for level, attends in enumerate(sizes.up):
        wide = channels[-1 - level]
        for layer in range(sizes.layers + 1):
            table.layer(f"up_blocks.{level}", layer, width + skips.pop(), wide, attends)
            width = wide
        if level < len(channels) - 1:
            table.convolution(f"up_blocks.{level}.upsamplers.0.conv", width, width)
    table.norm("conv_norm_out", first)
    table.convolution("conv_out", first, sizes.colours)
    return table.found


class _Table:
    """The tensors of a denoiser's parts, collected by name."""

    def __init__(self, sizes: DenoiserSizes):
        self._sizes, self.found = sizes, dict[str, TensorSpec]()

    def layer(self, block: str, index: int, inputs: int, outputs: int, attends: bool) -> None:
        """A residual layer and the transformer that may follow it."""
        self.residual(f"{block}.resnets.{index}", inputs, outputs)
        if attends:
            self._transformer(f"{block}.attentions.{index}", outputs)

    def residual(self, name: str, inputs: int, outputs: int) -> None:
        self.norm(f"{name}.norm1", inputs)
        self.convolution(f"{name}.conv1", inputs, outputs)
        self.linear(f"{name}.time_emb_proj", self._sizes.time_width, outputs)
        self.norm(f"{name}.norm2", outputs)
        self.convolution(f"{name}.conv2", outputs, outputs)
        if inputs != outputs:
            self.convolution(f"{name}.conv_shortcut", inputs, outputs, 1)

    def _transformer(self, name: str, width: int) -> None:
        self.norm(f"{name}.norm", width)
        self.convolution(f"{name}.proj_in", width, width, 1)
        self.convolution(f"{name}.proj_out", width, width, 1)
        block = f"{name}.transformer_blocks.0"
        for part in ("norm1", "norm2", "norm3"):
            self.norm(f"{block}.{part}", width)
        for part, reads in (("attn1", width), ("attn2", self._sizes.words_width)):
            self.linear(f"{block}.{part}.to_q", width, width, bias=False)
            self.linear(f"{block}.{part}.to_k", reads, width, bias=False)
            self.linear(f"{block}.{part}.to_v", reads, width, bias=False)
            self.linear(f"{block}.{part}.to_out.0", width, width)
        self.linear(f"{block}.ff.net.0.proj", width, 8 * width)  # GEGLU of four times the width (Shazeer 2020)
        self.linear(f"{block}.ff.net.2", 4 * width, width)

    def norm(self, name: str, width: int) -> None:
        self.found |= {f"{name}.{part}": TensorSpec((width,)) for part in ("weight", "bias")}

    def linear(self, name: str, inputs: int, outputs: int, *, bias: bool = True) -> None:
        self._add(name, (outputs, inputs), bias)

    def convolution(self, name: str, inputs: int, outputs: int, side: int = 3) -> None:
        self._add(name, (outputs, inputs, side, side), True)

    def _add(self, name: str, shape: tuple[int, ...], bias: bool) -> None:
        self.found[f"{name}.weight"] = TensorSpec(shape)
        if bias:
            self.found[f"{name}.bias"] = TensorSpec(shape[:1])
