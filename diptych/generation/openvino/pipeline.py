"""Draws pictures with a trained generator, without PyTorch and diffusers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from diptych.checkpoint.weights.files import read_json
from diptych.engines.openvino import Precision
from diptych.errors import ArgumentError, CheckpointError
from diptych.generation.noise import COLOURS, noise_of
from diptych.generation.openvino.denoiser import OpenVINODenoiser, read_denoiser
from diptych.generation.openvino.files import check_generator
from diptych.generation.openvino.words import NumpyWordReader, read_words
from diptych.generation.steps import NoiseSchedule, Sampler, schedule_of

if TYPE_CHECKING:
    from jaxtyping import UInt8

MOST_GUIDANCE, MOST_COUNT = 100, 1024


class Drawn(NamedTuple):
    """Pictures (n, size, size, 3) uint8, and for each of some steps what they were then, (steps, n, size, size, 3)."""

    pictures: UInt8[np.ndarray, "n size size 3"]
    strip: UInt8[np.ndarray, "steps n size size 3"]

    def images(self) -> list[Image.Image]:
        """The pictures, as PIL's."""
        return [Image.fromarray(each) for each in self.pictures]


class OpenVINOPipeline(NamedTuple):
    """What a generator's folder holds, ready to draw."""

    denoiser: OpenVINODenoiser
    schedule: NoiseSchedule
    read: NumpyWordReader

    @property
    def size_px(self) -> int:
        """The side of its pictures."""
        return self.denoiser.sizes.size_px

    def draw(
        self,
        prompts: Sequence[str],
        *,
        guidance: float = 4.0,
        steps: int = 30,
        seed: int = 0,
        negative: str = "",
        sampler: Sampler = "dpm",
        truncate: bool = False,
        shown: int = 0,
        on_step: Callable[[int, int], None] = lambda done, total: None,
        watch: Callable[[int, UInt8[np.ndarray, "n size size 3"]], None] | None = None,
    ) -> Drawn:
        """A picture of each prompt. Picture number i begins with the noise of seed + i, whatever the others are.

        `negative` are words to keep away from, instead of none; `shown` is how many of the steps are kept for a strip.
        Up to a guidance of 1 there is none. `watch` is called after each step with its number, from 1, and what the
        pictures are by then; what it raises ends the drawing. Raises ArgumentError for numbers outside their range,
        TokenizerError for a prompt that is too long for the tower, unless `truncate` cuts it.
        """
        _check_numbers(guidance, len(prompts))
        plan = self.schedule.plan(sampler, steps)
        words = self.read(prompts, truncate=truncate)
        without = self.read([negative] * len(prompts), truncate=truncate) if guidance > 1 else None
        predict = self.denoiser.predictor(words, without, guidance, plan.timesteps)
        noisy = noise_of([seed + number for number in range(len(prompts))], self.size_px)
        kept, moments = list[np.ndarray](), set(np.linspace(0, steps - 1, shown).round().astype(int).tolist())
        for number in range(steps):
            if number in moments:
                kept.append(_pixels(noisy))
            noisy = plan.step(number, predict(noisy, number), noisy)
            on_step(number + 1, steps)
            if watch is not None:
                watch(number + 1, _pixels(noisy))
        pictures = _pixels(noisy)
        strip = np.stack([*kept, pictures]) if shown else np.empty((0, *pictures.shape), np.uint8)
        return Drawn(pictures, strip)


def read_pipeline(folder: str | os.PathLike[str], *, precision: Precision = "float32") -> OpenVINOPipeline:
    """The generator in a folder as training writes it. `precision` is "float32", or "bfloat16" on a CPU that has it.

    Raises CheckpointError with what is wrong: another pipeline, one that works on latents, a setting that is not
    supported, or weights that do not fit or are not finite."""
    folder = Path(folder)
    check_generator(folder)
    schedule = folder / "scheduler" / "scheduler_config.json"
    denoiser, read = read_denoiser(folder / "unet", precision=precision), read_words(folder)
    if denoiser.sizes.colours != COLOURS or denoiser.sizes.words_width != read.width:
        raise CheckpointError(
            f"{folder}: its denoiser draws {denoiser.sizes.colours} colours from states of "
            f"{denoiser.sizes.words_width} numbers; wanted {COLOURS}, and {read.width}, as its text encoder gives."
        )
    return OpenVINOPipeline(denoiser, schedule_of(read_json(schedule), str(schedule)), read)


def _check_numbers(guidance: float, count: int) -> None:
    """Raise ArgumentError unless each can be drawn with."""
    if not 0 <= guidance <= MOST_GUIDANCE:
        raise ArgumentError(
            f"guidance={guidance:g}; it is from 0 to {MOST_GUIDANCE}, and up to 1 there is none.", argument="guidance"
        )
    if not 1 <= count <= MOST_COUNT:
        raise ArgumentError(f"{count} pictures at a time; they are from 1 to {MOST_COUNT:,}.", argument="count")


def _pixels(pictures: np.ndarray) -> UInt8[np.ndarray, "n h w 3"]:
    """(n, 3, h, w) in [-1, 1] as (n, h, w, 3) uint8."""
    return np.ascontiguousarray(((pictures.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1))
