"""A locked trunk, and a locked text tower: what is frozen stays to the bit, and what is above it learns."""

import dataclasses

import pytest
import torch
from torch import Tensor

from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.training.finetuning.freezing import POOLING, lock_text, lock_trunk, parameter_groups
from diptych.training.objectives.contrastive import softmax_loss
from diptych.training.setup import set_dropout

NAMES = ["vit-tiny", "mean", "map", "resnet-tiny", "efficientnet-tiny", "narrow-blocks"]


def towers(name: str) -> CLIP:
    """A preset, or a vision transformer with another pooling."""
    torch.manual_seed(0)
    if name == "narrow-blocks":  # the last map has more channels than the last block, as in the released sizes
        config = preset("efficientnet-tiny")
        width = 2 * config.image.blocks[-1].outputs
        return CLIP(dataclasses.replace(config, image=dataclasses.replace(config.image, feature_width=width, heads=1)))
    if name not in ("mean", "map"):
        return CLIP(preset(name))
    config = preset("vit-tiny")
    return CLIP(
        dataclasses.replace(config, embed_dim=config.image.width, image=dataclasses.replace(config.image, pool=name))
    )


def batch(network: CLIP, count: int = 4) -> tuple[Tensor, Tensor]:
    size, text = network.config.image.image_size, network.config.text
    ids = torch.randint(2, text.vocab_size - 1, (count, 12), generator=torch.Generator().manual_seed(1))
    ids[:, -1] = text.end_id
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2)), ids


def step(network: CLIP, pixels: Tensor, ids: Tensor) -> float:
    """One large step without weight decay, in training mode."""
    optimizer = torch.optim.SGD(parameter_groups(network, weight_decay=0.0), lr=0.5)
    network.train()
    output = network(pixels, ids)
    loss = softmax_loss(output.image, output.text, output.scale)
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("name", NAMES)
def test_a_trunk_and_what_is_above_it_are_the_tower(name: str) -> None:
    network = towers(name).eval()
    pixels, ids = batch(network)
    trunk = network.image.trunk(pixels)
    torch.testing.assert_close(network.image.from_trunk(trunk), network.encode_image(pixels))
    for stage, stored in (("trunk", trunk), ("vector", network.encode_image(pixels))):
        network.image_stage = stage
        given = network(stored, network.encode_text(ids))
        network.image_stage = "pixels"
        for one, other in zip(given[:3], network(pixels, ids)[:3], strict=True):
            torch.testing.assert_close(one, other)


def test_the_smaller_of_an_efficientnets_maps_is_its_trunk() -> None:
    narrow, wide = towers("narrow-blocks").eval(), towers("efficientnet-tiny").eval()
    assert narrow.image.trunk(batch(narrow)[0]).shape[1] == narrow.image.last.in_channels
    assert wide.image.trunk(batch(wide)[0]).shape[2] == wide.image.last.out_channels


@pytest.mark.parametrize("name", NAMES)
def test_below_the_pooling_nothing_changes(name: str) -> None:
    network = towers(name)
    set_dropout(network, 0.5, 0.0)
    lock_trunk(network)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    step(network, *batch(network))
    moved = {key for key, tensor in network.state_dict().items() if not tensor.equal(before[key])}
    parts = {key.split(".")[1] for key in moved if key.startswith("image.")}
    assert parts
    assert parts <= {*POOLING}
    assert any(key.startswith("text.") for key in moved)


def test_a_stored_trunk_gives_the_step_of_pixels() -> None:
    """Dropout in the frozen blocks is off."""
    losses = []
    for stage in ("pixels", "trunk"):
        network = towers("efficientnet-tiny")
        set_dropout(network, 0.5, 0.0)
        lock_trunk(network)
        pixels, ids = batch(network)
        given = network.eval().image.trunk(pixels) if stage == "trunk" else pixels
        network.image_stage = stage
        losses.append((step(network, given, ids), network.image.head.linear.weight.detach().clone()))
    assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-6)
    torch.testing.assert_close(losses[0][1], losses[1][1])


def test_a_locked_text_tower_stays_to_the_bit_while_the_pictures_learn() -> None:
    network = towers("vit-tiny")
    set_dropout(network, 0.0, 0.5)
    lock_text(network)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    pixels, ids = batch(network)
    assert network.train().encode_text(ids).equal(network.encode_text(ids))
    step(network, pixels, ids)
    moved = {key for key, tensor in network.state_dict().items() if not tensor.equal(before[key])}
    assert not any(key.startswith("text.") for key in moved)
    assert "image.proj.weight" in moved
