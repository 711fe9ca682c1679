"""One training run, from pairs to a model folder."""

import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from diptych import metrics
from diptych.checkpoint import save_folder
from diptych.data.loader import Batch, Loader
from diptych.data.sources import open_source
from diptych.engines.pytorch import choose_device, describe_device
from diptych.images import Preprocess
from diptych.training.distributed import Place, from_first, join, leave, whole_loss
from diptych.training.monitor import Monitor, duration
from diptych.training.recipe import TrainConfig, learning_rate
from diptych.training.start import decay_groups, mixture, network_and_tokenizer, set_dropout
from diptych.training.validation import Validation

SAVE_EVERY_S = 120
RECORD_EVERY = 10


class TrainResult(NamedTuple):
    """The model folder, the last loss (smoothed), and recall on the validation pairs (None without any)."""

    folder: Path
    loss: float
    retrieval: metrics.Retrieval | None


def train(config: TrainConfig, *, quiet: bool = False) -> TrainResult:
    """Train by `config` and leave a model folder in `config.out`/model. The same call works alone and under torchrun.

    Raises DataError where the pairs cannot be read, ValueError where the configuration contradicts itself,
    FloatingPointError where the loss is no number any more.
    """
    device = choose_device(config.device)
    place = join(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", place.local_rank)
    Path(config.out).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    with Monitor(Path(config.out), quiet=quiet, writes=place.rank == 0) as monitor:
        result = Trainer(config, monitor, device, place).run()
    leave()
    return result


class Trainer:
    """The state of a run: both towers, their average, the optimizer, and where in the data it stands."""

    def __init__(self, config: TrainConfig, monitor: Monitor, device: torch.device, place: Place):
        self.config, self.monitor, self.device, self.place = config, monitor, device, place
        sources = [open_source(spec) for spec in config.data]
        self.network, self.tokenizer = network_and_tokenizer(config, sources)
        size_px = self.network.config.image.image_size
        self.preprocess = Preprocess(size_px=size_px)
        self.loader = Loader(
            mixture(sources, config, size_px), config.batch_size, size_px, config.captions_per_image,
            config.seed, config.threads, rank=place.rank, world=place.world,
        )  # fmt: skip
        self.validation = Validation.read(open_source(config.val), self.preprocess) if config.val else None
        self.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        set_dropout(self.network, config.drop_path, config.dropout)
        self.forward = DistributedDataParallel(self.network) if place.world > 1 else self.network
        self.optimizer = torch.optim.AdamW(
            decay_groups(self.network, config.weight_decay), lr=config.lr, betas=config.betas, eps=1e-6, fused=True
        )
        self.cut = 0
        self.steps, self.pictures, self.loss, self.waited_s = 0, 0, math.nan, 0.0
        self.started_s = self.saved_s = time.monotonic()
        monitor.say(
            f"{sum(len(s) for s in sources):,} pictures · {config.init or config.model}, "
            f"{sum(p.numel() for p in self.network.parameters()) / 1e6:.1f}M parameters, {size_px} px · "
            f"{describe_device(device)}{f' x {place.world}' * (place.world > 1)}, {config.precision} · "
            f"{config.batch_size} pictures a step"
        )

    def run(self) -> TrainResult:
        """Train to the end, then evaluate and save."""
        epoch, progress = 0, 0.0
        while progress < 1:
            progress = self._epoch(epoch)
            epoch += 1
            if progress < 1 and self.validation is not None and epoch % self.config.eval_every == 0:
                self.evaluate(epoch)
            if time.monotonic() - self.saved_s > SAVE_EVERY_S:
                self.save_state()
        if self.loader.bad:
            self.monitor.say(f"skipped samples, by reason: {self.loader.bad}")
        if self.cut:
            self.monitor.say(f"{self.cut:,} captions were longer than {self.tokenizer.context} tokens and were cut")
        return TrainResult(self.save_model(), self.loss, self.evaluate(epoch) if self.validation is not None else None)

    def _epoch(self, epoch: int) -> float:
        batches = self.loader.epoch(epoch)
        progress = self.progress()
        while progress < 1 and (batch := self._next(batches)) is not None:
            self.step(batch, progress)
            progress = self.progress()
        return progress

    def progress(self) -> float:
        """How much of the run is done, 0 to 1: by the clock where `minutes` is set, else by steps."""
        if self.config.minutes is None:
            total = round(self.config.epochs * self.loader.batches_per_epoch)
            return min(1.0, self.steps / total) if total else 1.0
        passed = (time.monotonic() - self.started_s) / (60 * self.config.minutes)
        return from_first(min(1.0, passed), self.device)

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        asked_s = time.monotonic()
        batch = next(batches, None)
        self.waited_s += time.monotonic() - asked_s
        return batch

    def step(self, batch: Batch, progress: float) -> None:
        """One optimizer step on one batch."""
        self.network.train()
        rate = learning_rate(progress, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.network.clamp_logit_scale()
        # A fixed rate would hold on to the random start for long: the average warms up with the number of steps.
        update_average(self.average, self.network, min(self.config.ema, (1 + self.steps) / (10 + self.steps)))
        self.steps += 1
        self.pictures += self.config.batch_size
        self._account(loss.item(), rate, batch, progress)

    def _loss(self, batch: Batch) -> Tensor:
        tokens = self.tokenizer(batch.captions, truncate=True)
        self.cut += tokens.cut
        ids = torch.from_numpy(tokens.ids).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            output = self.forward(self._pixels(batch.pixels), ids)
        return whole_loss(output, torch.from_numpy(batch.owners).to(self.device))

    def _pixels(self, pixels: np.ndarray) -> Tensor:
        """uint8 (n, h, w, 3) -> normalised (n, 3, h, w), on the device, where the arithmetic is cheapest."""
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float()
        mean, std = (
            torch.tensor(v, device=self.device).view(3, 1, 1) for v in (self.preprocess.mean, self.preprocess.std)
        )
        return ((x / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def _account(self, loss: float, rate: float, batch: Batch, progress: float) -> None:
        """Keep the books and tell the person."""
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {loss} at step {self.steps}. Lower lr (it is {self.config.lr}) or train in float32."
            )
        self.loss = loss if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * loss
        elapsed_s = time.monotonic() - self.started_s
        row = {
            "loss": self.loss,
            "lr": rate,
            "scale": self.network.logit_scale.exp().item(),
            "pictures_per_s": self.pictures / elapsed_s,
            "waiting": self.waited_s / elapsed_s,
        }
        chance = math.log(self.place.world) + (math.log(len(batch.pixels)) + math.log(len(batch.captions))) / 2
        self.monitor.step(
            progress,
            f"step {self.steps} · loss {self.loss:.3f} (chance {chance:.2f}) · {row['pictures_per_s']:.0f} pictures/s "
            f"· waiting for data {row['waiting']:.0%} · scale {row['scale']:.1f}",
        )
        if self.steps % RECORD_EVERY == 0:
            self.monitor.record(step=self.steps, elapsed_s=round(elapsed_s, 1), **row)

    def evaluate(self, epoch: int) -> metrics.Retrieval:
        """Recall of the averaged weights on the validation pairs."""
        assert self.validation is not None
        result = self.validation.measure(self.average, self.tokenizer, self.preprocess, self.device)
        elapsed_s = time.monotonic() - self.started_s
        self.monitor.say(
            f"{duration(elapsed_s)} epoch {epoch} step {self.steps} loss {self.loss:.3f} · recall@1/5/10 "
            f"text to picture {spell(result.text_to_image)} · picture to text {spell(result.image_to_text)}"
        )
        self.monitor.record(
            step=self.steps, elapsed_s=round(elapsed_s, 1), epoch=epoch,
            text_to_image=result.text_to_image, image_to_text=result.image_to_text,
        )  # fmt: skip
        return result

    def save_state(self) -> None:
        """What was learnt so far, replaced in one move, so that a run that is cut off leaves something."""
        self.saved_s = time.monotonic()
        self._save(Path(self.config.out) / "latest")

    def save_model(self) -> Path:
        """The finished model folder."""
        folder = Path(self.config.out) / "model"
        self._save(folder)
        self.monitor.say(f"saved {folder}")
        return folder

    def _save(self, folder: Path) -> None:
        if self.place.rank == 0:
            save_folder(
                folder,
                self.average,
                tokenizer_json=self.tokenizer.to_json(),
                preprocess=self.preprocess.to_hugging_face(),
            )


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, keep: float) -> None:
    """average = keep * average + (1 - keep) * network, batch-norm statistics included; counters are copied."""
    pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - keep)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)


def spell(recall: metrics.Recall) -> str:
    """Recall at 1, 5 and 10, for a line of text."""
    return " / ".join(f"{value:.1f}" for value in recall)
