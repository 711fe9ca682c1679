"""The text encoder that was written opens inside a pipeline of diffusers and guides it to the end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diptych
from diptych.checkpoint.pipelines.text_encoder import read_text_encoder

PROMPT = "a red circle above a blue star"


@pytest.fixture(scope="module")
def diffusers() -> Any:
    module = pytest.importorskip("diffusers")
    module.logging.set_verbosity_error()
    module.utils.logging.disable_progress_bar()
    return module


@pytest.fixture(scope="module")
def folder(diffusers: Any, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion of random weights with our text tower, saved without it and completed by us."""
    folder = tmp_path_factory.mktemp("pipelines") / "tiny"
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, attention_head_dim=4, cross_attention_dim=64,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, latent_channels=4)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=None, tokenizer=None, unet=unet,
        scheduler=diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    diptych.load(tiny_model, engine="pytorch", device="cpu").save_text_encoder(folder)
    return folder


def opened(diffusers: Any, folder: Path) -> Any:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_a_pipeline_runs_with_our_text_encoder(diffusers: Any, folder: Path) -> None:
    pipeline, tower = opened(diffusers, folder), read_text_encoder(folder)
    with torch.no_grad():
        states = tower.network().states(torch.from_numpy(tower.tokenizer()([PROMPT], fill_context=True).ids))
        positive, negative = pipeline.encode_prompt(PROMPT, "cpu", 1, True, negative_prompt="")
    torch.testing.assert_close(positive, states, rtol=0, atol=1e-5)
    assert not torch.allclose(positive, negative)

    def run(prompt: str) -> np.ndarray:
        generator = torch.Generator().manual_seed(7)
        return pipeline(prompt, num_inference_steps=2, guidance_scale=4, generator=generator, output_type="np").images

    first = run(PROMPT)
    assert first.shape == (1, 8, 8, 3)
    assert np.isfinite(first).all()
    assert np.array_equal(first, run(PROMPT))
    assert not np.array_equal(first, run("a green square"))
