"""One training run, from pairs to a model folder."""

import copy
import math
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from diptych.checkpoint import save_folder
from diptych.data.loading.decoding import Bad
from diptych.data.loading.loader import Batch, Loader
from diptych.engines.pytorch import choose_device
from diptych.errors import ArgumentError
from diptych.scoring import metrics
from diptych.training.config import TrainConfig, peak_rates, schedule
from diptych.training.diagnostics.monitor import Monitor, Step
from diptych.training.diagnostics.not_finite import why_not_finite
from diptych.training.diagnostics.plateau import Evidence, Plateau
from diptych.training.finetuning.forgetting import Forgetting
from diptych.training.finetuning.lora import merged_state
from diptych.training.finetuning.pretrained import Pretrained, hold
from diptych.training.objectives.regions import grounded
from diptych.training.objectives.targets import identify
from diptych.training.optim.precision import AUTOCAST
from diptych.training.optim.weight_average import update_average
from diptych.training.parallel import distributed
from diptych.training.parallel.accumulate import Contrast, backward, random_state, set_random_state
from diptych.training.parallel.compilation import compile_towers
from diptych.training.parallel.sharding import clip_gradients, full_optimizer_state, full_state, load_full, split
from diptych.training.run import checkpoints
from diptych.training.run.folder import folder_of, removed_if_empty, with_precision, write_settings
from diptych.training.run.signals import Stop
from diptych.training.run.skipped import SkippedNames
from diptych.training.setup import from_model, introduction, mixture, open_sources, optimizers, set_dropout, start
from diptych.training.validation import Validation


class TrainResult(NamedTuple):
    """The model folder, the last loss (smoothed), recall on the validation pairs (None without any), the training
    samples that could not be used, by key, and of a model that existed before what it learnt and forgot."""

    folder: Path
    loss: float
    retrieval: metrics.Retrieval | None
    skipped: dict[str, Bad]
    forgetting: Forgetting | None = None


def train(config: TrainConfig, *, resume: bool = False, quiet: bool = False) -> TrainResult:
    """Train by `config` and leave a model folder in OUT/model. The same call works alone and under torchrun.

    With `resume` the run in `config.out` goes on at its last checkpoint, or begins where none is; on a processor its
    weights are those of a run that was never interrupted, bit for bit, as long as `epochs` pace it and the number of
    PyTorch's threads is the same.

    Raises DataError where the pairs cannot be read, ValueError where the configuration contradicts itself, OUT holds a
    run already, or the run to be resumed was another; FloatingPointError where the loss is no number any more; OSError
    where a checkpoint cannot be written. Ctrl-C and SIGTERM write a checkpoint, then raise KeyboardInterrupt.
    """
    place, device = distributed.join(choose_device(config.device))
    config = with_precision(config, device, resume)
    out = distributed.from_first(folder_of(config, resume))
    torch.manual_seed(config.seed)
    checkpoint = distributed.from_first(checkpoints.newest(out)) if resume else None
    if checkpoint and not checkpoint.exists():
        raise FileNotFoundError(f"process {place.rank} does not see {checkpoint}; put out= where all read it.")
    shown = Monitor(out, quiet=quiet, writes=place.rank == 0)
    with removed_if_empty(out, config.out is None), shown as monitor, Stop(monitor.say) as stop:
        if resume and not checkpoint:
            monitor.say(f"{out} has no checkpoint to go on from: the run begins")
        trainer = Trainer(config, monitor, device, place, out, checkpoint)
        result = trainer.run(stop)
    distributed.wait_for_all()
    return result


@dataclass
class Tally:
    """What a run has done so far, over all its sittings. `loss` is smoothed over some twenty steps."""

    steps: int = 0
    cut: int = 0
    loss: float = math.nan
    elapsed_s: float = 0.0


class Moment(NamedTuple):
    """What all processes take alike between two steps: how much of the run is done (0 to 1), why it is to end early,
    and whether a checkpoint is due."""

    progress: float
    stop: str | None
    due: bool


class Trainer:
    """The state of a run: both towers, their average, the optimizer, and where in the data it stands."""

    def __init__(
        self, config: TrainConfig, monitor: Monitor, device: torch.device, place: distributed.Place, out: Path,
        checkpoint: Path | None = None,
    ):  # fmt: skip
        self.config, self.monitor, self.device, self.place, self.out = config, monitor, device, place, out
        saved = checkpoints.load(checkpoint) if checkpoint else None
        sources = open_sources(config)
        self.network, self.tokenizer, self.preprocess = start(config, sources, checkpoint)
        size_px = self.preprocess.size_px
        self.loader = Loader(
            mixture(sources, config, size_px), config.batch_size, size_px, config.captions_per_image, config.seed,
            config.threads, rank=place.rank, world=place.world, workers=config.workers, max_bad=config.max_bad,
            phrases=config.places > 0,
        )  # fmt: skip
        self.validation = Validation.open(config, self.preprocess) if config.val else None
        self.splits = config.shard and place.world > 1
        if not self.splits:  # what will be split stays on the processor until then, and in rows
            self.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._remember(checkpoint)
        hold(self.network, config)
        set_dropout(self.network, config.drop_path, config.dropout, config.patch_dropout)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False) if config.ema else self.network
        for line in introduction(config, sources, self.network, self.preprocess, device, place):
            monitor.say(line)
        if config.val and self.validation and (left_out := self.validation.left_out()):
            monitor.say(f"{config.val}: {left_out}")
        if said := distributed.share_batch_norm(self.network, device):
            monitor.say(said)
        self.network.set_gradient_checkpointing(config.gradient_checkpointing)
        if config.compile:
            compile_towers(self.network)
        self.forward = distributed.wrap(self.network, device, shard=self.splits, precision=AUTOCAST[config.precision])
        if self.splits and config.ema:
            split(self.average, device, AUTOCAST[config.precision])
        self.optimizers = optimizers(self.network, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.tally, self.position, self.waited_s = Tally(), None, 0.0
        self.plateau = Plateau(self.network)
        torch.manual_seed(config.seed + place.rank)  # the weights are made: from here on only dropout draws
        if saved:
            self._restore(saved)
        self.skipped = SkippedNames(out, self.loader.bad, monitor.say)
        self.looked_s = self.saved_s = time.monotonic()

    def _remember(self, checkpoint: Path | None) -> None:
        """Keep the model that the run began with, where it is to be compared or mixed with what it becomes."""
        config, network = self.config, self.network
        if checkpoint and config.init:
            network = from_model(config.init, config.image_size, config.activation, config.stride).network
        self.pretrained = Pretrained.of_run(
            config, network, self.validation, self.tokenizer, self.preprocess, self.device
        )
        for each in self.pretrained.probe.sets if self.pretrained else ():
            self.monitor.say(each.describe())

    def run(self, stop: Stop | None = None) -> TrainResult:
        """Train to the end, then evaluate and save. KeyboardInterrupt where `stop` was asked, with a checkpoint
        written."""
        stop = stop or Stop()
        if self.place.rank == 0:
            write_settings(self.out, self.config)
        # Closed whatever happens: an error's traceback would keep the generator, and with it the loader's processes.
        with closing(self.loader.batches(self.position)) as batches:
            now = self._now(stop)
            while now.progress < 1:
                if (batch := self._next(batches, stop)) is None:
                    self._end_early(self._now(stop).stop)
                self.step(batch, now.progress)
                if self.place.rank == 0:
                    self.skipped.name()
                epoch, rest = divmod(self.tally.steps, self.loader.batches_per_epoch)
                now = self._now(stop)
                if now.progress < 1 and self.validation and not rest and epoch % self.config.eval_every == 0:
                    self.evaluate()
                if now.stop:
                    self._end_early(now.stop)
                if now.due:
                    self.checkpoint()
        return self._finish()

    def _now(self, stop: Stop) -> Moment:
        looked_s = time.monotonic()
        self.tally.elapsed_s += looked_s - self.looked_s
        self.looked_s = looked_s
        due = looked_s - self.saved_s > self.config.checkpoint_s
        first, *others = distributed.from_all(Moment(self._progress(), stop.asked, due))
        return first._replace(stop=next((each.stop for each in (first, *others) if each.stop), None))

    def _progress(self) -> float:
        """How much of the run is done, 0 to 1: by the clock where `minutes` is set, else by steps."""
        if self.config.minutes is not None:
            return min(1.0, self.tally.elapsed_s / (60 * self.config.minutes))
        total = round(self.config.epochs * self.loader.batches_per_epoch)
        return min(1.0, self.tally.steps / max(1, total)) if self.config.epochs else 1.0

    def _next(self, batches: Generator[Batch], stop: Stop) -> Batch | None:
        """The next batch; None where the run is told to end before it is there, after which there are no more. Of
        several processes each would be told at another moment, and so all wait for their batch."""
        asked_s = time.monotonic()
        batch = next(batches) if self.place.world > 1 else stop.unless_asked(lambda: next(batches))
        if batch is None:
            return None
        self.waited_s = time.monotonic() - asked_s
        self.position = batch.position
        return batch

    def step(self, batch: Batch, progress: float) -> None:
        """One optimizer step on one batch."""
        self.network.train()
        share = schedule(progress, self.config.warmup)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * group["peak_lr"]
        self.network.zero_grad(set_to_none=True)
        contrast = self._backward(batch)
        loss, chance = contrast.loss.item(), contrast.chance
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = clip_gradients(self.network.parameters(), self.config.clip_norm).item()
        self._require_finite(loss, norm, batch)
        if math.isfinite(norm):  # else a step of float16's search for a scale is left out, by all optimizers
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
        self.scaler.update()
        self.network.clamp_logit_scale()
        if self.config.ema:
            # A fixed rate would hold on to the random start for long: the average warms up with the number of steps.
            steps = self.tally.steps
            update_average(self.average, self.network, min(self.config.ema, (1 + steps) / (10 + steps)))
        self._account(contrast, norm, share * self.config.lr, progress)
        if progress >= self.config.warmup and not self.splits:  # split towers are called by all processes or by none
            self._ask_why(batch, loss, chance)

    def _backward(self, batch: Batch) -> Contrast:
        """The loss of a batch and that of guessing, with its gradients added to the parameters'."""
        tokens = self.tokenizer(batch.captions, truncate=True)
        self.tally.cut += tokens.cut
        return backward(
            self.forward,
            torch.from_numpy(batch.pixels),
            torch.from_numpy(tokens.ids).to(self.device),
            identify(batch.owners, batch.captions, batch.picture_ids),
            chunks=self.config.accumulate,
            autocast=AUTOCAST[self.config.precision],
            factor=self.scaler.scale(torch.ones((), device=self.device)),  # type: ignore[arg-type]
            prepare=self._pixels,
            grounded=grounded(batch.regions, self.network, self.tokenizer, self.config.places, self.device),
        )

    def _pixels(self, pixels: Tensor) -> Tensor:
        """uint8 (n, h, w, 3) -> normalised (n, 3, h, w), on the device, where the arithmetic is cheapest."""
        x = pixels.to(self.device).permute(0, 3, 1, 2).float()
        spec = self.preprocess
        mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (spec.mean, spec.std))
        return ((x / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def _require_finite(self, loss: float, norm: float, batch: Batch) -> None:
        """Stop before a step that would leave no number in the weights, and say where it came from. Under float16 an
        infinite gradient is part of the search for a loss scale, until that is 1: the step is left out."""
        is_searching = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        if math.isfinite(loss) and (math.isfinite(norm) or is_searching):
            return
        pixels = self._pixels(torch.from_numpy(batch.pixels))
        why = why_not_finite(self.network, pixels, lambda: self._backward(batch))
        raise FloatingPointError(
            f"at step {self.tally.steps + 1} the loss is {loss} and the gradient's norm {norm}. {why} "
            f"({', '.join(f'{name} is {rate:g}' for name, rate in peak_rates(self.config).items())}, precision "
            f"{self.config.precision})"
        )

    def _ask_why(self, batch: Batch, loss: float, chance: float) -> None:
        """Say why the loss stays where guessing is, if it does."""
        if not self.plateau.is_suspicious(self.tally.steps, loss, chance):
            return
        ids = torch.from_numpy(self.tokenizer(batch.captions, truncate=True).ids).to(self.device)
        pixels = self._pixels(torch.from_numpy(batch.pixels))
        for line in self.plateau.causes(Evidence(pixels, ids, batch.captions, peak_rates(self.config))):
            self.monitor.say(line)

    def _account(self, contrast: Contrast, norm: float, rate: float, progress: float) -> None:
        """Keep the books and tell the person."""
        tally, loss = self.tally, contrast.loss.item()
        tally.steps += 1
        tally.loss = loss if math.isnan(tally.loss) else 0.95 * tally.loss + 0.05 * loss
        self.monitor.step(
            Step(
                step=tally.steps, progress=progress, epoch=tally.steps / self.loader.batches_per_epoch, loss=loss,
                smoothed=tally.loss, lr=rate, scale=self.network.logit_scale.exp().item(), norm=norm,
                waited_s=self.waited_s, pictures=self.config.batch_size, chance=contrast.chance,
                places=None if contrast.places is None else contrast.places.item(),
            )
        )  # fmt: skip

    def evaluate(self) -> metrics.Retrieval:
        """Recall of the averaged weights on the validation pairs."""
        assert self.validation is not None
        result = self.validation.measure(self.average, self.tokenizer, self.preprocess, self.device)
        self.monitor.evaluated(result, step=self.tally.steps, epoch=self.tally.steps / self.loader.batches_per_epoch)
        return result

    def checkpoint(self) -> Path | None:
        """Write all that the run needs to go on; every process calls it, and the first one writes."""
        state = self._state()
        path = None
        if self.place.rank == 0:
            model = merged_state(state["average"] or state["network"])
            path = checkpoints.save(self.out, self.tally.steps, state, lambda folder: self._save(folder, model))
        distributed.wait_for_all()
        self.saved_s = time.monotonic()
        return path

    def _state(self) -> dict[str, Any]:
        mine = {"position": self.position, "random": random_state(self.device), "met": self.loader.met()}
        return {
            "network": full_state(self.network),
            "average": full_state(self.average) if self.config.ema else {},
            "optimizers": [full_optimizer_state(self.network, each) for each in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "tally": asdict(self.tally),
            "plateau": self.plateau.state(),
            "processes": distributed.from_all(mine),
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        load_full(self.network, saved["network"], self.optimizers, saved["optimizers"])
        if self.config.ema:
            load_full(self.average, saved["average"])
        self.scaler.load_state_dict(saved["scaler"])
        self.tally = Tally(**saved["tally"])
        self.plateau.restore(saved["plateau"])
        processes = saved["processes"]
        self.position = processes[min(self.place.rank, len(processes) - 1)]["position"]
        if self.config.shard and len(processes) != self.place.world:
            raise ArgumentError(f"this run is split over {len(processes)} processes; resume it with as many.")
        if len(processes) == self.place.world:
            mine = processes[self.place.rank]
            set_random_state(mine["random"], self.device)
            self.loader.remember(mine["met"])
        else:
            self.monitor.say(
                f"{len(processes)} processes before, {self.place.world} now: the data go on where they were, dropout "
                "draws other numbers"
            )
        self.monitor.resume(self.tally.steps)
        self.monitor.say(f"goes on after step {self.tally.steps}")

    def _end_early(self, why: str | None) -> NoReturn:
        if not self.tally.steps:
            self.monitor.say(f"{why} before the first step: there is nothing to save")
            raise KeyboardInterrupt
        path = self.checkpoint()
        self.monitor.say(
            f"{why} at step {self.tally.steps}; go on with diptych train --out {self.out} --resume, or try the model "
            f"so far: {path}"
        )
        raise KeyboardInterrupt

    def _finish(self) -> TrainResult:
        self.monitor.finish()
        if self.tally.steps:
            self.checkpoint()
        self.average.eval()  # without an average it is the network itself
        after, folder, forgetting = merged_state(full_state(self.average)), self.out / "model", None
        if self.place.rank == 0:  # where the whole state is
            self._save(folder, self.pretrained.mixed(after) if self.pretrained else after)
            forgetting = self.pretrained.compare(self.network, after) if self.pretrained else None
        retrieval = self.evaluate() if self.validation and not self.pretrained else None
        retrieval = forgetting.line[forgetting.saved].recall if forgetting else retrieval
        for met in distributed.from_all(self.loader.met()):  # each process has met its own
            self.loader.remember(met)
        self.tally.cut = sum(distributed.from_all(self.tally.cut))
        if self.place.rank == 0:
            self.skipped.finish()
        self._conclude(folder, forgetting)
        return TrainResult(folder, self.tally.loss, retrieval, self.loader.bad, forgetting)

    def _conclude(self, folder: Path, forgetting: Forgetting | None) -> None:
        """The last lines of a run."""
        if forgetting:
            self.monitor.say(*forgetting.table().split("\n"))
            self.monitor.say(f"saved {forgetting.save(self.out)}")
        elif self.config.init:
            self.monitor.say(
                "not measured: what was learnt (val names no pairs) and forgotten (zero_shot no class folders)"
            )
        loss = f", loss {self.tally.loss:.3f}" if self.tally.steps else ""
        self.monitor.say(f"{self.tally.steps} steps{loss} · saved {folder}")
        if self.loader.bad:
            self.monitor.say(f"skipped samples: {self.loader.reasons()}")
        if self.tally.cut:
            cut, most = self.tally.cut, self.tokenizer.context
            self.monitor.say(f"{cut:,} captions were longer than {most} tokens and were cut")

    def _save(self, folder: Path, state: dict[str, Tensor]) -> None:
        model, words, spec = (self.network.config, state), self.tokenizer, self.preprocess.to_hugging_face()
        save_folder(folder, model, tokenizer_json=words.to_json(), reading=words.reading, preprocess=spec)
