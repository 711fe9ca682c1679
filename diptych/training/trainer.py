"""One training run, from pairs to a model folder."""

import copy
import math
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from diptych import metrics
from diptych.checkpoint import save_folder
from diptych.data.loader import Bad, Batch, Loader
from diptych.data.sources import Source, open_source
from diptych.engines.pytorch import choose_device, describe_device
from diptych.nets.clip import CLIP
from diptych.tokenizer import Tokenizer
from diptych.training.distributed import Place, from_first, join, wait_for_all, whole_loss
from diptych.training.monitor import Monitor, duration
from diptych.training.recipe import TrainConfig, chance_loss, learning_rate
from diptych.training.start import decay_groups, mixture, set_dropout, start
from diptych.training.validation import Validation

SAVE_EVERY_S = 120
RECORD_EVERY = 10


class TrainResult(NamedTuple):
    """The model folder, the last loss (smoothed), recall on the validation pairs (None without any), and the training
    samples that could not be used, by key."""

    folder: Path
    loss: float
    retrieval: metrics.Retrieval | None
    skipped: dict[str, Bad]


def train(config: TrainConfig, *, quiet: bool = False) -> TrainResult:
    """Train by `config` and leave a model folder in OUT/model. The same call works alone and under torchrun.

    Raises DataError where the pairs cannot be read, ValueError where the configuration contradicts itself or OUT holds
    a run already, FloatingPointError where the loss is no number any more. An interrupted run leaves its averaged
    weights in OUT/latest.
    """
    place, device = join(choose_device(config.device))
    out = from_first(free_folder(config.out))
    torch.manual_seed(config.seed)
    with Monitor(out, quiet=quiet, writes=place.rank == 0) as monitor:
        trainer = Trainer(config, monitor, device, place, out)
        try:
            result = trainer.run()
        except KeyboardInterrupt:
            if trainer.steps:
                monitor.say(f"interrupted at step {trainer.steps}; the weights so far are in {trainer.save_latest()}")
            raise
    wait_for_all()
    return result


def free_folder(out: str | None) -> Path:
    """Where a run may write: `out` unless a run lies there already; the first of runs/1, runs/2, ... that is free."""
    if out is None:
        return next(path for n in range(1, 10**9) if not (path := Path("runs") / str(n)).exists())
    path = Path(out)
    if any((path / name).exists() for name in ("model", "latest", "metrics.jsonl")):
        raise ValueError(f"{path} holds a run already; name another folder with out=, or remove that one.")
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; out= wants a folder.")
    return path


class Trainer:
    """The state of a run: both towers, their average, the optimizer, and where in the data it stands."""

    def __init__(self, config: TrainConfig, monitor: Monitor, device: torch.device, place: Place, out: Path):
        self.config, self.monitor, self.device, self.place, self.out = config, monitor, device, place, out
        sources = [open_source(spec) for spec in config.data]
        self.network, self.tokenizer, self.preprocess = start(config, sources)
        size_px = self.preprocess.size_px
        self.loader = Loader(
            mixture(sources, config, size_px), config.batch_size, size_px, config.captions_per_image,
            config.seed, config.threads, rank=place.rank, world=place.world,
        )  # fmt: skip
        self.validation = Validation.read(open_source(config.val), self.preprocess) if config.val else None
        self.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self._introduce(sources)
        self.forward = self._distributed()
        set_dropout(self.network, config.drop_path, config.dropout)
        self.optimizer = torch.optim.AdamW(
            decay_groups(self.network, config.weight_decay), lr=config.lr, betas=config.betas, eps=1e-6, fused=True
        )
        self.steps, self.pictures, self.cut, self.loss, self.waited_s = 0, 0, 0, math.nan, 0.0
        self.started_s = self.saved_s = time.monotonic()

    def _introduce(self, sources: list[Source]) -> None:
        """Say what is trained on what, and what was left out."""
        config, size = self.config, sum(p.numel() for p in self.network.parameters()) / 1e6
        processes = f" x {self.place.world} processes" if self.place.world > 1 else ""
        self.monitor.say(
            f"{sum(len(source) for source in sources):,} pictures · {config.init or config.model}, "
            f"{size:.1f}M parameters, {self.preprocess.size_px} px · {describe_device(self.device)}{processes}, "
            f"{config.precision} · {config.batch_size} pictures a step · {self.out}"
        )
        for spec, source in zip(config.data, sources, strict=True):
            if source.skipped:
                self.monitor.say(f"{spec}: {spell_counts(source.skipped)} left out")
        if self.validation and self.validation.skipped:
            counts = Counter(skipped.reason for skipped in self.validation.skipped)
            self.monitor.say(
                f"{config.val}: {spell_counts(counts)} left out, the first {self.validation.skipped[0].key}"
            )

    def _distributed(self) -> nn.Module:
        """The network as it is called in training: alone, or with gradients averaged over the processes."""
        if self.place.world == 1:
            return self.network
        torch.manual_seed(self.config.seed + self.place.rank)  # the weights are made: from here on only dropout draws
        if self.device.type == "cuda":
            self.network: CLIP = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)  # type: ignore[assignment]
        elif any(isinstance(module, nn.BatchNorm2d) for module in self.network.modules()):
            self.monitor.say("batch norm sees each process's own pictures here: gradients differ from one process's")
        # The first process's tokenizer and weights are everybody's, whatever each has made.
        self.tokenizer = Tokenizer.of_tower(from_first(self.tokenizer.to_json()), self.network.config.text)
        return DistributedDataParallel(self.network)

    def run(self) -> TrainResult:
        """Train to the end, then evaluate and save."""
        epoch, progress = 0, self.progress()
        while progress < 1:
            progress = self._epoch(epoch)
            epoch += 1
            if progress < 1 and self.validation is not None and epoch % self.config.eval_every == 0:
                self.evaluate(epoch)
        folder = self.save_model()
        retrieval = self.evaluate(epoch) if self.validation is not None else None
        self.monitor.say(f"{self.steps} steps, loss {self.loss:.3f}{self._chance()} · saved {folder}")
        if self.loader.bad:
            self.monitor.say(f"skipped samples: {self.loader.reasons()}")
        if self.cut:
            self.monitor.say(f"{self.cut:,} captions were longer than {self.tokenizer.context} tokens and were cut")
        return TrainResult(folder, self.loss, retrieval, self.loader.bad)

    def _epoch(self, epoch: int) -> float:
        batches = self.loader.epoch(epoch)
        progress = self.progress()
        while progress < 1 and (batch := self._next(batches)) is not None:
            self.step(batch, progress)
            progress = self.progress()
            if time.monotonic() - self.saved_s > SAVE_EVERY_S:
                self.save_latest()
        return progress

    def progress(self) -> float:
        """How much of the run is done, 0 to 1: by the clock where `minutes` is set, else by steps."""
        if self.config.minutes is None:
            total = round(self.config.epochs * self.loader.batches_per_epoch)
            return min(1.0, self.steps / total) if total else 1.0
        passed = (time.monotonic() - self.started_s) / (60 * self.config.minutes)
        return from_first(min(1.0, passed))

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
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self._require_finite(loss.item(), norm.item())
        self.optimizer.step()
        self.network.clamp_logit_scale()
        # A fixed rate would hold on to the random start for long: the average warms up with the number of steps.
        update_average(self.average, self.network, min(self.config.ema, (1 + self.steps) / (10 + self.steps)))
        self.steps += 1
        self.pictures += self.config.batch_size
        self._account(loss.item(), rate, progress)

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

    def _require_finite(self, loss: float, norm: float) -> None:
        """Stop before a step that would leave no number in the weights."""
        if not math.isfinite(loss + norm):
            raise FloatingPointError(
                f"at step {self.steps + 1} the loss is {loss} and the gradient's norm {norm}. Lower lr (it is "
                f"{self.config.lr}) or train with precision='fp32'."
            )

    def _chance(self) -> str:
        """The loss of guessing, in words: ln of the number of candidates, both ways. Only the softmax loss has one."""
        if self.network.config.loss == "sigmoid":
            return ""
        return f" (chance {chance_loss(self.config):.2f})"

    def _account(self, loss: float, rate: float, progress: float) -> None:
        """Keep the books and tell the person."""
        self.loss = loss if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * loss
        elapsed_s = time.monotonic() - self.started_s
        row = {
            "loss": self.loss,
            "lr": rate,
            "scale": self.network.logit_scale.exp().item(),
            "pictures_per_s": self.pictures / elapsed_s,
            "waiting": self.waited_s / elapsed_s,
        }
        self.monitor.step(
            progress,
            f"step {self.steps} · loss {self.loss:.3f}{self._chance()} · {row['pictures_per_s']:.0f}/s · "
            f"waiting for data {row['waiting']:.0%} · scale {row['scale']:.1f}",
        )
        if self.steps == 1 or self.steps % RECORD_EVERY == 0:
            chance = None if self.network.config.loss == "sigmoid" else chance_loss(self.config)
            self.monitor.record(step=self.steps, elapsed_s=round(elapsed_s, 1), chance=chance, **row)

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

    def save_latest(self) -> Path:
        """What was learnt so far, as a model folder of its own, so that a run that is cut off leaves something."""
        self.saved_s = time.monotonic()
        return self._save(self.out / "latest")

    def save_model(self) -> Path:
        """The finished model folder; the last interim one goes."""
        folder = self._save(self.out / "model")
        if self.place.rank == 0:
            shutil.rmtree(self.out / "latest", ignore_errors=True)
        return folder

    def _save(self, folder: Path) -> Path:
        if self.place.rank == 0:
            folder.parent.mkdir(parents=True, exist_ok=True)
            spec = self.preprocess.to_hugging_face()
            save_folder(folder, self.average, tokenizer_json=self.tokenizer.to_json(), preprocess=spec)
        return folder


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


def spell_counts(counts: dict[str, int]) -> str:
    """{"no caption": 3} in words."""
    return ", ".join(f"{count:,} with {reason}" for reason, count in counts.items())
