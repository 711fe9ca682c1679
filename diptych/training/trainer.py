"""One training run, from pairs to a model folder."""

import copy
import dataclasses
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diptych import metrics
from diptych.data.loader import Batch, Loader, Part, picture_of
from diptych.data.sources import DataError, Source, all_captions, open_source
from diptych.engines.pytorch import choose_device, describe_device
from diptych.images import ImageError, Preprocess, normalise, resize_and_crop
from diptych.nets.clip import CLIP, CLIPConfig
from diptych.nets.loss import sigmoid_loss, softmax_loss
from diptych.nets.presets import preset
from diptych.tokenizer import Tokenizer
from diptych.training.monitor import Monitor, duration
from diptych.training.recipe import TrainConfig, learning_rate
from diptych.training.scenes import SCENE_AUGMENTATION, SceneSource, photographs

SAVE_EVERY_S = 120


class TrainResult(NamedTuple):
    """The model folder, the last loss, and recall on the validation pairs (None without any)."""

    folder: Path
    loss: float
    retrieval: metrics.Retrieval | None


@dataclass
class Validation:
    """Held-out pairs, ready for the towers; held in memory as uint8."""

    pixels: np.ndarray
    captions: list[str]
    owners: np.ndarray


def train(config: TrainConfig, *, quiet: bool = False) -> TrainResult:
    """Train by `config` and leave a model folder in `config.out`/model.

    Raises DataError where the pairs cannot be read, ValueError where the configuration contradicts itself.
    """
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    with Monitor(out, quiet=quiet) as monitor:
        trainer = Trainer(config, monitor)
        return trainer.run()


class Trainer:
    """The state of a run: both towers, their average, the optimizer, and where in the data it stands."""

    def __init__(self, config: TrainConfig, monitor: Monitor):
        self.config, self.monitor = config, monitor
        self.device = choose_device(config.device)
        source = [open_source(spec) for spec in config.data]
        self.tokenizer, self.network = self._start(source)
        size_px = self.network.config.image.image_size
        self.preprocess = Preprocess(size_px=size_px)
        self.loader = Loader(
            mixture(source, config, size_px), config.batch_size, size_px, config.captions_per_image, config.seed, config.threads
        )
        self.validation = read_validation(open_source(config.val), self.preprocess) if config.val else None
        self.network.to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        set_dropout(self.network, config.drop_path, config.dropout)
        self.optimizer = torch.optim.AdamW(
            decay_groups(self.network, config.weight_decay), lr=config.lr, betas=config.betas, eps=1e-6, fused=True
        )
        self.steps, self.loss, self.waited_s = 0, math.nan, 0.0
        self.started_s = self.saved_s = time.monotonic()
        pictures = sum(len(s) for s in source)
        parameters = sum(p.numel() for p in self.network.parameters())
        monitor.say(
            f"{pictures:,} pictures · {config.model}, {parameters / 1e6:.1f}M parameters, {size_px} px · "
            f"{describe_device(self.device)}, {config.precision} · {config.batch_size} pictures a step"
        )

    def _start(self, sources: list[Source]) -> tuple[Tokenizer, CLIP]:
        """A new tokenizer and network, or those of `init` at this run's resolution."""
        config = self.config
        if config.init:
            return from_model(config.init, config.image_size)
        captions = (caption for source in sources for caption in all_captions(source))
        tokenizer = Tokenizer.train(captions, vocab_size=config.vocab_size, context=config.context)
        return tokenizer, CLIP(sized(preset(config.model), config.image_size, tokenizer))

    def run(self) -> TrainResult:
        retrieval = None
        for epoch in range(10**9):
            batches = self.loader.epoch(epoch)
            while (batch := self._next(batches)) is not None:
                self.step(batch)
                if self.progress() >= 1:
                    break
            done = self.progress() >= 1
            if self.validation is not None and (done or (epoch + 1) % self.config.eval_every == 0):
                retrieval = self.evaluate(epoch)
            if done or time.monotonic() - self.saved_s > SAVE_EVERY_S:
                self.save_state()
            if done:
                break
        if self.loader.bad:
            self.monitor.say(f"skipped samples, by reason: {self.loader.bad}")
        return TrainResult(self.save_model(retrieval), self.loss, retrieval)

    def progress(self) -> float:
        """How much of the run is done, 0 to 1: by the clock where `minutes` is set, else by steps."""
        if self.config.minutes is not None:
            return min(1.0, (time.monotonic() - self.started_s) / (60 * self.config.minutes))
        return min(1.0, self.steps / max(1, round(self.config.epochs * self.loader.batches_per_epoch)))

    def _next(self, batches) -> Batch | None:
        asked_s = time.monotonic()
        batch = next(batches, None)
        self.waited_s += time.monotonic() - asked_s
        return batch

    def step(self, batch: Batch) -> None:
        """One optimizer step on one batch."""
        self.network.train()
        rate = learning_rate(self.progress(), self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        ids = torch.from_numpy(self.tokenizer(batch.captions, truncate=True).ids).to(self.device)
        loss = self._loss(self._pixels(batch.pixels), ids, self._matches(batch))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.network.clamp_logit_scale()
        update_average(self.average, self.network, min(self.config.ema, (1 + self.steps) / (10 + self.steps)))
        self.steps += 1
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss became {value} at step {self.steps}; lower lr ({self.config.lr}) or use precision='fp32'.")
        self.loss = value if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * value
        self._report(rate, len(batch.pixels), len(batch.captions))

    def _loss(self, pixels: Tensor, ids: Tensor, matches: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            output = self.network(pixels, ids)
        if output.bias is not None:
            return sigmoid_loss(output.image, output.text, output.scale, output.bias, matches=matches)
        return softmax_loss(output.image, output.text, output.scale, matches=matches)

    def _matches(self, batch: Batch) -> Tensor:
        owners = torch.from_numpy(batch.owners).to(self.device)
        return owners[None, :] == torch.arange(len(batch.pixels), device=self.device)[:, None]

    def _pixels(self, pixels: np.ndarray) -> Tensor:
        """uint8 (n, h, w, 3) -> normalised (n, 3, h, w) on the device, where the arithmetic is cheapest."""
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (self.preprocess.mean, self.preprocess.std))
        return ((x / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def _report(self, rate: float, pictures: int, texts: int) -> None:
        elapsed_s = time.monotonic() - self.started_s
        per_s = self.steps * pictures / elapsed_s
        scale = self.network.logit_scale.exp().item()
        baseline = (math.log(pictures) + math.log(texts)) / 2
        waiting = self.waited_s / elapsed_s
        self.monitor.step(
            self.progress(),
            f"step {self.steps} · loss {self.loss:.3f} (chance {baseline:.2f}) · {per_s:.0f} pictures/s · "
            f"waiting {waiting:.0%} · scale {scale:.1f}",
        )
        if self.steps % 10 == 0:
            self.monitor.record(
                step=self.steps, elapsed_s=round(elapsed_s, 1), loss=self.loss, lr=rate, scale=scale,
                pictures_per_s=per_s, waiting=waiting,
            )  # fmt: skip

    @torch.inference_mode()
    def evaluate(self, epoch: int) -> metrics.Retrieval:
        """Recall of the averaged weights on the validation pairs."""
        assert self.validation is not None
        data, network = self.validation, self.average
        images, texts = [], []
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            for start in range(0, len(data.pixels), 250):
                pixels = torch.from_numpy(normalise(data.pixels[start : start + 250], self.preprocess)).to(self.device)
                images.append(F.normalize(network.encode_image(pixels).float(), dim=-1).cpu())
            for start in range(0, len(data.captions), 1000):
                ids = torch.from_numpy(self.tokenizer(data.captions[start : start + 1000], truncate=True).ids)
                texts.append(F.normalize(network.encode_text(ids.to(self.device)).float(), dim=-1).cpu())
        result = metrics.retrieval(torch.cat(images).numpy(), torch.cat(texts).numpy(), data.owners)
        elapsed_s = time.monotonic() - self.started_s
        self.monitor.say(
            f"{duration(elapsed_s)} epoch {epoch + 1} step {self.steps} loss {self.loss:.3f} · recall@1/5/10 "
            f"text to picture {spell(result.text_to_image)} · picture to text {spell(result.image_to_text)}"
        )
        self.monitor.record(
            step=self.steps, elapsed_s=round(elapsed_s, 1), epoch=epoch + 1,
            text_to_image=result.text_to_image, image_to_text=result.image_to_text,
        )  # fmt: skip
        return result

    def save_state(self) -> None:
        """Everything that was learnt so far, replaced in one move."""
        path = Path(self.config.out) / "state.pt"
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "steps": self.steps,
            "tokenizer": self.tokenizer.to_json(),
            "config": repr(self.network.config),
        }
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)
        self.saved_s = time.monotonic()

    def save_model(self, retrieval: metrics.Retrieval | None) -> Path:
        from diptych.checkpoint.folder import save_folder

        folder = Path(self.config.out) / "model"
        save_folder(
            folder, self.average, tokenizer_json=self.tokenizer.to_json(), preprocess=self.preprocess.to_hugging_face()
        )
        self.monitor.say(f"saved {folder}")
        return folder


def from_model(init: str, image_size: int | None) -> tuple[Tokenizer, CLIP]:
    """The tokenizer and the network of a model that exists, for pictures of `image_size`."""
    checkpoint = read(init)
    if checkpoint.tokenizer_json is None:
        raise ValueError(f"{init} came without its tokenizer.json; training needs one. Put it beside the weights.")
    if image_size:
        config, state = resized(checkpoint.config, checkpoint.state, image_size)
        checkpoint = checkpoint._replace(config=config, state=state)
    return Tokenizer.from_json(checkpoint.tokenizer_json, **text_options(checkpoint.config.text)), build(checkpoint)


def sized(config: CLIPConfig, image_size: int | None, tokenizer: Tokenizer) -> CLIPConfig:
    """`config` for another picture size, and for the vocabulary that the tokenizer really has."""
    image = dataclasses.replace(config.image, image_size=image_size) if image_size else config.image
    end_id = tokenizer.end_id
    assert end_id is not None
    text = dataclasses.replace(
        config.text, vocab_size=tokenizer.vocab_size, context=tokenizer.context, pool="end", end_id=end_id
    )
    return dataclasses.replace(config, image=image, text=text)


def mixture(sources: list[Source], config: TrainConfig, size_px: int) -> list[Part]:
    """Every picture once an epoch, and drawn scenes for the share that is asked for."""
    parts = [Part(source, len(source), config.augmentation) for source in sources]
    count = round(config.scenes / (1 - config.scenes) * sum(len(source) for source in sources))
    if count:
        scene_px = round(1.25 * size_px)
        parts.append(Part(SceneSource(scene_px, photographs(sources[0], scene_px)), count, SCENE_AUGMENTATION))
    return parts


def read_validation(source: Source, spec: Preprocess) -> Validation:
    """All pairs of a source as the tower sees them. Broken pictures are left out with their captions."""
    pixels, captions, owners = [], [], []
    for index in range(len(source)):
        sample = source[index]
        try:
            picture = resize_and_crop(picture_of(sample, spec.size_px), spec)
        except ImageError:
            continue
        owners += [len(pixels)] * len(sample.captions)
        captions += sample.captions
        pixels.append(np.asarray(picture))
    if not pixels:
        raise DataError("no validation picture could be read.")
    return Validation(np.stack(pixels), captions, np.array(owners))


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Matrices decay; gains, biases, the class token and the logit scale do not (Radford et al. 2021, section 2.5)."""
    matrices = [p for p in network.parameters() if p.ndim >= 2]
    rest = [p for p in network.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def set_dropout(network: CLIP, drop_path: float, dropout: float) -> None:
    """Stochastic depth in both towers, rising linearly with depth; dropout in the text tower's branches."""
    for tower in (network.image, network.text):
        blocks = [module for module in tower.modules() if hasattr(module, "drop_path")]
        for depth, block in enumerate(blocks):
            block.drop_path = drop_path * (depth + 1) / len(blocks)  # type: ignore[assignment]
    for block in network.text.transformer.blocks:
        block.dropout = dropout  # type: ignore[assignment]


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, keep: float) -> None:
    """average = keep * average + (1 - keep) * network, batch-norm statistics included."""
    mine, theirs = list(average.state_dict().values()), list(network.state_dict().values())
    floats = [(a, b) for a, b in zip(mine, theirs, strict=True) if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - keep)
    for a, b in zip(mine, theirs, strict=True):
        if not a.is_floating_point():
            a.copy_(b)


def spell(recall: metrics.Recall) -> str:
    return " / ".join(f"{value:.1f}" for value in recall)
