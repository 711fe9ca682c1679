"""The state of a run, which steps change and checkpoints save."""

import copy
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from diptych.data.loading.loader import Loader
from diptych.errors import ArgumentError
from diptych.nets.clip import CLIP
from diptych.text.known_words import count_words
from diptych.training.config import TrainConfig
from diptych.training.diagnostics.plateau import Plateau
from diptych.training.finetuning.pretrained import freeze
from diptych.training.optim.precision import AUTOCAST
from diptych.training.parallel import distributed
from diptych.training.parallel.accumulate import random_state, set_random_state
from diptych.training.parallel.compilation import compile_towers
from diptych.training.parallel.distributed import ProcessInfo
from diptych.training.parallel.sharding import full_optimizer_state, full_state, load_full_state, shard
from diptych.training.setup import optimizers, set_dropout

MAX_WORDS = 200_000


@dataclass
class RunProgress:
    """The progress of a run over all interruptions: steps, truncated captions (`cut`), the loss smoothed over
    some twenty steps, seconds of training, and the `words` of the captions and phrases, with counts."""

    steps: int = 0
    cut: int = 0
    loss: float = math.nan
    elapsed_s: float = 0.0
    words: Counter[str] = field(default_factory=Counter)

    def add_words(self, texts: Iterable[str]) -> None:
        """Count their words. Beyond 200,000 different ones only the more frequent half is kept."""
        self.words.update(count_words(texts))
        if len(self.words) > MAX_WORDS:
            self.words = Counter(dict(self.words.most_common(MAX_WORDS // 2)))

    def add_step(self, loss: float) -> None:
        """Count a step."""
        self.steps += 1
        self.loss = loss if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * loss


class TrainingState:
    """The network, its moving average, the optimizers, the loss scale, the progress, and the position in the data."""

    def __init__(self, network: CLIP, config: TrainConfig, device: torch.device, process: ProcessInfo):
        self.config, self.device, self.process = config, device, process
        self.network = network
        freeze(network, config)
        set_dropout(network, config.drop_path, config.dropout, config.patch_dropout)
        self.average = copy.deepcopy(network).eval().requires_grad_(False) if config.ema else network
        self.note = distributed.share_batch_norm(network, device)  # a sentence for the log, or None
        network.set_gradient_checkpointing(config.gradient_checkpointing)
        if config.compile:
            compile_towers(network)
        self.is_sharded = config.shard and process.world_size > 1
        precision = AUTOCAST[config.precision]
        self.forward = distributed.wrap(network, device, sharded=self.is_sharded, precision=precision)
        if self.is_sharded and config.ema:
            shard(self.average, device, precision)
        self.optimizers = optimizers(network, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.progress, self.position = RunProgress(), None
        self.plateau = Plateau(network)

    def to_checkpoint(self, loader: Loader) -> dict[str, Any]:
        """The content of training.pt, with the loader's counts. Every process must call it."""
        local = {"position": self.position, "random": random_state(self.device), "met": loader.failures_seen()}
        return {
            "network": full_state(self.network),
            "average": full_state(self.average) if self.config.ema else {},
            "optimizers": [full_optimizer_state(self.network, each) for each in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "tally": {**vars(self.progress), "words": dict(self.progress.words)},
            "plateau": self.plateau.state(),
            "processes": distributed.all_gather_object(local),
        }

    def restore(self, saved: dict[str, Any], loader: Loader) -> str | None:
        """Continue from `to_checkpoint`. Returns a sentence for the log if the number of processes has changed. Raises
        ArgumentError if it must not."""
        load_full_state(self.network, saved["network"], self.optimizers, saved["optimizers"])
        if self.config.ema:
            load_full_state(self.average, saved["average"])
        self.scaler.load_state_dict(saved["scaler"])
        self.progress = RunProgress(**{**saved["tally"], "words": Counter(saved["tally"].get("words", {}))})
        self.plateau.restore(saved["plateau"])
        processes, rank, world_size = saved["processes"], *self.process
        self.position = processes[min(rank, len(processes) - 1)]["position"]
        if len(processes) == world_size:
            set_random_state(processes[rank]["random"], self.device)
            loader.restore_failures(processes[rank]["met"])
            return None
        if self.config.shard:
            raise ArgumentError(f"the weights of this run are sharded over {len(processes)} processes; use as many.")
        return f"{len(processes)} processes before, {world_size} now: the data continue, dropout draws other numbers"
