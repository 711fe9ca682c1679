"""The device is chosen, said, and refused where it is not there."""

import numpy as np
import pytest
import torch

from diptych.engines.pytorch import PyTorchEngine, choose_device, describe_device
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.presets import preset


def pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_best_device_is_chosen(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, chosen: str) -> None:
    pretend(monkeypatch, cuda=cuda, mps=mps)
    assert choose_device().type == chosen
    assert choose_device("cpu").type == "cpu"


def test_a_device_that_is_not_here_says_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=False, mps=True)
    with pytest.raises(ValueError, match=r"'cuda:1' was requested.*this machine has mps, cpu"):
        choose_device("cuda:1")
    with pytest.raises(ValueError, match="'tpu' is not known; choose one of cuda, mps, cpu"):
        choose_device("tpu")
    assert choose_device("gpu").type == "mps"
    pretend(monkeypatch, cuda=False, mps=False)
    with pytest.raises(ValueError, match=r"'cuda' was requested.*this machine has cpu"):
        choose_device("gpu")


def test_devices_are_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert describe_device(torch.device("cuda:0")) == "cuda:0 (NVIDIA H200)"
    assert describe_device(torch.device("mps")) == "mps (Apple GPU)"
    assert describe_device(torch.device("cpu")).startswith("cpu (")


def test_the_engine_gives_unit_vectors_without_gradients() -> None:
    torch.manual_seed(0)
    engine = PyTorchEngine(CLIP(preset("vit-tiny")).train(), Preprocess(32), torch.device("cpu"))
    assert not engine.network.training
    images = engine.encode_images(np.random.default_rng(0).integers(256, size=(3, 32, 32, 3), dtype=np.uint8))
    texts = engine.encode_texts(np.full((2, 5), 1023))
    for vectors in (images, texts):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no NVIDIA GPU")
def test_the_gpu_agrees_with_the_processor() -> None:
    torch.manual_seed(0)
    network = CLIP(preset("resnet-tiny"))
    pixels = np.random.default_rng(0).integers(256, size=(4, 64, 64, 3), dtype=np.uint8)
    here = PyTorchEngine(network, Preprocess(64), torch.device("cpu")).encode_images(pixels)
    there = PyTorchEngine(network, Preprocess(64), torch.device("cuda")).encode_images(pixels)
    assert (here * there).sum(axis=1).min() > 0.9999


def test_a_loaded_model_s_batch_norm_is_folded_until_its_weights_change() -> None:
    torch.manual_seed(0)
    network, pixels = CLIP(preset("efficientnet-tiny")).eval(), np.full((1, 64, 64, 3), 99, np.uint8)
    network.image.stem_norm.running_mean.fill_(0.3)
    here, plain = (PyTorchEngine(network, Preprocess(64), torch.device("cpu"), source=name) for name in ("here", None))
    first = here.encode_images(pixels)
    np.testing.assert_allclose(first, plain.encode_images(pixels), atol=1e-5)
    np.testing.assert_allclose(here.encode_patches(pixels).images, first, atol=1e-6)
    tower = here._inference_network().image
    assert tower is here._inference_network().image is not network.image
    assert plain._inference_network().image is network.image
    with torch.no_grad():
        network.image.last_norm.running_mean.uniform_(-1, 1)
    assert np.abs(here.encode_images(pixels) - first).max() > 1e-3
    np.testing.assert_allclose(here.encode_images(pixels), plain.encode_images(pixels), atol=1e-5)
