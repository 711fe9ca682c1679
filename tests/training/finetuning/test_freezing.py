"""Fine-tuning: what is locked stays to the bit, layers move by their depth, and the line between two models is one."""

import copy
import pickle
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diptych.nets.clip import CLIP
from diptych.nets.config import ResNetConfig
from diptych.nets.presets import preset
from diptych.nets.resnet import Bottleneck
from diptych.training.finetuning.freezing import freeze_batch_norm, interpolate, lock_image, parameter_groups, sweep
from diptych.training.objectives.contrastive import softmax_loss
from diptych.training.setup import set_dropout


def towers(name: str = "vit-tiny") -> CLIP:
    """Random weights, but for the gains that start at zero: a pretrained model's do not stand there."""
    torch.manual_seed(0)
    network = CLIP(preset(name))
    for module in network.modules():
        if isinstance(module, Bottleneck):
            torch.nn.init.normal_(module.bn3.weight)
    return network


def pairs(network: CLIP, count: int = 6) -> tuple[Tensor, Tensor]:
    size, text = network.config.image.image_size, network.config.text
    ids = torch.randint(2, text.vocab_size - 1, (count, 16))
    ids[:, -1] = text.end_id
    return torch.randn(count, 3, size, size), ids


def train_a_little(network: CLIP, steps: int = 4, lr: float = 2e-3) -> list[float]:
    """The losses of a few steps, as the trainer takes them: train() before each."""
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(parameter_groups(network, weight_decay=0.1), lr=lr)
    pixels, ids = pairs(network)
    losses = []
    for _ in range(steps):
        network.train()
        output = network(pixels, ids)
        loss = softmax_loss(output.image, output.text, output.scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def changed(network: CLIP, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


def kept(network: CLIP) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("name", ["vit-tiny", "resnet-tiny"])
def test_a_locked_image_tower_stays_to_the_bit_while_the_texts_learn(name: str) -> None:
    network = towers(name)
    set_dropout(network, 0.3, 0.0)
    lock_image(network)
    before = kept(network)
    pixels, _ = pairs(network)
    assert not network.encode_image(pixels).requires_grad
    losses = train_a_little(network, steps=12, lr=1e-3)
    assert losses[-1] < losses[0]
    moved = changed(network, before)
    assert not any(name.startswith("image.") for name in moved)
    assert {"logit_scale", "text.token.weight", "text.proj.weight"} <= moved
    assert not network.train().image.training
    assert network.text.training
    assert all(parameter.grad is None for parameter in network.image.parameters())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_a_lock_is_copied_with_its_tower(copied: Callable[[CLIP], CLIP]) -> None:
    """The average of a run's weights is a copy: its tower is held by itself, and not by the one that it came from."""
    network = towers("resnet-tiny")
    lock_image(network)
    freeze_batch_norm(network)
    copied = copied(network)
    assert copied.image.bn1.train() is copied.image.bn1
    assert copied.image.train() is copied.image
    assert not copied.train().image.training
    before = kept(network)
    copied.image.bn1.running_mean.add_(1)
    assert not changed(network, before)


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_batch_norm_keeps_statistics_gains_and_biases(freeze: bool) -> None:
    network = towers("resnet-tiny")
    if freeze:
        freeze_batch_norm(network)
    before = kept(network)
    train_a_little(network)
    norms = {name for name in changed(network, before) if "bn" in name.rpartition(".")[0].rpartition(".")[2]}
    assert bool(norms) != freeze
    assert "image.conv1.weight" in changed(network, before)  # what is around it learns


def scales(network: CLIP, layer_decay: float) -> dict[str, tuple[float, float]]:
    """(lr_scale, weight decay) of each parameter, by its name. Each stands in one group."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found: dict[str, list] = defaultdict(list)
    for group in parameter_groups(network, weight_decay=0.1, layer_decay=layer_decay):
        for parameter in group["params"]:
            found[names[id(parameter)]].append((group["lr_scale"], group["weight_decay"]))
    assert all(len(places) == 1 for places in found.values())
    return {name: places[0] for name, places in found.items()}


def test_groups_of_a_vision_transformer_by_hand() -> None:
    """Two blocks a tower: heads 1, second block 1/2, first block 1/4, embeddings 1/8."""
    network = towers()
    found = scales(network, 0.5)
    assert found.keys() == dict(network.named_parameters()).keys()
    wanted = {
        "logit_scale": (1, 0),
        "image.proj.weight": (1, 0.1),
        "image.norm_post.weight": (1, 0),
        "image.transformer.blocks.1.attention.qkv.weight": (0.5, 0.1),
        "image.transformer.blocks.1.norm_1.weight": (0.5, 0),
        "image.transformer.blocks.0.mlp.fc.weight": (0.25, 0.1),
        "image.transformer.blocks.0.mlp.fc.bias": (0.25, 0),
        "image.patch.weight": (0.125, 0.1),
        "image.positions": (0.125, 0.1),
        "image.class_token": (0.125, 0),
        "image.norm_pre.bias": (0.125, 0),
        "text.proj.weight": (1, 0.1),
        "text.norm_post.bias": (1, 0),
        "text.transformer.blocks.1.mlp.proj.weight": (0.5, 0.1),
        "text.transformer.blocks.0.attention.out.bias": (0.25, 0),
        "text.token.weight": (0.125, 0.1),
        "text.positions": (0.125, 0.1),
    }
    assert {name: found[name] for name in wanted} == wanted


def test_groups_of_a_resnet_by_hand() -> None:
    """Stages of 1, 2, 1 and 1 blocks: pooling 1, the blocks 1/2 to 1/32, the stem 1/64; the text tower by its own."""
    network = CLIP(replace(preset("resnet-tiny"), image=ResNetConfig(64, (1, 2, 1, 1), 8, 4)))
    wanted = {
        "image.pool.positions": (1, 0.1),
        "image.pool.out.bias": (1, 0),
        "image.stages.3.0.conv2.weight": (1 / 2, 0.1),
        "image.stages.3.0.downsample.bn.weight": (1 / 2, 0),
        "image.stages.2.0.bn3.weight": (1 / 4, 0),
        "image.stages.1.1.conv1.weight": (1 / 8, 0.1),
        "image.stages.1.0.downsample.conv.weight": (1 / 16, 0.1),
        "image.stages.0.0.conv3.weight": (1 / 32, 0.1),
        "image.conv1.weight": (1 / 64, 0.1),
        "image.bn3.bias": (1 / 64, 0),
        "text.token.weight": (1 / 8, 0.1),
    }
    found = scales(network, 0.5)
    assert {name: found[name] for name in wanted} == wanted


def test_siglips_head_and_bias_are_above_all_layers() -> None:
    image = replace(preset("vit-tiny").image, pool="map")
    found = scales(CLIP(replace(preset("vit-tiny"), image=image, loss="sigmoid")), 0.5)
    assert found["logit_bias"] == (1, 0)
    assert found["image.head.attention.qkv.weight"] == found["image.head.probe"] == (1, 0.1)


def test_without_layer_decay_there_are_two_groups_and_all_have_the_rate() -> None:
    network = towers("resnet-tiny")
    groups = parameter_groups(network, weight_decay=0.2)
    assert {(group["weight_decay"], group["lr_scale"]) for group in groups} == {(0.2, 1), (0.0, 1)}
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    still = {name for name, (_, decay) in scales(network, 1.0).items() if not decay}
    assert {"logit_scale", "image.bn1.weight", "image.pool.q.bias", "text.norm_post.weight"} <= still
    assert not any(name.endswith("conv1.weight") for name in still)


def test_only_what_is_trainable_is_in_a_group() -> None:
    network = towers()
    lock_image(network)
    assert not any(name.startswith("image.") for name in scales(network, 0.5))


@pytest.mark.parametrize("wrong", [0.0, 1.01, -0.5])
def test_a_layer_decay_that_makes_no_sense(wrong: float) -> None:
    with pytest.raises(ValueError, match="layer_decay is"):
        parameter_groups(towers(), weight_decay=0.1, layer_decay=wrong)


def two_states() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A ResNet's before and after some training with live batch norm: counters and statistics have moved."""
    network = towers("resnet-tiny")
    before = kept(network)
    train_a_little(network, steps=4)
    after = kept(network)
    assert after["image.bn1.num_batches_tracked"] == 4
    return before, after


BEFORE, AFTER = two_states()


def test_the_ends_of_the_line_are_the_models_to_the_bit() -> None:
    for alpha, end in ((0.0, BEFORE), (1.0, AFTER)):
        for name, tensor in interpolate(BEFORE, AFTER, alpha).items():
            assert tensor.dtype == end[name].dtype
            assert torch.equal(tensor, end[name]), name


@given(alpha=st.floats(0, 1))
@settings(max_examples=25)
def test_the_line_is_straight(alpha: float) -> None:
    """Every weight, and batch norm's statistics with them; counters to the nearest whole number."""
    between = interpolate(BEFORE, AFTER, alpha)
    for name, tensor in between.items():
        wanted = (1 - alpha) * BEFORE[name].double() + alpha * AFTER[name].double()
        tolerance = 1e-6 if tensor.is_floating_point() else 0.5
        torch.testing.assert_close(tensor.double(), wanted, rtol=1e-6, atol=tolerance)


def test_a_sweep_asks_at_each_place() -> None:
    means = sweep(BEFORE, AFTER, lambda state: state["image.bn1.running_mean"].sum().item(), (0.0, 0.5, 1.0))
    assert list(means) == [0.0, 0.5, 1.0]
    assert means[0.5] == pytest.approx((means[0.0] + means[1.0]) / 2)
    assert means[0.0] != means[1.0]


def test_states_of_two_models_make_no_line() -> None:
    with pytest.raises(ValueError, match=r"image\.pool\.positions: \(5, 256\) before, \(17, 256\) after"):
        interpolate(BEFORE, {**AFTER, "image.pool.positions": torch.zeros(17, 256)}, 0.5)
    with pytest.raises(ValueError, match="1 tensors differ in shape"):
        interpolate(BEFORE, {name: tensor for name, tensor in AFTER.items() if name != "logit_scale"}, 0.5)
