"""Trains a generator: noise is added to pictures and predicted, with the words of their captions at hand."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from diptych.errors import ArgumentError, CheckpointError, Setting
from diptych.generation import denoiser as noise
from diptych.generation.config import GenerateConfig
from diptych.generation.training.pairs import Pairs
from diptych.generation.words import WordReader, Words
from diptych.training.optim.ema import update_ema
from diptych.training.optim.muon import Muon
from diptych.training.run import checkpoints
from diptych.training.run.metrics_file import append_metrics, to_line
from diptych.training.run.signals import SignalHandler

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

WEIGHTS = "diffusion_pytorch_model.safetensors"
_LOGGED_STEPS = 20
_UNMASKED = 0.5  # the share of batches whose padding is attended to, as pipelines that know no mask do


class Batch(NamedTuple):
    """Pictures (n, 3, size, size) in [-1, 1] and the words of their captions, some of which are dropped."""

    pictures: Tensor
    words: Words


def batch(config: GenerateConfig, pairs: Pairs, reader: WordReader, step: int) -> Batch:
    """The batch of one step: the same whenever it is asked for."""
    first = step * config.batch_size
    some = [pairs(first + row) for row in range(config.batch_size)]
    dropped = np.random.default_rng((config.seed, step)).random(len(some)) < config.drop_caption
    captions = ["" if drop else pair.caption for drop, pair in zip(dropped, some, strict=True)]
    pixels = torch.from_numpy(np.stack([pair.pixels for pair in some])).permute(0, 3, 1, 2)
    return Batch(pixels.contiguous().float() / 127.5 - 1, reader(captions))


@dataclass
class Trainer:
    """A run: the denoiser, its moving average, the optimizers and how far it is."""

    config: GenerateConfig
    pairs: Pairs
    reader: WordReader
    out: Path
    write: Callable[[Path, UNet2DConditionModel], object]
    log: Callable[[dict[str, float]], None] = lambda row: None
    step: int = 0
    resumed_step: int | None = None
    elapsed_s: float = 0.0
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.manual_seed(self.config.seed)
        self.device = torch.device(self.config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.network = noise.denoiser(self.config, self.reader.width)
        nn.Module.to(self.network, self.device)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizers = _optimizers(self.network, self.config)
        self.kept = noise.scheduler(self.config).alphas_cumprod.to(self.device)

    def run(self) -> tuple[bool, float]:
        """Train to the end, or to the first Ctrl-C or SIGTERM, and write a checkpoint. Returns whether it came to its
        end, and the mean loss of the last 100 steps, not a number if there was none."""
        saved_s, began_s, before_s = time.monotonic(), time.monotonic(), self.elapsed_s
        file, _ = append_metrics(self.out, self.resumed_step)
        with file, SignalHandler() as signals:
            while self.step < self.config.steps and not signals.requested and not self._is_late():
                self.losses.append(self._train(batch(self.config, self.pairs, self.reader, self.step)))
                self.elapsed_s = before_s + time.monotonic() - began_s
                self.step += 1
                self._tell(file)
                if time.monotonic() - saved_s > self.config.checkpoint_s:
                    self.save()
                    saved_s = time.monotonic()
            self.save()
        return signals.requested is None, float(np.mean(self.losses[-100:])) if self.losses else float("nan")

    def save(self) -> Path:
        """Write a checkpoint: the averaged generator, usable as it is, and what resumes the run."""
        state = {
            "step": self.step, "elapsed_s": self.elapsed_s, "network": self.network.state_dict(),
            "average": self.average.state_dict(), "optimizers": [each.state_dict() for each in self.optimizers],
        }  # fmt: skip
        return checkpoints.save(self.out, self.step, state, lambda folder: self.write(folder, self.average))

    def resume(self) -> None:
        """Go on from the newest checkpoint. Raises ArgumentError if there is none."""
        if (last := checkpoints.newest(self.out)) is None:
            raise ArgumentError([f"{self.out} has no checkpoint. Start it without ", Setting("resume", True), "."])
        state = checkpoints.load(last)
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for each, saved in zip(self.optimizers, state["optimizers"], strict=True):
            each.load_state_dict(saved)
        self.resumed_step = self.step

    def start_from(self, generator: Path) -> None:
        """Take the denoiser's weights of a generator's folder. Raises CheckpointError unless they fit this network."""
        source = generator / "unet" / WEIGHTS
        try:
            state = {name: tensor.float() for name, tensor in load_file(source).items()}
            self.network.load_state_dict(state)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{source} cannot be read: {error}") from error
        except RuntimeError as error:
            wanted = f"{self.config.size_px} px and channels {self.config.channels}"
            raise CheckpointError(f"{source} has not the tensors of a denoiser of {wanted}: {error}") from error
        self.average.load_state_dict(state)

    def _train(self, some: Batch) -> float:
        config, rng = self.config, torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)
        times = noise.times(len(some.pictures), config.noise_steps, rng).to(self.device)
        noisy = torch.randn(some.pictures.shape, generator=rng).to(self.device)
        is_masked = torch.rand((), generator=rng) >= _UNMASKED
        pictures, kept = some.pictures.to(self.device), self.kept[times]
        predicted = self.network(
            noise.noised(pictures, noisy, kept), times, encoder_hidden_states=some.words.states.to(self.device),
            encoder_attention_mask=some.words.is_text.to(self.device) if is_masked else None,
        ).sample  # fmt: skip
        wanted = noise.target(pictures, noisy, kept, config.prediction)
        weight = noise.weights(kept, config.prediction, config.snr_floor, config.snr_limit)
        value = noise.loss(predicted, wanted, weight)
        value.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for each in self.optimizers:
            for group in each.param_groups:
                group["lr"] = group["peak_lr"] * rate(config, self.step)
            each.step()
            each.zero_grad()
        update_ema(self.average, self.network, min(config.ema, (1 + self.step) / (10 + self.step)))
        return value.item()

    def _is_late(self) -> bool:
        return self.config.minutes is not None and self.elapsed_s > 60 * self.config.minutes

    def _tell(self, file: TextIO) -> None:
        if self.step % _LOGGED_STEPS and self.step != self.config.steps:
            return
        loss, lr = float(np.mean(self.losses[-_LOGGED_STEPS:])), self.config.lr * rate(self.config, self.step - 1)
        row = {"step": self.step, "elapsed_s": round(self.elapsed_s, 1), "loss": loss, "lr": lr}
        file.write(to_line(row))
        file.flush()
        self.log(row)


def rate(config: GenerateConfig, step: int) -> float:
    """The share of the peak learning rate at a step: up over the warm-up, flat, down to 0 over the cool-down."""
    left = (config.steps - step) / max(1.0, config.cooldown * config.steps)
    return min(1.0, (step + 1) / max(1, config.warmup), left)


def _optimizers(network: nn.Module, config: GenerateConfig) -> list[torch.optim.Optimizer]:
    """Muon for matrices and convolutions between hidden spaces, AdamW for the rest."""
    named = list(network.named_parameters())
    hidden = [p for name, p in named if p.ndim >= 2 and not name.startswith(("conv_in", "conv_out"))]
    ids = {id(p) for p in hidden}
    others = [p for _, p in named if id(p) not in ids]
    muon = Muon([{"params": hidden, "peak_lr": config.muon_lr}], lr=config.muon_lr)
    adam = torch.optim.AdamW(
        [{"params": others, "peak_lr": config.lr}], lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0
    )
    return [muon, adam]
