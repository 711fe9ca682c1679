"""The denoiser, diffusers' UNet2DConditionModel at a small size, and the noise that it learns to predict.

A picture x in [-1, 1] becomes sqrt(a_t) x + sqrt(1 - a_t) e with noise e; a_t falls with t along the cosine schedule
of Nichol and Dhariwal 2021, section 3.2. The network predicts v = sqrt(a_t) e - sqrt(1 - a_t) x (Salimans and Ho 2022,
section 4), or e itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diptych.extras import require
from diptych.generation.config import GenerateConfig, Prediction

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from jaxtyping import Float, Int

_GROUPS = 8
_ATTENDS_BELOW_PX = 8  # resolutions up to this one attend to the words and to all of the picture


def denoiser(config: GenerateConfig, width: int) -> UNet2DConditionModel:
    """A UNet with random weights that reads states of `width` numbers."""
    require("a generator", "torch", "diffusers")
    from diffusers import UNet2DConditionModel

    attends = [
        config.size_px >> level <= max(_ATTENDS_BELOW_PX, config.size_px // 4) for level in range(len(config.channels))
    ]
    down = tuple("CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attends)
    up = tuple("CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends))
    # diffusers' attention_head_dim is the number of heads, each of 32 channels here
    heads = tuple(max(1, channels // 32) for channels in config.channels)
    return UNet2DConditionModel(
        sample_size=config.size_px, in_channels=3, out_channels=3, down_block_types=down, up_block_types=up,
        block_out_channels=config.channels, layers_per_block=1, cross_attention_dim=width, norm_num_groups=_GROUPS,
        attention_head_dim=heads,  # type: ignore[arg-type]
    )  # fmt: skip


def scheduler(config: GenerateConfig) -> DDIMScheduler:
    """The noise schedule, as the library's sampler that begins at the last step and ends at the first."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=config.noise_steps, beta_schedule="squaredcos_cap_v2", prediction_type=config.prediction,
        clip_sample=False, set_alpha_to_one=True, steps_offset=1, timestep_spacing="trailing",
    )  # fmt: skip


def noised(
    pictures: Float[Tensor, "n 3 h w"], noise: Float[Tensor, "n 3 h w"], kept: Float[Tensor, " n"]
) -> Float[Tensor, "n 3 h w"]:
    """Pictures with noise, of which the share `kept`, the schedule's a_t, of the variance is the picture's."""
    kept = kept[:, None, None, None]
    return kept.sqrt() * pictures + (1 - kept).sqrt() * noise


def target(
    pictures: Float[Tensor, "n 3 h w"], noise: Float[Tensor, "n 3 h w"], kept: Float[Tensor, " n"], kind: Prediction
) -> Float[Tensor, "n 3 h w"]:
    """What the network has to predict."""
    kept = kept[:, None, None, None]
    return noise if kind == "epsilon" else kept.sqrt() * noise - (1 - kept).sqrt() * pictures


def weights(kept: Float[Tensor, " n"], kind: Prediction, floor: float, limit: float) -> Float[Tensor, " n"]:
    """The weight of each noise level in the loss, in terms of the prediction's error. That of the picture's error is
    the signal-to-noise ratio, at most `limit` (Hang et al. 2023, section 3.4) and at least `floor` (as the truncated
    weights of Salimans and Ho 2022, section 4, whose floor is 1).

    The floor matters: where the noise is strongest, a small picture's ground, the number of things and how they lie
    are decided. Predicted noise has none, for there its error says almost nothing about the picture.
    """
    snr = kept / (1 - kept).clamp(min=1e-8)
    return snr.clamp(max=limit) / snr if kind == "epsilon" else snr.clamp(min=floor, max=limit) / (snr + 1)


def loss(
    predicted: Float[Tensor, "n 3 h w"], wanted: Float[Tensor, "n 3 h w"], weight: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """The weighted mean square of the errors."""
    return ((predicted.float() - wanted) ** 2).mean((1, 2, 3)).mul(weight).mean()


def times(count: int, noise_steps: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """`count` noise levels, one of each of as many equal parts of what is drawn from: their mean varies less.

    With u uniform in 0..1, 1 - (1 - u)^2 of the schedule: the strong noise where the words alone decide comes often. In
    3,400 steps of uniform levels a small generator had learnt shapes and colours and nothing of the ground's words.
    """
    parts = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return ((1 - (1 - parts) ** 2) * noise_steps).long().clamp(max=noise_steps - 1)
