"""Draws pictures: noise, from which the denoiser takes a part at each step, guided by the words.

The steps are those of DDIM without added noise (Song et al. 2021, equation 12), or of DPM-Solver++ of second order (Lu
et al. 2022, algorithm 2), as diffusers has them; the guided prediction is that of Ho and Salimans 2022 in diffusers'
terms: without words + guidance * (with words - without words), so that up to 1 there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from jaxtyping import Float, UInt8
    from torch import Tensor

    from diptych.generation.words import WordReader, Words

Sampler = Literal["ddim", "dpm"]
SAMPLERS: tuple[Sampler, ...] = ("dpm", "ddim")
MOST_STEPS, MOST_COUNT = 1000, 1024


class Denoise(Protocol):
    """The prediction (n, 3, h, w) for noisy pictures at one noise level, with the words of each."""

    def __call__(self, noisy: Tensor, time: int, words: Words) -> Tensor: ...


class Drawn(NamedTuple):
    """Pictures (n, size, size, 3) uint8, and for each of some steps what they were then, (steps, n, size, size, 3)."""

    pictures: UInt8[np.ndarray, "n size size 3"]
    strip: UInt8[np.ndarray, "steps n size size 3"]

    def images(self) -> list[Image.Image]:
        """The pictures, as PIL's."""
        return [Image.fromarray(each) for each in self.pictures]


def network_denoise(network: UNet2DConditionModel) -> Denoise:
    """Predictions by PyTorch."""

    def denoise(noisy: Tensor, time: int, words: Words) -> Tensor:
        return network(noisy, time, encoder_hidden_states=words.states, encoder_attention_mask=words.is_text).sample

    return denoise


@torch.inference_mode()
def draw(
    denoise: Denoise,
    scheduler: DDIMScheduler,
    read: WordReader,
    prompts: Sequence[str],
    *,
    size_px: int,
    guidance: float = 4.0,
    steps: int = 30,
    seed: int = 0,
    negative: str = "",
    sampler: Sampler = "dpm",
    truncate: bool = False,
    shown: int = 0,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Drawn:
    """A picture of each prompt. Picture number i begins with the noise of seed + i, whatever the others are.

    `negative` are words to keep away from, instead of none; `shown` is how many of the steps are kept for a strip.
    Raises ArgumentError for numbers outside their range, TokenizerError for a prompt that is too long for the tower.
    """
    check_numbers(guidance=guidance, steps=steps, count=len(prompts))
    words = read(prompts, truncate=truncate)
    without = read([negative] * len(prompts), truncate=truncate) if guidance > 1 else None
    noisy = noise_of([seed + number for number in range(len(prompts))], size_px)
    plan = _planned(scheduler, sampler, steps)
    kept, moments = list[np.ndarray](), set(np.linspace(0, steps - 1, shown).round().astype(int).tolist())
    for number, time in enumerate(plan.timesteps):
        if number in moments:
            kept.append(_pixels(noisy))
        predicted = _guided(denoise, noisy, int(time), words, without, guidance)
        noisy = plan.step(predicted, time, noisy).prev_sample
        on_step(number + 1, steps)
    pictures = _pixels(noisy)
    strip = np.stack([*kept, pictures]) if shown else np.empty((0, *pictures.shape), np.uint8)
    return Drawn(pictures, strip)


def check_numbers(*, guidance: float, steps: int, count: int) -> None:
    """Raise ArgumentError unless each can be drawn with."""
    if not 0 <= guidance <= 100:
        raise ArgumentError(
            f"guidance={guidance:g}; it is from 0 to 100, and up to 1 there is none.", argument="guidance"
        )
    if not 1 <= steps <= MOST_STEPS:
        raise ArgumentError(f"steps={steps}; they are from 1 to {MOST_STEPS:,}.", argument="steps")
    if not 1 <= count <= MOST_COUNT:
        raise ArgumentError(f"{count} pictures at a time; they are from 1 to {MOST_COUNT:,}.", argument="count")


def noise_of(seeds: Sequence[int], size_px: int) -> Float[Tensor, "n 3 size size"]:
    """The noise that each seed's picture begins with."""
    return torch.stack(
        [torch.randn(3, size_px, size_px, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )


def _guided(denoise: Denoise, noisy: Tensor, time: int, words: Words, without: Words | None, guidance: float) -> Tensor:
    if without is None:
        return denoise(noisy, time, words)
    both = type(words)(*(torch.cat(pair) for pair in zip(without, words, strict=True)))
    unguided, worded = denoise(torch.cat([noisy, noisy]), time, both).chunk(2)
    return unguided + guidance * (worded - unguided)


def _planned(scheduler: DDIMScheduler, sampler: Sampler, steps: int) -> DDIMScheduler:
    """A scheduler of its own for one drawing."""
    if sampler == "dpm":
        from diffusers import DPMSolverMultistepScheduler

        plan = DPMSolverMultistepScheduler.from_config(scheduler.config, final_sigmas_type="zero", thresholding=False)
    else:
        plan = type(scheduler).from_config(scheduler.config)
    plan.set_timesteps(steps)
    return plan


def _pixels(pictures: Tensor) -> np.ndarray:
    """(n, 3, h, w) in [-1, 1] as (n, h, w, 3) uint8."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
