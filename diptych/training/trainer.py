"""One training run, from pairs to a model folder.

`train` opens the run's folder and starts a `Trainer`, whose `run` is the loop. `setup` opens data and model, `step`
takes one optimizer step, `state` is the content of a checkpoint, `validation` evaluates, and `run/` has the files and
signals of a run.
"""

import time
from collections import Counter
from collections.abc import Generator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from diptych.checkpoint import save_folder
from diptych.data.loading.decoding import BadSample
from diptych.data.loading.loader import Batch, Loader
from diptych.engines.pytorch import choose_device
from diptych.scoring import metrics
from diptych.text.known_words import WORDS_FILE, words_text
from diptych.training.config import TrainConfig
from diptych.training.diagnostics.monitor import Monitor, Step
from diptych.training.finetuning.forgetting import Forgetting
from diptych.training.finetuning.frozen_features import FeatureMaker, is_locked
from diptych.training.finetuning.lora import merged_state
from diptych.training.finetuning.pretrained import Pretrained
from diptych.training.finetuning.savings import Savings
from diptych.training.parallel import distributed
from diptych.training.parallel.distributed import ProcessInfo
from diptych.training.parallel.named_tensors import AVERAGE, NETWORK
from diptych.training.parallel.sharding import full_state
from diptych.training.run import checkpoints
from diptych.training.run.folder import open_run_folder, removed_if_empty, with_precision, write_settings
from diptych.training.run.seen_data import note_data
from diptych.training.run.sharded_checkpoints import ShardedWriter
from diptych.training.run.signals import SignalHandler
from diptych.training.run.skipped import SkippedLog
from diptych.training.setup import from_model, mixture, open_sources, set_up
from diptych.training.state import TrainingState
from diptych.training.step import OptimizerStep, StepResult
from diptych.training.summary import first_lines, last_lines
from diptych.training.validation import Validation


class TrainResult(NamedTuple):
    """The model folder, the last loss (smoothed), recall on the validation pairs (None without any), the training
    samples that could not be used, by key, and for a fine-tuned model the measures of forgetting."""

    folder: Path
    loss: float
    retrieval: metrics.Retrieval | None
    skipped: dict[str, BadSample]
    forgetting: Forgetting | None = None


def train(config: TrainConfig, *, resume: bool = False, quiet: bool = False) -> TrainResult:
    """Train with `config` and save a model folder in OUT/model. The same call works alone and under torchrun.

    With `resume` the run in `config.out` continues from its last checkpoint, or starts if there is none. On a CPU the
    weights equal those of an uninterrupted run bit for bit, if the run is paced by `epochs` and the number of PyTorch's
    threads is the same.

    Raises DataError if the pairs cannot be read; ValueError if settings contradict each other, OUT has a run already,
    or the resumed run had other settings; FloatingPointError if the loss is not finite; OSError if a checkpoint cannot
    be written; WorkerLostError if another process ends or is silent. Ctrl-C and SIGTERM write a checkpoint, then raise
    KeyboardInterrupt.
    """
    timeout = timedelta(seconds=config.timeout_s)
    process, device = distributed.init_process_group_from_env(choose_device(config.device), timeout)
    config = with_precision(config, device, resume)
    out = distributed.broadcast_object(open_run_folder(config, resume))
    torch.manual_seed(config.seed)
    checkpoint, lines = distributed.broadcast_object(_resumed(out) if resume else (None, []))
    if warning := distributed.shared_store_warning():
        lines.append(warning)
    if checkpoint and not checkpoint.exists():
        raise FileNotFoundError(f"process {process.rank} does not see {checkpoint}; put out= where all read it.")
    opened = Monitor(out, quiet=quiet, writes=process.rank == 0)
    with removed_if_empty(out, config.out is None), opened as monitor, SignalHandler(monitor.log) as stop:
        for line in lines:
            monitor.log(line)
        with distributed.lost_workers_named():
            result = Trainer(config, monitor, device, process, out, checkpoint).run(stop)
    distributed.barrier()
    return result


def _resumed(out: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint to continue from, and sentences for the log."""
    if not (checkpoint := checkpoints.newest(out)):
        return None, [f"{out} has no checkpoint to resume from: the run starts"]
    return checkpoint, checkpoints.passed_over(out)


class StepDecision(NamedTuple):
    """A decision between two steps, the same in all processes: the progress of the run (0 to 1), the reason to end it
    early, whether a checkpoint is due (and none is being written), and why one could not be written."""

    progress: float
    stop_reason: str | None
    checkpoint_due: bool
    failure: str | None = None


class Trainer:
    """A run: its data, its state, and the loop over both."""

    def __init__(
        self, config: TrainConfig, monitor: Monitor, device: torch.device, process: ProcessInfo, out: Path,
        checkpoint: Path | None = None,
    ):  # fmt: skip
        self.config, self.monitor, self.device, self.process, self.out = config, monitor, device, process, out
        saved = checkpoints.load(checkpoint) if checkpoint else None
        sources = open_sources(config)
        network, self.tokenizer, self.preprocess, self.known = set_up(config, sources, checkpoint)
        size_px = self.preprocess.size_px
        self.loader = Loader(
            mixture(sources, config, size_px), config.batch_size, size_px, config.captions_per_image, config.seed,
            config.threads, rank=process.rank, world_size=process.world_size, workers=config.workers,
            max_bad=config.max_bad, phrases=config.region_weight > 0,
        )  # fmt: skip
        self.validation = Validation.open(config, self.preprocess) if config.val else None
        if not (config.shard and process.world_size > 1):  # weights to be sharded stay on the CPU until then
            network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pretrained = self._load_pretrained(network, checkpoint)
        self.state = TrainingState(network, config, device, process)
        self.optimizer_step = OptimizerStep(config, self.state, self.tokenizer, self.preprocess)
        self.features = self._feature_maker() if is_locked(config) else None
        self.savings: Savings | None = None
        self._log_start(first_lines(config, sources, network, self.preprocess, device, process))
        torch.manual_seed(config.seed + process.rank)  # for dropout; the weights are initialised
        if checkpoint and saved:
            if note := self.state.restore(saved, self.loader, checkpoint / checkpoints.SHARDS):
                monitor.log(note)
            monitor.resume(self.state.progress.steps)
            monitor.log(f"continues after step {self.state.progress.steps}")
        self.sharded_writer = ShardedWriter(out) if process.world_size > 1 else None
        self.skipped = SkippedLog(out, self.loader.bad, monitor.log)
        self.data_wait_s = 0.0
        self.clock_s = self.saved_s = time.monotonic()

    def _load_pretrained(self, network: torch.nn.Module, checkpoint: Path | None) -> Pretrained | None:
        """The model that the run started from, if it is to be compared or interpolated with the result."""
        config = self.config
        if checkpoint and config.init:
            network = from_model(config.init, config.image_size, config.activation, config.stride).network
        return Pretrained.of_run(config, network, self.validation, self.tokenizer, self.preprocess, self.device)  # type: ignore[arg-type]

    def _feature_maker(self) -> FeatureMaker:
        normalise, network = self.optimizer_step.prepared, self.state.network
        return FeatureMaker(
            self.config, network, self.loader, self.preprocess, normalise, self.monitor, self.process, self.out
        )

    def _log_start(self, lines: list[str]) -> None:
        for each in self.pretrained.probe.sets if self.pretrained else ():
            self.monitor.log(each.describe())
        for line in lines:
            self.monitor.log(line)
        if self.validation and (left_out := self.validation.left_out()):
            self.monitor.log(f"{self.config.val}: {left_out}")
        if self.state.note:
            self.monitor.log(self.state.note)

    def run(self, stop: SignalHandler | None = None) -> TrainResult:
        """Train to the end, then evaluate and save. Raises KeyboardInterrupt after a stop request, with a checkpoint
        written."""
        stop = stop or SignalHandler()
        if self.process.rank == 0:
            write_settings(self.out, self.config)
            note_data(self.out, self.config.data, self.config.init)
        if self.features and self._decide(stop).progress < 1:
            self._make_features(self.features, stop)
        # Closed on every exit: an error's traceback would keep the generator and the loader's processes alive.
        with closing(self.loader.batches(self.state.position)) as batches:
            decision = self._decide(stop)
            while decision.progress < 1:
                started_s = time.monotonic()
                if (batch := self._next_batch(batches, stop)) is None:
                    self._stop_early(self._decide(stop).stop_reason)
                self.step(batch, decision.progress)
                if self.savings and (line := self.savings.add_step(time.monotonic() - started_s)):
                    self.monitor.log(line)
                if self.process.rank == 0:
                    self.skipped.update()
                epoch, rest = divmod(self.state.progress.steps, self.loader.batches_per_epoch)
                decision = self._decide(stop)
                if decision.progress < 1 and self.validation and not rest and epoch % self.config.eval_every == 0:
                    self.evaluate()
                if decision.stop_reason:
                    self._stop_early(decision.stop_reason)
                if decision.checkpoint_due:
                    self.checkpoint(wait=False)
        return self._finish()

    def _make_features(self, maker: FeatureMaker, stop: SignalHandler) -> None:
        """Have the locked tower encode every picture once, if that is possible. The run's clock does not count it."""
        steps = self.state.progress.steps
        left = None if self.config.minutes is not None else self._total_steps() - steps
        self.savings = maker.make(lambda: stop.requested is not None, is_resumed=steps > 0, steps_left=left)
        self.clock_s = self.saved_s = time.monotonic()
        if self.process.rank == 0:
            self.skipped.update()
        if not self.savings and (reason := self._decide(stop).stop_reason):
            self._stop_early(reason)

    def _decide(self, stop: SignalHandler) -> StepDecision:
        """Decide for all processes. Progress and checkpoints follow rank 0; any process can stop the run."""
        now_s = time.monotonic()
        self.state.progress.elapsed_s += now_s - self.clock_s
        self.clock_s = now_s
        due = now_s - self.saved_s > self.config.checkpoint_s or self.process.rank > 0
        writer = self.sharded_writer
        local = StepDecision(self._progress(), stop.requested, due and not (writer and writer.is_running))
        decisions = distributed.all_gather_object(local._replace(failure=writer.failure() if writer else None))
        if writer and (failure := next((each.failure for each in decisions if each.failure), None)):
            raise writer.not_saved(failure)
        reason = next((each.stop_reason for each in decisions if each.stop_reason), None)
        is_due = all(each.checkpoint_due for each in decisions)
        return decisions[0]._replace(stop_reason=reason, checkpoint_due=is_due)

    def _progress(self) -> float:
        """The share of the run that is done: by the clock if `minutes` is set, else by steps."""
        if self.config.minutes is not None:
            return min(1.0, self.state.progress.elapsed_s / (60 * self.config.minutes))
        return min(1.0, self.state.progress.steps / max(1, self._total_steps())) if self.config.epochs else 1.0

    def _total_steps(self) -> int:
        return round(self.config.epochs * self.loader.batches_per_epoch)

    def _next_batch(self, batches: Generator[Batch], stop: SignalHandler) -> Batch | None:
        """The next batch; None after a stop request, even while the batch is awaited. Several processes get the request
        at different times, so they all wait for their batch."""
        start_s = time.monotonic()
        is_alone = self.process.world_size == 1
        batch = stop.run_unless_requested(lambda: next(batches)) if is_alone else next(batches)
        if batch is None:
            return None
        self.data_wait_s = time.monotonic() - start_s
        self.state.position = batch.position
        return batch

    def step(self, batch: Batch, progress: float) -> None:
        """One optimizer step, recorded; `progress` is 0 to 1."""
        result = self.optimizer_step.take(batch, progress)
        self._record_step(result, progress)
        for line in self.optimizer_step.plateau_causes(batch, result.losses, progress):
            self.monitor.log(line)

    def _record_step(self, result: StepResult, progress: float) -> None:
        state, losses = self.state, result.losses
        state.progress.add_step(losses.loss.item())
        steps = state.progress.steps
        self.monitor.step(
            Step(
                step=steps, progress=progress, epoch=steps / self.loader.batches_per_epoch, loss=losses.loss.item(),
                smoothed=state.progress.loss, lr=result.lr, scale=state.network.logit_scale.exp().item(),
                norm=result.gradient_norm, data_wait_s=self.data_wait_s, pictures=self.config.batch_size,
                chance=losses.chance, region_loss=None if losses.regions is None else losses.regions.item(),
            )
        )  # fmt: skip

    def evaluate(self) -> metrics.Retrieval:
        """Recall of the averaged weights on the validation pairs."""
        assert self.validation is not None
        steps = self.state.progress.steps
        result = self.validation.measure(
            self.state.average, self.tokenizer, self.preprocess, self.device, is_locked=self.config.lock_image
        )
        self.monitor.evaluated(result, step=steps, epoch=steps / self.loader.batches_per_epoch)
        return result

    def checkpoint(self, *, wait: bool = True) -> Path | None:
        """Write a checkpoint; every process calls it. Several write it in the background: without `wait`, None is
        returned and `_decide` raises what goes wrong."""
        rest, steps, path = self.state.to_checkpoint(self.loader), self.state.progress.steps, None
        if self.sharded_writer:
            prefix = AVERAGE if self.config.ema else NETWORK
            words = self._search_files()  # now: training goes on while the model is written

            def write(folder: Path, tensors: dict[str, Tensor]) -> None:
                self._save(folder, merged_state(tensors), words)

            self.sharded_writer.start(steps, self.state.tensors(), rest, prefix, write)
            path = self.sharded_writer.wait() if wait else None
        else:
            model = merged_state(rest["average"] or rest["network"])
            path = checkpoints.save(self.out, steps, rest, lambda folder: self._save(folder, model))
        self.saved_s = time.monotonic()
        return path

    def _stop_early(self, reason: str | None) -> NoReturn:
        if not self.state.progress.steps:
            self.monitor.log(f"{reason} before the first step: there is nothing to save")
            raise KeyboardInterrupt
        path = self.checkpoint()
        self.monitor.log(
            f"{reason} at step {self.state.progress.steps}; resume with diptych train --out {self.out} --resume, or "
            f"use the model so far: {path}"
        )
        raise KeyboardInterrupt

    def _finish(self) -> TrainResult:
        self.monitor.finish()
        if self.state.progress.steps:
            self.checkpoint()
        words = distributed.all_gather_object(self.state.progress.words)
        self.state.progress.words = sum(words, Counter())
        self.state.average.eval()  # without an average it is the network itself
        after, folder, forgetting = merged_state(full_state(self.state.average)), self.out / "model", None
        if self.process.rank == 0:  # which has the full state
            self._save(folder, self.pretrained.interpolated(after) if self.pretrained else after)
            forgetting = self.pretrained.compare(self.state.network, after) if self.pretrained else None
        distributed.barrier()
        retrieval = self.evaluate() if self.validation and not self.pretrained else None
        retrieval = forgetting.path_measures[forgetting.saved_alpha].recall if forgetting else retrieval
        for failures in distributed.all_gather_object(self.loader.failures_seen()):
            self.loader.restore_failures(failures)
        self.state.progress.cut = sum(distributed.all_gather_object(self.state.progress.cut))
        if self.process.rank == 0:
            self.skipped.finish()
            if self.features:
                self.features.remove()
        self._summarise(folder, forgetting)
        return TrainResult(folder, self.state.progress.loss, retrieval, self.loader.bad, forgetting)

    def _summarise(self, folder: Path, forgetting: Forgetting | None) -> None:
        if forgetting:
            self.monitor.log(*forgetting.table().split("\n"))
            self.monitor.log(f"saved {forgetting.save(self.out)}")
        elif self.config.init:
            self.monitor.log(
                "not measured: what was learnt (val has no pairs) and forgotten (zero_shot has no class folders)"
            )
        skipped = self.loader.reasons() if self.loader.bad else ""
        for part in (self.savings, self.optimizer_step.captions):
            if part and (line := part.summary()):
                self.monitor.log(line)
        for line in last_lines(self.state.progress, folder, skipped, self.tokenizer.context):
            self.monitor.log(line)

    def _save(self, folder: Path, state: dict[str, Tensor], search_files: dict[str, bytes] | None = None) -> None:
        model, preprocess = (self.state.network.config, state), self.preprocess.to_hugging_face()
        tokenizer = self.tokenizer
        save_folder(
            folder,
            model,
            tokenizer_json=tokenizer.to_json(),
            text_preprocessing=tokenizer.text_preprocessing,
            preprocess=preprocess,
            search_files=self._search_files() if search_files is None else search_files,
        )

    def _search_files(self) -> dict[str, bytes]:
        """The words that were seen. Reference pictures of another state of the model would not fit."""
        return {} if self.known is None else {WORDS_FILE: words_text(self.state.progress.words, self.known).encode()}
