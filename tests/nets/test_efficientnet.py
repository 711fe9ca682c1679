"""The EfficientNet tower: its pooling, head and patches by their formulas, and how it is trained."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from diptych.nets.clip import CLIP
from diptych.nets.config import EfficientNetConfig
from diptych.nets.efficientnet import EfficientNet, InvertedResidual, same_padded
from diptych.nets.presets import preset
from diptych.nets.resize import resized
from diptych.nets.shapes import shapes
from diptych.training.finetuning.freezing import freeze_batch_norm, lock_image, parameter_groups
from diptych.training.finetuning.lora import add, merge
from diptych.training.optim.muon import is_hidden
from diptych.training.setup import default_preprocessing, set_dropout


def tower(**changes) -> CLIP:
    torch.manual_seed(0)
    whole = preset("efficientnet-tiny")
    return CLIP(dataclasses.replace(whole, image=dataclasses.replace(whole.image, **changes)))


def trained(**changes) -> CLIP:
    """No weight where it starts."""
    network = tower(**changes).eval()
    for name, tensor in network.state_dict().items():
        if name.startswith("image.") and tensor.is_floating_point():
            tensor.normal_(0, 0.2) if tensor.ndim > 1 else tensor.uniform_(0.5, 1.5)
    return network


def pixels(network: CLIP, count: int = 3) -> torch.Tensor:
    size = network.config.image.image_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_a_new_tower_gives_the_mean_of_the_map_through_a_linear_layer() -> None:
    image = tower().eval().image
    fine, cells = image.maps(pixels(tower()))
    assert fine.shape == (3, 16, 32)
    assert cells.shape == (3, 4, 64)
    torch.testing.assert_close(image.pool(cells), cells.mean(dim=1))
    vectors, patches = image.with_patches(pixels(tower()))
    torch.testing.assert_close(vectors, cells.mean(dim=1) @ image.head.linear.weight.T)
    torch.testing.assert_close(image(pixels(tower())), vectors)
    assert patches.shape == (3, 16, 64)


@torch.no_grad()
def test_pooling_head_and_patches_are_their_formulas() -> None:
    network = trained()
    image: EfficientNet = network.image
    fine, cells = image.maps(pixels(network))
    scores = cells @ image.pool.score.weight.T + image.pool.score.bias + image.pool.positions
    weights = torch.exp(scores) / torch.exp(scores).sum(dim=1, keepdim=True)
    pooled = torch.stack([(weights[:, :, channel // 16] * cells[:, :, channel]).sum(dim=1) for channel in range(64)], 1)
    head, parts = image.head, dict(image.head.named_parameters())

    def vector(features: torch.Tensor) -> torch.Tensor:
        x = (features - head.mean) / head.std
        hidden = F.gelu(x @ parts["fc.weight"].T + parts["fc.bias"])
        direct = x @ parts["linear.weight"].T + parts["linear.bias"]
        return direct + hidden @ parts["proj.weight"].T + parts["proj.bias"]

    vectors, patches = image.with_patches(pixels(network))
    torch.testing.assert_close(vectors, vector(pooled), rtol=1e-4, atol=1e-4)
    of_fine = image.fine.proj(F.gelu(image.fine.fc(fine)))
    square = vector(cells).view(3, 2, 2, -1)
    for row, column in ((0, 0), (1, 1), (2, 3)):
        # Two cells to four: cell centres lie at .25 and .75 between, the edge repeats.
        at = [min(max((index + 0.5) / 2 - 0.5, 0.0), 1.0) for index in (row, column)]
        mixed = sum(
            (at[0] if y else 1 - at[0]) * (at[1] if x else 1 - at[1]) * square[:, y, x] for y in (0, 1) for x in (0, 1)
        )
        index = 4 * row + column
        torch.testing.assert_close(patches[:, index], mixed + of_fine[:, index], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_class_path_adds_the_mean_of_class_vectors_by_probability_to_the_picture_alone() -> None:
    network = trained(class_width=3)
    image: EfficientNet = network.image
    weight = torch.zeros(3, 64)
    image.classes.fc.weight.copy_(weight)
    image.classes.fc.bias.copy_(torch.tensor([0.5, 0.3, 0.2]).log())
    cells = image.maps(pixels(network))[1]
    mean = image.classes.proj.weight @ torch.tensor([0.5, 0.3, 0.2])
    expected = image.head(image.pool(cells)) + mean
    vectors, patches = image.with_patches(pixels(network))
    torch.testing.assert_close(vectors, expected)
    torch.testing.assert_close(image(pixels(network)), expected)
    torch.testing.assert_close(image.from_trunk(image.trunk(pixels(network))), expected)
    image.classes.proj.weight.zero_()
    torch.testing.assert_close(image.with_patches(pixels(network))[1], patches, rtol=0, atol=0)


@torch.no_grad()
def test_a_new_class_path_adds_nothing() -> None:
    with_path, without = tower(class_width=5).eval(), tower().eval()
    with_path.image.load_state_dict(without.image.state_dict(), strict=False)
    torch.testing.assert_close(
        with_path.encode_image(pixels(without)), without.encode_image(pixels(without)), rtol=0, atol=0
    )


@pytest.mark.parametrize("changes", [{"mlp_width": 0}, {"fine_width": 0}, {"class_width": 5}, {"image_size": 75}])
@torch.no_grad()
def test_a_part_may_be_left_out_and_any_size_be_read(changes: dict) -> None:
    network = trained(**changes)
    config = network.config.image
    vectors, patches = network.encode_patches(pixels(network))
    assert vectors.shape == (3, 64)
    assert patches.shape == (3, config.grid**2, 64)
    assert shapes(network.config) == {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    ("kernel", "side", "before", "after"), [(3, 8, 0, 1), (3, 7, 1, 1), (5, 8, 1, 2), (5, 7, 2, 2)]
)
def test_padding_is_tensorflow_s(kernel: int, side: int, before: int, after: int) -> None:
    padded = same_padded(torch.ones(1, 1, side, side), kernel, 2)[0, 0]
    assert padded.shape == (side + before + after,) * 2
    assert padded.sum() == side**2
    assert padded[before, before] == 1
    assert same_padded(padded, kernel, 1) is padded


def test_dropout_is_drawn_before_and_in_the_head_in_training_alone() -> None:
    network = trained().eval()
    before = network.encode_image(pixels(network))
    set_dropout(network, 0.3, 0.4)
    torch.testing.assert_close(network.encode_image(pixels(network)), before, rtol=0, atol=0)
    assert network.image.head.dropout == 0.4
    assert [block.drop_path for block in network.image.blocks][-1] == pytest.approx(0.3)
    freeze_batch_norm(network)
    network.image.head.train()
    features = torch.randn(2, 64)
    assert not torch.allclose(network.image.head(features), network.image.head(features))
    with pytest.raises(ValueError, match="this image tower is a convolutional network"):
        set_dropout(network, 0.0, 0.0, patch_dropout=0.5)


def test_every_weight_learns() -> None:
    network = trained(class_width=5).train()
    vectors, patches = network.encode_patches(pixels(network, 4))
    (vectors.square().sum() + patches.square().sum()).backward()
    missing = [name for name, p in network.image.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias before a softmax over the cells shifts all of them alike.
    assert missing in ([], ["pool.score.bias"])


def names_by_scale(network: CLIP) -> Iterator[tuple[str, float]]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for group in parameter_groups(network, weight_decay=0.1, layer_decay=0.5):
        yield from ((names[id(parameter)], group["lr_scale"]) for parameter in group["params"])


def test_learning_rates_fall_with_depth() -> None:
    network = tower(class_width=5)
    scales, count = dict(names_by_scale(network)), len(network.image.blocks)
    for name in (
        "last.weight",
        "last_norm.bias",
        "pool.score.weight",
        "head.fc.weight",
        "fine.proj.weight",
        "classes.fc.weight",
    ):
        assert scales[f"image.{name}"] == 1
    assert scales[f"image.blocks.{count - 1}.project.weight"] == 0.5
    assert scales["image.blocks.0.depthwise.weight"] == 0.5**count
    assert scales["image.stem.weight"] == scales["image.stem_norm.weight"] == 0.5 ** (count + 1)


def test_a_locked_tower_and_frozen_statistics_stay() -> None:
    network = tower()
    lock_image(network)
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert not network.encode_image(pixels(network)).requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_adapters_stand_on_1x1_convolutions_and_the_head() -> None:
    network = trained(class_width=5).eval()
    before = network.encode_image(pixels(network)).detach()
    add(network, 2, 4.0)
    adapted = {name.removesuffix(".down") for name, _ in network.image.named_parameters() if name.endswith(".down")}
    block = next(i for i, each in enumerate(network.image.blocks) if each.size.expansion > 1)
    assert {f"blocks.{block}.expand", f"blocks.{block}.project", "head.linear", "head.fc", "classes.proj"} <= adapted
    assert not [name for name in adapted if "depthwise" in name]
    torch.testing.assert_close(network.eval().encode_image(pixels(network)), before, rtol=1e-3, atol=1e-4)
    assert not any("down" in name for name in merge(network).state_dict())


def test_muon_leaves_kernels_of_single_channels() -> None:
    hidden = {name for name, parameter in tower().named_parameters() if is_hidden(name, parameter)}
    assert {"image.blocks.3.expand.weight", "image.head.fc.weight", "image.last.weight"} <= hidden
    assert not {"image.stem.weight", "image.blocks.3.depthwise.weight", "image.pool.positions"} & hidden


def test_channels_last_changes_nothing() -> None:
    network = trained().eval()
    expected = network.encode_patches(pixels(network))
    network.to(memory_format=torch.channels_last)
    ours = network.encode_patches(pixels(network).contiguous(memory_format=torch.channels_last))
    for came, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(came, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_another_picture_size_changes_positions_alone() -> None:
    network = trained()
    state = network.state_dict()
    config, larger = resized(network.config, state, 128)
    assert (config.image.cells, config.image.grid) == (4, 8)
    assert {name for name in state if larger[name] is not state[name]} == {"image.pool.positions"}
    assert larger["image.pool.positions"].shape == (16, 4)
    made = CLIP(config).eval()
    made.load_state_dict(larger)
    assert made.encode_patches(pixels(made))[1].shape == (3, 64, 64)
    with pytest.raises(ValueError, match="stride is a ResNet's; this image tower is an EfficientNet"):
        resized(network.config, state, None, stride=16)


def test_factors_that_make_no_network_are_refused() -> None:
    numbers = ({"width_factor": 0.0}, {"depth_factor": float("nan")}, {"width_factor": 1e9})
    for values in (*numbers, {"width_factor": "1"}, {"depth_factor": None}, {"depth_factor": [1]}):
        with pytest.raises(ValueError, match=r"_factor is .*; wanted a number above 0, at most 16"):
            EfficientNetConfig(**values)
    whole = preset("efficientnet-tiny")
    for values, says in (({"heads": 7}, "64 channels do not divide into 7 heads"), ({"mlp_width": -1}, "0 or more")):
        with pytest.raises(ValueError, match=says):
            shapes(dataclasses.replace(whole, image=dataclasses.replace(whole.image, **values)))


def test_pictures_are_read_as_the_released_weights_want() -> None:
    spec = default_preprocessing(preset("efficientnet-lite0"))
    for pixel in (0, 127, 255):
        assert (pixel / 255 - spec.mean[0]) / spec.std[0] == pytest.approx((pixel - 127) / 128)
    assert spec.mode == default_preprocessing(preset("resnet-tiny")).mode


def test_blocks_keep_the_layout_of_their_names() -> None:
    names = {name for name in tower().image.state_dict() if name.startswith("blocks.")}
    first = {name.split(".", 2)[2].split(".")[0] for name in names if name.startswith("blocks.0.")}
    second = {name.split(".", 2)[2].split(".")[0] for name in names if name.startswith("blocks.1.")}
    assert first == {"depthwise", "depthwise_norm", "project", "project_norm"}
    assert second == first | {"expand", "expand_norm"}
    assert all(module.eps == 1e-3 for module in tower().image.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert isinstance(tower().image.blocks[0], InvertedResidual)
