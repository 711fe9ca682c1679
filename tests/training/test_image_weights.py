"""A new model's image tower starts from released weights."""

from pathlib import Path

import pytest
import torch

from diptych.checkpoint import read
from diptych.errors import ArgumentError, CheckpointError
from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.training.config import TrainConfig
from diptych.training.setup import start_image_tower
from tests.checkpoint.formats.test_efficientnet_lite import features, released


def test_the_tower_starts_from_the_file_and_its_head_anew(tmp_path: Path) -> None:
    tensors = released()
    torch.save(tensors, path := tmp_path / "lite0.pth")
    network = CLIP(preset("efficientnet-lite0")).eval()
    head = network.image.head.linear.weight.clone()
    start_image_tower(network, str(path))
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network.image.pooled(pixels), features(tensors, pixels), rtol=1e-5, atol=1e-5)
    assert torch.equal(network.image.head.linear.weight, head)
    with pytest.raises(ArgumentError, match=r"weights of another image tower.*efficientnet-lite0"):
        start_image_tower(CLIP(preset("efficientnet-tiny")), str(path))
    with pytest.raises(ArgumentError, match="weights of another image tower"):
        start_image_tower(CLIP(preset("resnet-tiny")), str(path))
    with pytest.raises(CheckpointError, match=r"an image tower without a text tower.*Start training from it"):
        read(path)
    torch.save(tensors | {"_bn1.bias": torch.full((1280,), float("nan"))}, path)
    with pytest.raises(CheckpointError, match=r"image\.last_norm\.bias"):
        start_image_tower(network, str(path))


def test_a_tower_with_weights_may_be_locked(tmp_path: Path) -> None:
    assert TrainConfig(data=("pairs",), image_weights="lite0.pth", lock_image=True).lock_image
    assert TrainConfig(data=("pairs",), image_weights="lite0.pth", lock_trunk=True).lock_trunk
    with pytest.raises(ArgumentError, match="is for fine-tuning"):
        TrainConfig(data=("pairs",), image_weights="lite0.pth", lora=4)
    with pytest.raises(ArgumentError, match="is that of the model to start from"):
        TrainConfig(data=("pairs",), image_weights="lite0.pth", init="bundled")
