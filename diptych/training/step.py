"""One optimizer step on one batch: forward, backward, clipping, update, moving average."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.data.loading.loader import Batch
from diptych.media.preprocessing import Preprocess
from diptych.text.tokenizer import Tokenizer
from diptych.training.config import TrainConfig, peak_rates, schedule
from diptych.training.diagnostics.not_finite import find_non_finite
from diptych.training.diagnostics.plateau import StepEvidence
from diptych.training.finetuning.caption_vectors import CaptionVectors
from diptych.training.objectives.regions import region_targets
from diptych.training.objectives.targets import identify
from diptych.training.optim.ema import update_ema
from diptych.training.optim.precision import AUTOCAST
from diptych.training.parallel.accumulate import backward
from diptych.training.parallel.distributed import LossResult
from diptych.training.parallel.sharding import clip_gradients
from diptych.training.state import TrainingState


class StepResult(NamedTuple):
    """The losses of a step, the gradient's norm before clipping, and AdamW's learning rate."""

    losses: LossResult
    gradient_norm: float
    lr: float


class OptimizerStep:
    """Takes steps on a `TrainingState`."""

    def __init__(self, config: TrainConfig, state: TrainingState, tokenizer: Tokenizer, preprocess: Preprocess):
        self.config, self.state, self.tokenizer, self.preprocess = config, state, tokenizer, preprocess
        self.device = state.device
        has_vectors = config.lock_text and not state.is_sharded
        self.captions = CaptionVectors(state.network, AUTOCAST[config.precision]) if has_vectors else None

    def take(self, batch: Batch, progress: float) -> StepResult:
        """One step; `progress`, 0 to 1, sets the learning rates. Raises FloatingPointError if the loss or the gradient
        is not finite."""
        config, state = self.config, self.state
        state.network.train()
        share = schedule(progress, config.warmup)
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * group["peak_lr"]
        state.network.zero_grad(set_to_none=True)
        losses = self.backward(batch)
        for optimizer in state.optimizers:
            state.scaler.unscale_(optimizer)
        norm = clip_gradients(state.network.parameters(), config.clip_norm).item()
        self._require_finite(losses.loss.item(), norm, batch)
        if math.isfinite(norm):  # otherwise float16's search for a loss scale skips the step, for all optimizers
            for optimizer in state.optimizers:
                state.scaler.step(optimizer)
        state.scaler.update()
        state.network.clamp_logit_scale()
        if config.ema:
            # With a constant decay the random start would stay in the average for long: the decay grows with the steps.
            steps = state.progress.steps
            update_ema(state.average, state.network, min(config.ema, (1 + steps) / (10 + steps)))
        return StepResult(losses, norm, share * config.lr)

    def backward(self, batch: Batch) -> LossResult:
        """The losses of a batch, with their gradients added to the parameters'."""
        tokens = self.tokenizer(batch.captions, truncate=True)
        self.state.progress.cut += tokens.truncated
        ids = torch.from_numpy(tokens.ids).to(self.device)
        self.state.progress.add_words([*batch.captions, *(region.phrase for each in batch.regions for region in each)])
        return backward(
            self.state.forward,
            torch.from_numpy(batch.pixels),
            self.captions(batch.captions, ids) if self.captions else ids,
            identify(batch.owners, batch.captions, batch.picture_ids),
            micro_batches=self.config.accumulate,
            autocast=AUTOCAST[self.config.precision],
            factor=self.state.scaler.scale(torch.ones((), device=self.device)),  # type: ignore[arg-type]
            prepare=self.prepared,
            regions=region_targets(
                batch.regions, self.state.network, self.tokenizer, self.config.region_weight, self.device
            ),
        )

    def plateau_causes(self, batch: Batch, losses: LossResult, progress: float) -> list[str]:
        """Sentences on why the loss stays at chance level, if it does; none during warm-up."""
        # Each process would call its towers by itself, which sharded towers do not allow.
        if progress < self.config.warmup or self.state.is_sharded:
            return []
        plateau = self.state.plateau
        if not plateau.is_stuck(self.state.progress.steps, losses.loss.item(), losses.chance):
            return []
        ids = torch.from_numpy(self.tokenizer(batch.captions, truncate=True).ids).to(self.device)
        pixels = self.prepared(torch.from_numpy(batch.pixels))
        return plateau.causes(StepEvidence(pixels, ids, batch.captions, peak_rates(self.config)))

    def prepared(self, pixels: Tensor) -> Tensor:
        """uint8 (n, h, w, 3) -> normalised (n, 3, h, w), on the device, where it is fastest; stored features -> float32
        of the same shape."""
        if pixels.is_floating_point():
            return pixels.to(self.device).float()
        x = pixels.to(self.device).permute(0, 3, 1, 2).float()
        spec = self.preprocess
        mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (spec.mean, spec.std))
        return ((x / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def _require_finite(self, loss: float, norm: float, batch: Batch) -> None:
        """Raise FloatingPointError, with the origin, before a step that would make weights NaN. In float16 an infinite
        gradient is part of the search for a loss scale, until that is 1: the step is skipped."""
        scaler = self.state.scaler
        is_searching = scaler.is_enabled() and scaler.get_scale() > 1
        if math.isfinite(loss) and (math.isfinite(norm) or is_searching):
            return
        pixels = self.prepared(torch.from_numpy(batch.pixels))
        origin = find_non_finite(self.state.network, pixels, lambda: self.backward(batch))
        raise FloatingPointError(
            f"at step {self.state.progress.steps + 1} the loss is {loss} and the gradient's norm {norm}. {origin} "
            f"({', '.join(f'{name} is {rate:g}' for name, rate in peak_rates(self.config).items())}, precision "
            f"{self.config.precision})"
        )
