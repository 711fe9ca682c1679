"""Released weights of EfficientNet-Lite make the tower that they were released as."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.checkpoint.formats.efficientnet_lite import FACTORS, read
from diptych.errors import CheckpointError
from diptych.nets.clip import CLIP
from diptych.nets.config import CLIPConfig, EfficientNetConfig
from diptych.nets.presets import preset

# (channels in, channels out, stride, kernel, expansion) of Lite0's blocks, written out by hand
LITE0 = [
    (32, 16, 1, 3, 1), (16, 24, 2, 3, 6), (24, 24, 1, 3, 6), (24, 40, 2, 5, 6), (40, 40, 1, 5, 6), (40, 80, 2, 3, 6),
    (80, 80, 1, 3, 6), (80, 80, 1, 3, 6), (80, 112, 1, 5, 6), (112, 112, 1, 5, 6), (112, 112, 1, 5, 6),
    (112, 192, 2, 5, 6), (192, 192, 1, 5, 6), (192, 192, 1, 5, 6), (192, 192, 1, 5, 6), (192, 320, 1, 3, 6),
]  # fmt: skip


def released(blocks: list[tuple[int, int, int, int, int]] = LITE0, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the released names: statistics and gains are those of no new network."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}

    def convolution(name: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        tensors[f"{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel, generator=generator)
        tensors[f"{name}.weight"] *= math.sqrt(2 / (inputs * kernel**2))
        for part, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -1, 1),
            ("running_mean", -1, 1),
            ("running_var", 0.5, 2),
        ):
            tensors[f"{norm}.{part}"] = torch.rand(outputs, generator=generator) * (high - low) + low
        tensors[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    convolution("_conv_stem", "_bn0", 32, 3, 3)
    for number, (inputs, outputs, _, kernel, expansion) in enumerate(blocks):
        at, hidden = f"_blocks.{number}", inputs * expansion
        if expansion > 1:
            convolution(f"{at}._expand_conv", f"{at}._bn0", hidden, inputs, 1)
        convolution(f"{at}._depthwise_conv", f"{at}._bn1", hidden, 1, kernel)
        convolution(f"{at}._project_conv", f"{at}._bn2", outputs, hidden, 1)
    convolution("_conv_head", "_bn1", 1280, blocks[-1][1], 1)
    tensors["_fc.weight"] = torch.randn(1000, 1280, generator=generator)
    tensors["_fc.bias"] = torch.randn(1000, generator=generator)
    return tensors


def features(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """The pooled features of the released network, by plain formulas."""

    def normed(x: Tensor, norm: str) -> Tensor:
        weight, bias, mean, var = (
            tensors[f"{norm}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (var + 1e-3).sqrt() * weight + bias

    def strided(x: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
        """Pads each side by hand, to where the last window ends."""
        kernel, side = weight.shape[-1], x.shape[-1]
        wanted = (math.ceil(side / stride) - 1) * stride + kernel
        before = max(wanted - side, 0) // 2
        padded = x.new_zeros(*x.shape[:2], max(wanted, side), max(wanted, side))
        padded[..., before : before + side, before : before + side] = x
        return F.conv2d(padded, weight, stride=stride, groups=groups)

    x = normed(strided(x, tensors["_conv_stem.weight"], 2), "_bn0").clamp(0, 6)
    for number, (inputs, outputs, stride, _, expansion) in enumerate(LITE0):
        at, y = f"_blocks.{number}", x
        if expansion > 1:
            y = normed(F.conv2d(y, tensors[f"{at}._expand_conv.weight"]), f"{at}._bn0").clamp(0, 6)
        y = strided(y, tensors[f"{at}._depthwise_conv.weight"], stride, groups=y.shape[1])
        y = normed(y, f"{at}._bn1").clamp(0, 6)
        y = normed(F.conv2d(y, tensors[f"{at}._project_conv.weight"]), f"{at}._bn2")
        x = x + y if stride == 1 and inputs == outputs else y
    x = normed(F.conv2d(x, tensors["_conv_head.weight"]), "_bn1").clamp(0, 6)
    return x.mean(dim=(2, 3))


@pytest.mark.parametrize("size", [64, 75])
def test_the_features_are_those_of_the_released_network(size: int) -> None:
    """An odd size has other padding at every stride."""
    tensors = released()
    found = read(tensors, "weights.pth", image_size=size)
    assert found.config == EfficientNetConfig(size, 1.0, 1.0)
    tower = CLIP(CLIPConfig(32, found.config, preset("efficientnet-tiny").text)).eval()
    missing, unexpected = tower.load_state_dict(found.state, strict=False)
    assert not unexpected
    assert not [
        name for name in missing if not name.startswith(("image.pool.", "image.head.", "image.fine.", "text.", "logit"))
    ]
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = tower.image.pooled(pixels), features(tensors, pixels)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.class_weight, tensors["_fc.weight"])
    assert torch.equal(found.class_bias, tensors["_fc.bias"])


@pytest.mark.parametrize("factors", FACTORS)
def test_every_published_size_is_recognised(factors: tuple[float, float]) -> None:
    sizes = [tuple(size) for size in EfficientNetConfig(224, *factors).blocks]
    found = read(released(sizes), "weights.pth", image_size=96)
    assert (found.config.width_factor, found.config.depth_factor, found.config.image_size) == (*factors, 96)


def test_lite0_s_blocks_are_those_of_the_paper() -> None:
    assert [tuple(size) for size in EfficientNetConfig().blocks] == LITE0


def test_what_is_no_such_network_says_what_does_not_fit() -> None:
    whole = released()
    with pytest.raises(CheckpointError, match=r"weights.pth has no _conv_stem.weight: it is not a released"):
        read({"fc.weight": torch.zeros(3)}, "weights.pth")
    with pytest.raises(CheckpointError, match=r"squeeze-and-excitation \(_blocks.0._se_reduce.weight\)"):
        read(whole | {"_blocks.0._se_reduce.weight": torch.zeros(8, 32, 1, 1)}, "weights.pth")
    without = {name: tensor for name, tensor in whole.items() if not name.startswith(("_conv_head", "_fc"))}
    with pytest.raises(CheckpointError, match=r"weights.pth: .*_conv_head.weight \(1280, 320, 1, 1\) is missing"):
        read(without, "weights.pth")
    with pytest.raises(CheckpointError, match=r"_blocks.3._project_conv.weight is \(40, 3, 1, 1\), wanted"):
        read(whole | {"_blocks.3._project_conv.weight": torch.zeros(40, 3, 1, 1)}, "weights.pth")
    for name in ("_conv_head.weight", "_blocks.15._project_conv.weight"):
        with pytest.raises(CheckpointError, match=rf"weights.pth: .*{name} is \(\), wanted"):
            read(whole | {name: torch.tensor(1.0)}, "weights.pth")
    with pytest.raises(CheckpointError, match=r"weights.pth: .* 7 channels do not divide into 8 heads"):
        read(whole | {"_conv_head.weight": torch.zeros(7, 320, 1, 1)}, "weights.pth")


def test_counters_and_the_classification_layer_may_be_missing() -> None:
    tensors = {
        name: t for name, t in released().items() if not name.endswith("num_batches_tracked") and "_fc" not in name
    }
    found = read(tensors, "weights.pth")
    assert found.class_weight is None
    assert found.class_bias is None
    assert not [name for name in found.state if name.endswith("num_batches_tracked")]
