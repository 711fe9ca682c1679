"""The example of CLIP guidance steers a pipeline's steps by the formula, and leaves the pipeline as it was."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import diptych

EXAMPLE = Path(__file__).parent.parent / "examples" / "clip_guidance.py"


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    pytest.importorskip("diffusers")
    spec = importlib.util.spec_from_file_location("clip_guidance", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["clip_guidance"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["clip_guidance"]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> diptych.Embedder:
    return diptych.load(tiny_model, engine="pytorch", device="cpu")


@pytest.fixture
def generator(example: Any) -> Any:
    return example.ideal_generator(count=20, size_px=16)


def test_an_ideal_generator_draws_its_pictures(example: Any, generator: Any, model: diptych.Embedder) -> None:
    pictures = example.samples(generator, model, "a red circle", 0, count=4, steps=20)
    own = np.stack([np.asarray(scene.image) / 255 for scene in generator.scenes])
    nearest = np.abs(pictures[:, None] - own).mean(axis=(2, 3, 4)).min(axis=1)
    assert nearest.max() < 0.02
    shown = generator.shown(pictures)
    words = f"a {shown[0].things[0].colour} {shown[0].things[0].kind}"
    colour, kind, both = example.score(generator, pictures, words)
    assert 0.25 <= both <= min(colour, kind)


@pytest.mark.parametrize("through", [False, True], ids=["constant", "through"])
def test_the_noise_is_changed_by_the_gradient_of_the_agreement(
    through: bool, example: Any, generator: Any, model: diptych.Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With views that are the picture itself, against differences of the agreement in a random direction."""
    monkeypatch.setattr(example, "SMALLEST_CROP", 1.0)
    unet, scheduler = generator.pipeline.unet, generator.pipeline.scheduler
    predict = (lambda noisy, step: unet(noisy, step).sample) if through else None
    guidance = example.ClipGuidance(model, "a red circle", 50.0, predict=predict, crops=1)
    torch.manual_seed(0)
    noisy, step = torch.randn(2, 3, 16, 16), torch.tensor(600)
    share = scheduler.alphas_cumprod[600]
    output = unet(noisy, step).sample

    def agreement(at: Tensor) -> Tensor:
        noise = unet(at, step).sample if through else output
        return guidance.agreement((at - (1 - share).sqrt() * noise) / share.sqrt())

    change = guidance.noise(output, step, noisy, scheduler) - output
    direction, small = torch.randn_like(noisy), 2e-3
    with torch.no_grad():
        slope = (agreement(noisy + small * direction) - agreement(noisy - small * direction)) / (2 * small)
    wanted = -((1 - share).sqrt() * 50.0 * slope)
    torch.testing.assert_close((change * direction).sum(dim=(1, 2, 3)), wanted, rtol=0.02, atol=1e-3)
    assert wanted.abs().min() > 1e-3


def test_a_model_of_any_prediction_type_is_steered_alike(example: Any, generator: Any, model: diptych.Embedder) -> None:
    unet, scheduler, step = generator.pipeline.unet, generator.pipeline.scheduler, torch.tensor(400)
    torch.manual_seed(0)
    noisy = torch.randn(1, 3, 16, 16)
    noise, share = unet(noisy, step).sample, scheduler.alphas_cumprod[400]
    found = []
    for kind in ("epsilon", "v_prediction", "sample"):
        scheduler.register_to_config(prediction_type=kind)
        output = example._output(noise, noisy, share, kind)
        found.append(example.ClipGuidance(model, "a star", 20.0).noise(output, step, noisy, scheduler))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[2], found[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[0], noise, atol=1e-3)


@pytest.mark.parametrize("decode", [None, torch.tanh], ids=["pixels", "latents"])
def test_a_pipeline_is_steered_within_the_block_alone(
    decode: Any, example: Any, generator: Any, model: diptych.Embedder
) -> None:
    pipeline = generator.pipeline

    def run() -> np.ndarray:
        random = torch.Generator().manual_seed(3)
        return pipeline(batch_size=2, generator=random, num_inference_steps=3, output_type="np").images

    plain, guidance = run(), example.ClipGuidance(model, "a red circle", 300.0, decode=decode)
    with guidance.steering(pipeline):
        steered = run()
    assert np.isfinite(steered).all()
    assert np.abs(steered - plain).max() > 0.01
    assert np.array_equal(run(), plain)
    assert all(not parameter.requires_grad for parameter in model.network.parameters())


def test_guidance_raises_the_agreement(example: Any, generator: Any, model: diptych.Embedder) -> None:
    """The mean CLIP score of the steered pictures, by the model that steers."""
    texts = model.embed_texts("a red circle")
    scores = []
    for scale in (0.0, 2000.0):
        pictures = example.samples(generator, model, "a red circle", scale, count=6, steps=12, crops=1)
        vectors = model.embed_images(list((pictures * 255).round().astype(np.uint8)))
        scores.append(float((vectors @ texts[0]).mean()))
    assert scores[1] > scores[0] + 0.01


def test_each_picture_is_steered_to_its_own_words(example: Any, model: diptych.Embedder) -> None:
    torch.manual_seed(0)
    pixels = torch.randn(2, 3, 16, 16)
    words = ["a red circle", "a blue star"]
    both = example.ClipGuidance(model, words, 1.0, crops=1).agreement(pixels)
    alone = [example.ClipGuidance(model, each, 1.0, crops=1).agreement(pixels)[row] for row, each in enumerate(words)]
    torch.testing.assert_close(both, torch.stack(alone))


def test_shares_are_of_what_is_named(example: Any) -> None:
    scenes = list(example.plain_scenes(6, split="test", seed=4))
    said = [scene.descriptions[0] for scene in scenes]
    assert example.seen_shares([scene.image for scene in scenes], said) == (100, 100, 100)
    colours, kinds, things = example.seen_shares([scenes[0].image] * 6, said)
    assert 0 < colours < 100
    assert 0 < kinds < 100
    assert things == pytest.approx(100 / 6)
