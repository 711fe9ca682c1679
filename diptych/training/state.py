"""The state of a run, which steps change and checkpoints save."""

import copy
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.data.loading.loader import Loader
from diptych.data.loading.plan import merged_position
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
from diptych.training.parallel.named_tensors import (
    AVERAGE,
    NETWORK,
    allocate_states,
    by_name,
    copy_whole,
    named_tensors,
    parameter_names,
    share_buffers,
)
from diptych.training.parallel.sharding import shard
from diptych.training.run.sharded_checkpoints import load_into, shapes_in
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
        # The order in the checkpoint of a single process, whose optimizer counts its parameters.
        self._names = parameter_names(network, optimizers(network, config))
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
        """The content of training.pt, with the loader's counts, in one process; `tensors` are apart in several, each of
        which must call it."""
        tally = {**vars(self.progress), "words": dict(self.progress.words)}
        local = {"position": self.position, "random": random_state(self.device), "met": loader.failures_seen()}
        local |= {"cut": tally.pop("cut"), "words": tally.pop("words")}  # which each counts for itself
        whole = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict() if self.config.ema else {},
            "optimizers": [each.state_dict() for each in self.optimizers],
        }
        return (whole if self.process.world_size == 1 else {}) | {
            "scaler": self.scaler.state_dict(),
            "tally": tally,
            "plateau": self.plateau.state(),
            "processes": distributed.all_gather_object(local),
        }

    def tensors(self) -> dict[str, Tensor]:
        """What steps change, by name, as `named_tensors` has it, with the same statistics of batch norm in every
        process. Every process must call it."""
        modules = {NETWORK: self.network} | ({AVERAGE: self.average} if self.config.ema else {})
        return share_buffers(self._named(), modules)

    def _named(self) -> dict[str, Tensor]:
        return named_tensors(self.network, self.average if self.config.ema else None, self.optimizers)

    def restore(self, saved: dict[str, Any], loader: Loader, shards: Path) -> str | None:
        """Continue from `to_checkpoint`, and from the tensors in the folder `shards` if several processes wrote it.
        Returns a sentence for the log if the number of processes has changed."""
        if "network" in saved:
            whole = {NETWORK + name: tensor for name, tensor in saved["network"].items()}
            whole |= {AVERAGE + name: tensor for name, tensor in saved["average"].items()}
            whole |= by_name(saved["optimizers"], self._names)
            allocate_states(self.network, self.optimizers, {name: each.shape for name, each in whole.items()})
            copy_whole(self._named(), whole)
        else:
            allocate_states(self.network, self.optimizers, shapes_in(shards))
            load_into(shards, self._named())
        self.scaler.load_state_dict(saved["scaler"])
        self.plateau.restore(saved["plateau"])
        return self._restore_local(saved["tally"], saved["processes"], loader)

    def _restore_local(self, tally: dict[str, Any], processes: list[dict[str, Any]], loader: Loader) -> str | None:
        """What each process has for itself. If their number has changed, the counts are rank 0's."""
        rank, world_size = self.process
        positions = [each["position"] for each in processes]
        self.position = merged_position(positions) if positions[0] else None
        is_same = len(processes) == world_size
        mine = [processes[rank]] if is_same else processes if rank == 0 else []
        self.progress = RunProgress(**{"cut": sum(each.get("cut", 0) for each in mine), **tally, "words": Counter()})
        self.progress.words = Counter(tally.get("words", {}))  # of an older version
        for each in mine:
            self.progress.words.update(each.get("words", {}))
            loader.restore_failures(each["met"])
        if is_same:
            set_random_state(processes[rank]["random"], self.device)
            return None
        # The numbers that dropout drew before must not come again.
        torch.manual_seed(hash((self.config.seed, rank, self.progress.steps)))
        return f"{len(processes)} processes before, {world_size} now: the data continue, dropout draws other numbers"
